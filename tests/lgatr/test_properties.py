"""Properties of random networks on random inputs under random transformations."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from lgatr import ConditionalLGATr, ConditionalLGATrSlim, LGATr, LGATrSlim, Packing
from lgatr.primitives import geometric_product, inner_product, reverse
from lgatr.testing import GROUPS, equivariance_error, transform

LIMIT = 1e-9  # relative, float64, rapidities up to 2
few = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
small, none_or_small = st.integers(1, 3), st.integers(0, 3)
seeds = st.integers(0, 2**31)
rapidities = st.floats(0.0, 2.0)
connected = st.sampled_from([name for name in GROUPS if name not in ("O(1,3)", "O(3)")])
lengths = st.lists(st.integers(1, 6), min_size=1, max_size=4)


@st.composite
def attention_options(draw):
    return {
        "num_heads": draw(small),
        "multi_query": draw(st.booleans()),
        "attn_ratio": draw(small),
        "head_scale": draw(st.booleans()),
        "qkv_bias": draw(st.booleans()),
    }


@st.composite
def multivector_networks(draw, conditional):
    """Constructor arguments, and channels of the inputs."""
    arguments = {
        "num_blocks": draw(st.integers(0, 2)),
        "in_mv_channels": draw(small),
        "out_mv_channels": draw(small),
        "hidden_mv_channels": draw(small),
        "in_s_channels": draw(none_or_small),
        "out_s_channels": draw(none_or_small),
        "hidden_s_channels": draw(st.integers(0, 5)),
        "attention": draw(attention_options()),
        "mlp": {
            "nonlinearity": draw(st.sampled_from(["gelu", "silu", "tanh", "sigmoid"])),
            "mlp_ratio": draw(small),
            "num_layers_mlp": draw(small),
        },
        "primitives": {
            "subgroup": draw(st.booleans()),
            "bivector": draw(st.booleans()),
            "geometric_product": draw(st.booleans()),
        },
        "norm_elementwise_affine": draw(st.booleans()),
    }
    channels = [arguments["in_mv_channels"], arguments["in_s_channels"]]
    if conditional:
        # Keys without scalars against queries with them are fine, not the reverse.
        cond_s = draw(none_or_small) if arguments["hidden_s_channels"] else 0
        arguments |= {
            "mv_channels_cond": draw(small),
            "s_channels_cond": cond_s,
            "crossattention": {**draw(attention_options()), "head_norm": draw(st.booleans())},
        }
        channels = [channels[0], arguments["mv_channels_cond"], channels[1], cond_s]
    return arguments, channels


@st.composite
def slim_networks(draw, conditional):
    arguments = {
        "num_blocks": draw(st.integers(0, 2)),
        "in_v_channels": draw(small),
        "out_v_channels": draw(none_or_small),
        "hidden_v_channels": draw(small),
        "in_s_channels": draw(small),
        "out_s_channels": draw(none_or_small),
        "hidden_s_channels": draw(st.integers(1, 5)),
        "num_heads": draw(small),
        "nonlinearity": draw(st.sampled_from(["gelu", "silu", "tanh", "relu"])),
        "nonlinearity_v": draw(st.sampled_from([None, "sigmoid", "tanh"])),
        "mlp_ratio": draw(small),
        "attn_ratio": draw(small),
        "num_layers_mlp": draw(st.integers(2, 3)),
        "norm_elementwise_affine": draw(st.booleans()),
        "qkv_bias": draw(st.booleans()),
    }
    channels = [arguments["in_v_channels"], arguments["in_s_channels"]]
    if conditional:
        arguments |= {"v_channels_cond": draw(small), "s_channels_cond": draw(small)}
        channels = [channels[0], arguments["v_channels_cond"], channels[1], draw(st.just(0))]
        channels[3] = arguments["s_channels_cond"]
    return arguments, channels


KINDS = {
    LGATr: multivector_networks(False),
    ConditionalLGATr: multivector_networks(True),
    LGATrSlim: slim_networks(False),
    ConditionalLGATrSlim: slim_networks(True),
}


def packed_call(net, packing, cond_packing):
    """The network on a packed batch, with the representations it declares."""
    if cond_packing is None:
        function = lambda *values: net(*values, packing=packing)  # noqa: E731
    else:
        cross = {"packing": packing, "kv_packing": cond_packing}
        function = lambda *values: net(  # noqa: E731
            *values, attn_kwargs={"packing": packing}, crossattn_kwargs=cross
        )
    function.representations = net.representations
    return function


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_random_networks_are_equivariant(kind):
    @few
    @given(KINDS[kind], lengths, seeds, rapidities, connected, st.booleans(), st.data())
    def check(built, events, seed, rapidity, group, packed, data):
        arguments, channels = built
        torch.manual_seed(seed)
        net = kind(**arguments).double().eval()
        width = 4 if "Slim" in kind.__name__ else 16
        conditional = len(channels) == 4
        cond_events = data.draw(st.lists(small, min_size=len(events), max_size=len(events)))
        sizes = [sum(events), sum(cond_events)] * 2 if conditional else [sum(events)] * 2
        half = len(channels) // 2
        values = [
            0.5 * torch.randn(n, c, width, dtype=torch.float64)
            for n, c in zip(sizes[:half], channels[:half], strict=True)
        ]
        values += [
            torch.randn(n, c, dtype=torch.float64) if c else None
            for n, c in zip(sizes[half:], channels[half:], strict=True)
        ]
        function = net
        if packed:
            cond = Packing.from_lengths(cond_events) if conditional else None
            function = packed_call(net, Packing.from_lengths(events), cond)
        generator = torch.Generator().manual_seed(seed)
        matrix = GROUPS[group].draw(0, rapidity, generator)
        assert equivariance_error(function, tuple(values), matrix) <= LIMIT

    check()


@few
@given(multivector_networks(False), seeds, rapidities, st.integers(0, 3))
def test_full_group_without_subgroup(built, seed, rapidity, element):
    arguments, (mv, s) = built
    arguments["primitives"]["subgroup"] = False
    torch.manual_seed(seed)
    net = LGATr(**arguments).double()
    values = (
        0.5 * torch.randn(4, mv, 16, dtype=torch.float64),
        torch.randn(4, s, dtype=torch.float64) if s else None,
    )
    matrix = GROUPS["O(1,3)"].draw(element, rapidity, torch.Generator().manual_seed(seed))
    assert equivariance_error(net, values, matrix) <= LIMIT


@few
@given(lengths, seeds, st.sampled_from([LGATr, LGATrSlim]), st.data())
def test_order_of_particles_does_not_matter(events, seed, kind, data):
    arguments, (channels, scalars) = data.draw(KINDS[kind])
    torch.manual_seed(seed)
    net = kind(**arguments).double()
    total = sum(events)
    x = torch.randn(total, channels, 16 if kind is LGATr else 4, dtype=torch.float64)
    s = torch.randn(total, scalars, dtype=torch.float64) if scalars else None
    packing = Packing.from_lengths(events)
    pieces = torch.arange(total).split(events)
    order = torch.cat([piece[torch.randperm(len(piece))] for piece in pieces])
    straight = net(x, s, packing=packing)
    shuffled = net(x[order], None if s is None else s[order], packing=packing)
    for a, b in zip(straight, shuffled, strict=True):
        if a is not None:
            torch.testing.assert_close(a[order], b, rtol=1e-10, atol=1e-10)


@settings(few, max_examples=100)
@given(seeds, rapidities, st.sampled_from(list(GROUPS)), st.integers(0, 3))
def test_products_of_transformed_multivectors(seed, rapidity, group, element):
    torch.manual_seed(seed)
    x, y = torch.randn(2, 3, 16, dtype=torch.float64)
    matrix = GROUPS[group].draw(element, rapidity, torch.Generator().manual_seed(seed))
    tx, ty = (transform(t, matrix, "multivector") for t in (x, y))
    product = transform(geometric_product(x, y), matrix, "multivector")
    scale = product.abs().max() * torch.e**rapidity
    assert (geometric_product(tx, ty) - product).abs().max() <= 1e-12 * scale
    assert (inner_product(tx, ty) - inner_product(x, y)).abs().max() <= 1e-12 * scale**2
    assert torch.equal(reverse(reverse(x)), x)


@few
@given(st.lists(st.integers(-3, 8), max_size=5))
def test_packing_describes_what_it_was_given(events):
    if not events or min(events) < 1:
        with pytest.raises(ValueError):
            Packing.from_lengths(events)
        return
    packing = Packing.from_lengths(events)
    assert packing == Packing.from_ptr(packing.ptr) and hash(packing) == hash(packing.to("cpu"))
    assert packing.lengths == tuple(events) and packing.num_events == len(events)
    assert packing.num_tokens == sum(events) and packing.max_length == max(events)
    assume(sum(events) < 30)
    assert repr(packing) == f"Packing({tuple(events)})"
