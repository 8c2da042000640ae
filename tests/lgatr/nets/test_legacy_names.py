"""Argument names of lgatr 1.x."""

from __future__ import annotations

import pytest
import torch

import lgatr
from lgatr import (
    ConditionalLGATr,
    ConditionalLGATrSlim,
    CrossAttentionConfig,
    LGATr,
    LGATrSlim,
    MLPConfig,
    SelfAttentionConfig,
    gatr_config,
)
from support import networks

OLD = pytest.warns(DeprecationWarning, match=r"from lgatr 1\.x; use ")


def test_attention():
    with pytest.warns(DeprecationWarning, match="increase_hidden_channels .* use attn_ratio"):
        assert SelfAttentionConfig(increase_hidden_channels=2).attn_ratio == 2
    with OLD:
        config = CrossAttentionConfig(
            in_q_mv_channels=1, in_kv_mv_channels=2, in_q_s_channels=None, in_kv_s_channels=4
        )
    assert (config.q_mv_channels, config.kv_mv_channels) == (1, 2)
    assert (config.q_s_channels, config.kv_s_channels) == (0, 4)


def test_mlp():
    with OLD:
        config = MLPConfig(activation="silu", increase_hidden_channels=3, num_hidden_layers=2)
    assert config == MLPConfig(nonlinearity="silu", mlp_ratio=3, num_layers_mlp=3)


def test_old_names_in_mappings():
    with OLD:
        net = networks.build(LGATr, mlp={"activation": "relu", "num_hidden_layers": 2})
    assert [type(m).__name__ for m in net.blocks[0].mlp.layers] == [
        "GeometricBilinear",
        *("ScalarGatedNonlinearity", "EquiLinear") * 2,
    ]


def test_both_names_at_once():
    with OLD, pytest.raises(TypeError, match="old name of attn_ratio"):
        SelfAttentionConfig(increase_hidden_channels=2, attn_ratio=2)


def test_names_that_went_away():
    with pytest.warns(DeprecationWarning, match="checkpoint .* no effect"):
        SelfAttentionConfig(checkpoint=True)
    with pytest.warns(DeprecationWarning, match="compile_mode .* no effect"):
        networks.build(LGATrSlim, compile_mode="default")


def test_none_meant_no_channels():
    net = networks.build(LGATr, in_s_channels=None, out_s_channels=None)
    assert net(torch.randn(2, 2, 16).double())[1] is None


@pytest.mark.parametrize(
    ("kind", "letters"), [(ConditionalLGATr, "mv"), (ConditionalLGATrSlim, "v")]
)
def test_conditions(kind, letters):
    arguments = networks.build(kind).arguments
    old = {
        f"condition_{part}_channels": arguments.pop(f"{part}_channels_cond")
        for part in (letters, "s")
    }
    with OLD:
        net = kind(**arguments, **old).double()
    x, x_cond, s, s_cond = networks.inputs(kind, 2, 5)
    name = "vectors" if networks.is_slim(kind) else "multivectors"
    with OLD:
        out, _ = net(**{name: x, f"{name}_condition": x_cond}, scalars=s, scalars_condition=s_cond)
    assert torch.equal(out, net(x, x_cond, s, s_cond)[0])


def test_global_switches_are_defaults_for_later_networks():
    before = networks.build(LGATr)
    try:
        with pytest.warns(DeprecationWarning, match=r"primitives=\{'subgroup': False\}"):
            gatr_config.use_fully_connected_subgroup = False
        assert gatr_config.use_fully_connected_subgroup is False
        after = networks.build(LGATr)
        assert before.linear_in.weight.shape[-1] == 10
        assert after.linear_in.weight.shape[-1] == 5
        # What is said explicitly wins.
        explicit = networks.build(LGATr, primitives=lgatr.PrimitivesConfig())
        assert explicit.linear_in.weight.shape[-1] == 10
    finally:
        gatr_config.defaults.clear()
    assert gatr_config.use_bivector is True
    for action in (lambda: gatr_config.other, lambda: setattr(gatr_config, "other", 1)):
        with pytest.raises(AttributeError, match="use_fully_connected_subgroup"):
            action()


