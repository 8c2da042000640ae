"""Constructor arguments: none is ignored, and what cannot be built is refused in a sentence."""

from __future__ import annotations

import itertools
from functools import partial

import pytest
import torch

from lgatr import (
    ConditionalLGATr,
    CrossAttentionConfig,
    LGATr,
    LGATrSlim,
    MLPConfig,
    PrimitivesConfig,
    SelfAttentionConfig,
    get_spurions,
)
from lgatr.layers import EquiLayerNorm, EquiLinear, SlimLinear, SlimRMSNorm
from lgatr.primitives import equi_linear, geometric_product
from lgatr.primitives.normalization import equi_layer_norm
from support import networks

kinds = pytest.mark.parametrize("kind", networks.KINDS, ids=lambda kind: kind.__name__)
FLAGS = ("norm_elementwise_affine", "checkpoint_blocks", "naive_amp", "compile")


@kinds
def test_flags_are_true_or_false(kind):
    flags = (*FLAGS, "qkv_bias") if networks.is_slim(kind) else FLAGS
    for name, value in itertools.product(flags, ("no", 1, None, torch.tensor(True))):
        with pytest.raises(TypeError, match=f"{name} must be True or False"):
            networks.build(kind, **{name: value})


def test_flags_of_configurations_and_layers():
    makers = {
        "subgroup": PrimitivesConfig, "bivector": PrimitivesConfig,
        "geometric_product": PrimitivesConfig, "sparse_gp": PrimitivesConfig,
        "multi_query": SelfAttentionConfig, "head_scale": SelfAttentionConfig,
        "qkv_bias": CrossAttentionConfig, "head_norm": CrossAttentionConfig,
        "elementwise_affine": lambda **flag: EquiLayerNorm(2, 2, **flag),
        "bias": lambda **flag: EquiLinear(2, 2, **flag),
    }  # fmt: skip
    for name, make in makers.items():
        with pytest.raises(TypeError, match=f"{name} must be True or False, not 'no'"):
            make(**{name: "no"})
    with pytest.raises(TypeError, match="bias must be"):
        SlimLinear(2, 2, 2, 2, bias="no")
    with pytest.raises(TypeError, match="elementwise_affine must be"):
        SlimRMSNorm(2, 2, elementwise_affine="no")


@kinds
def test_options_of_compilation_need_it(kind):
    for name, value in (("compile_kwargs", {"backend": "eager"}), ("activation_memory_budget", 1)):
        with pytest.raises(ValueError, match=f"{name} takes effect with compile=True only"):
            networks.build(kind, **{name: value})
        networks.build(kind, compile=True, **{name: value})


@pytest.mark.parametrize("as_object", [False, True])
def test_layers_do_not_contradict_their_network(as_object):
    decided = {
        "attention": (SelfAttentionConfig, {"in_mv_channels": 9, "out_s_channels": 9,
                                            "additional_qk_mv_channels": 1, "dropout_prob": 0.5,
                                            "output_init": "unit_scalar"}),
        "crossattention": (CrossAttentionConfig, {"kv_mv_channels": 9, "q_s_channels": 9}),
        "mlp": (MLPConfig, {"mv_channels": 99, "s_channels": 1, "dropout_prob": 0.1}),
    }  # fmt: skip
    for argument, (config, values) in decided.items():
        for name, value in values.items():
            kind = ConditionalLGATr if argument == "crossattention" else LGATr
            given = {name: value, **({} if argument == "mlp" else {"num_heads": 2})}
            with pytest.raises(ValueError, match=f"{config.__name__} has {name}=.*leave it out"):
                networks.build(kind, **{argument: config(**given) if as_object else given})
    # What the network has as well is no contradiction.
    mlp = {"mv_channels": 4, "s_channels": 8, "dropout_prob": 0.1}
    networks.build(LGATr, mlp=MLPConfig(**mlp) if as_object else mlp, dropout_prob=0.1)


@pytest.mark.parametrize("counts", list(itertools.product((0, 1), repeat=4)), ids=str)
@pytest.mark.parametrize("kind", [LGATr, LGATrSlim], ids=lambda kind: kind.__name__)
def test_few_channels_compute_or_are_refused(kind, counts):
    letters = "v" if networks.is_slim(kind) else "mv"
    names = (f"in_{letters}_channels", f"out_{letters}_channels", "in_s_channels", "out_s_channels")
    options = dict(zip(names, counts, strict=True))
    try:
        net = networks.build(kind, torch.float32, **options)
    except ValueError as error:
        assert options[names[0]] == 0 == options["in_s_channels"] and "channel" in str(error)
        return
    x, s = net.random_inputs(5)
    if s is None and networks.is_slim(kind) or x is None:
        return  # there is no such call
    out, out_s = net(x, s)
    assert out.shape == (5, options[names[1]], 4 if networks.is_slim(kind) else 16)
    assert out.isfinite().all() and (out_s is None or out_s.isfinite().all())


def test_linear_layers_need_an_input():
    with pytest.raises(ValueError, match="without input channels"):
        EquiLinear(0, 4, out_s_channels=8)
    EquiLinear(0, 4, in_s_channels=1)


def test_norms_take_the_channels_that_they_are_built_for():
    x, s = torch.randn(5, 3, 16), torch.randn(5, 3)
    norm = EquiLayerNorm(3, 3)
    norm(x, s)
    for wrong in ((x[:, :2], s), (x, torch.randn(5, 7))):
        with pytest.raises(ValueError, match="the number of channels must be 3"):
            norm(*wrong)
        EquiLayerNorm()(*wrong)


@pytest.mark.parametrize("epsilon", [-1, -1e-9, float("nan"), float("inf"), "0.1", True, None])
def test_floors_of_norms(epsilon):
    for make in (
        lambda: EquiLayerNorm(epsilon=epsilon),
        lambda: SlimRMSNorm(2, 2, epsilon=epsilon),
        lambda: equi_layer_norm(torch.randn(2, 16), epsilon=epsilon),
    ):
        with pytest.raises((ValueError, TypeError), match="epsilon must be a .*at least 0, not"):
            make()


def test_configurations_of_functions_may_be_mappings():
    x, coefficients = torch.randn(3, 2, 16), torch.randn(4, 2, 5)
    expected = equi_linear(x, coefficients, config=PrimitivesConfig(subgroup=False))
    assert torch.equal(equi_linear(x, coefficients, config={"subgroup": False}), expected)
    with pytest.raises(ValueError, match="PrimitivesConfig has no option group"):
        equi_linear(x, coefficients, config={"group": 1})
    with pytest.raises(TypeError, match="takes a mapping"):
        geometric_product(x, x, config=3)


def test_devices():
    with pytest.raises(ValueError, match="no device 'foo' here"):
        get_spurions(device="foo")


@pytest.mark.parametrize(
    ("dim", "message"),
    [(-1, "holds the components"), (2, "holds the components"), (3, "has no dim")],
)
def test_channels_that_would_be_components(dim, message):
    x = torch.randn(3, 16, 16)
    for norm in (partial(equi_layer_norm, channel_dim=dim), EquiLayerNorm(mv_channel_dim=dim)):
        with pytest.raises(ValueError, match=message):
            norm(x)