def test_names_are_kept_in_the_modules_of_the_peer():
    from lgatr.layers.slim_layers import SlimGLU
    from lgatr.primitives.attention_backends import get_attention_backend
    from lgatr.primitives.attention_backends.native import attention
    from lgatr.primitives.compile import warmup_caches
    from lgatr.utils.compile import warmup_after_apply
    from lgatr.utils.misc import get_nonlinearity, residual_add

    x = torch.randn(2, 3, 5, 4)
    expected = torch.nn.functional.scaled_dot_product_attention(x, x, x)
    for function in (attention, get_attention_backend(), get_attention_backend(backend="native")):
        torch.testing.assert_close(function(x, x, x), expected)
    low = attention(x, x, x, dtype=torch.bfloat16)
    assert low.dtype == torch.float32 and not torch.equal(low, expected)
    masked = attention(x, x, x, attn_mask=torch.eye(5, dtype=torch.bool))
    torch.testing.assert_close(masked, x)
    assert residual_add(x, None) is x and residual_add(None, x) is x
    assert torch.equal(residual_add(x, x), 2 * x)
    assert get_nonlinearity("relu") is torch.relu and SlimGLU is lgatr.layers.SlimGLU
    warmup_caches("cpu")
    warmup_after_apply(torch.nn.Linear(1, 1))


def test_keywords_of_the_peer_reach_the_networks():
    """Its packed batches, formats and factors, through networks and its modules of backends."""
    net = networks.build(LGATr, torch.float32)
    values = networks.inputs(LGATr, 9, dtype=torch.float32)
    packing = lgatr.Packing.from_lengths([4, 5])
    theirs = {"cu_seq_q": packing.ptr, "cu_seq_k": packing.ptr, "max_q": 5, "max_k": 5}
    expected = net(*values, packing=packing)[0]
    assert torch.equal(net(*values, **theirs)[0], expected)
    assert torch.equal(net(*values, **theirs, backend=None)[0], expected)
    low = net(*values, **theirs, dtype=torch.bfloat16)[0]
    assert torch.equal(low, net(*values, packing=packing, compute_dtype="bfloat16")[0])
    assert not torch.equal(low, expected)
    with pytest.raises(TypeError, match='op=.* backend="xformers" chooses the kernel itself'):
        net(*values, op=(None, None))


@pytest.mark.filterwarnings("ignore::lgatr.attention.registry.AttentionFallbackWarning")
def test_backends_of_the_peer():
    from lgatr.primitives.attention_backends import flex, get_attention_backend, native, varlen

    x = torch.randn(1, 2, 9, 8)
    ptr = torch.tensor([0, 4, 9], dtype=torch.int32)
    packing = lgatr.Packing.from_ptr(ptr)
    out = varlen.attention(x, x, x, None, cu_seq_q=ptr, cu_seq_k=ptr, max_q=5, max_k=5)
    assert torch.equal(out, native.attention(x, x, x, packing=packing))
    causal = torch.nn.functional.scaled_dot_product_attention(x, x, x, is_causal=True)
    mask = torch.ones(9, 9, dtype=torch.bool).tril()
    torch.testing.assert_close(native.attention(x, x, x, mask), causal)
    torch.testing.assert_close(native.attention(x, x, x, None, 0.0, True), causal)
    for call in (
        lambda: native.attention(x, x, x, mask, attn_mask=mask),
        lambda: native.attention(x, x, x, None, 0.0, True, 1.0),
    ):
        with pytest.raises(TypeError, match="attn_mask"):
            call()
    scored = flex.attention(x, x, x, lambda s, b, h, q, k: torch.where(q >= k, s, -torch.inf))
    torch.testing.assert_close(scored, causal)
    grouped = native.attention(x, x[:, :1], x[:, :1], enable_gqa=True)
    torch.testing.assert_close(grouped, native.attention(x, *[x[:, :1].expand_as(x)] * 2))
    for name in ("nope", "", 3):
        with pytest.raises(ValueError, match="no attention backend .*; choose from auto, "):
            get_attention_backend(backend=name)
    assert get_attention_backend(backend=None) is get_attention_backend()
