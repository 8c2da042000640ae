"""Details of layers that symmetry alone does not fix."""

from __future__ import annotations

import math

import pytest
import torch

from lgatr import (
    LGATr,
    PrimitivesConfig,
)
from lgatr.layers import EquiLayerNorm, EquiLinear, GradeDropout, ScalarGatedNonlinearity
from lgatr.primitives import abs_squared_norm, equi_layer_norm, equi_linear, grade_dropout


@pytest.mark.parametrize("subgroup", [True, False])
@pytest.mark.parametrize("scheme", ["default", "small", "unit_scalar", "almost_unit_scalar"])
def test_initialisations(scheme, subgroup):
    layer = EquiLinear(64, 64, PrimitivesConfig(subgroup=subgroup), 32, 32, True, scheme)
    with torch.no_grad():
        mv, s = layer(torch.randn(500, 64, 16), torch.randn(500, 32))
    spread = mv[..., 1:15].std().item()
    shift = mv[..., 0].mean().item()
    # Variance 1/3 per map in the default scheme; two maps feed each component in the subgroup.
    width = math.sqrt((2 if subgroup else 1) / 3)
    factor = {"default": 1.0, "small": 0.1, "unit_scalar": 0.1, "almost_unit_scalar": 0.5}[scheme]
    assert spread == pytest.approx(width * factor, rel=0.1)
    assert shift == pytest.approx(1.0 if "unit" in scheme else 0.0, abs=0.05)
    # As in the reference library, the shift is one of pseudoscalars too.
    odd = 1.0 if "unit" in scheme and subgroup else 0.0
    assert mv[..., 15].mean().item() == pytest.approx(odd, abs=0.05)
    assert s.std().item() == pytest.approx(
        math.sqrt(1 / 3) * (0.1 if scheme == "small" else 1.0), rel=0.2
    )


def test_unknown_initialisation():
    with pytest.raises(ValueError, match="almost_unit_scalar"):
        EquiLinear(1, 1, initialization="zeros")


def test_linear_equals_sum_of_maps():
    x, w = torch.randn(5, 3, 16).double(), torch.randn(4, 3, 10).double()
    from lgatr.primitives import geometric_product, grade_project

    unit = torch.zeros(16).double()
    unit[15] = 1
    grades = grade_project(x)  # (5, 3, 5, 16)
    maps = torch.cat([grades, geometric_product(grades, unit)], dim=2)
    torch.testing.assert_close(equi_linear(x, w), torch.einsum("oib,tibx->tox", w, maps))
    with pytest.raises(ValueError, match="coeffs"):
        equi_linear(x, w[:, :2])
    with pytest.raises(ValueError, match="coeffs"):
        equi_linear(x, w, config=PrimitivesConfig(subgroup=False))


def test_channels_that_do_not_fit():
    layer = EquiLinear(2, 3, in_s_channels=1)
    with pytest.raises(ValueError, match="scalars are missing"):
        layer(torch.randn(4, 2, 16))
    with pytest.raises(ValueError, match="must be 2, not 3"):
        layer(torch.randn(4, 3, 16), torch.randn(4, 1))


def test_norm_layer_equals_function():
    x, s = torch.randn(6, 4, 16), torch.randn(6, 5)
    out, out_s = EquiLayerNorm()(x, s)
    torch.testing.assert_close(out, equi_layer_norm(x))
    torch.testing.assert_close(abs_squared_norm(out).mean(-2), torch.ones(6, 1))
    torch.testing.assert_close(out_s, torch.nn.functional.layer_norm(s, (5,)))
    small = EquiLayerNorm()(1e-3 * x)[0]
    torch.testing.assert_close(small, 1e-2 * x)
    moved = EquiLayerNorm(mv_channel_dim=-3)(x.transpose(0, 1)[:, :, None].transpose(0, 1))[0]
    assert moved.shape == (6, 4, 1, 16)


def test_norm_gains_by_grade():
    layer = EquiLayerNorm(4, 5, elementwise_affine=True)
    with torch.no_grad():
        layer.weight_mv.copy_(torch.randn(4, 5))
    x, s = torch.randn(6, 4, 16), torch.randn(6, 5)
    gains = layer.weight_mv.repeat_interleave(torch.tensor([1, 4, 6, 4, 1]), dim=1)
    torch.testing.assert_close(layer(x, s)[0], equi_layer_norm(x) * gains)


@pytest.mark.parametrize("name", ["relu", "sigmoid", "tanh", "silu"])
def test_gate(name):
    function = getattr(torch, name, None) or getattr(torch.nn.functional, name)
    x, s = torch.randn(6, 4, 16), torch.randn(6, 5)
    out, out_s = ScalarGatedNonlinearity(name)(x, s)
    torch.testing.assert_close(out, function(x[..., :1]) * x)
    torch.testing.assert_close(out_s, function(s))
    with pytest.raises(ValueError, match="gelu"):
        ScalarGatedNonlinearity("swish")


@pytest.mark.parametrize(
    "function", [lambda x: GradeDropout(0.3)(x)[0], lambda x: grade_dropout(x, 0.3)]
)
def test_dropout_keeps_grades_together(function):
    x = torch.ones(4000, 2, 16)
    out = function(x)
    for grade in (slice(0, 1), slice(1, 5), slice(5, 11), slice(11, 15), slice(15, 16)):
        part = out[..., grade]
        assert torch.equal(part, part[..., :1].expand_as(part))
    torch.testing.assert_close(out.unique(), torch.tensor([0.0, 1 / 0.7]))
    assert out.mean().item() == pytest.approx(1.0, abs=0.02)
    agree = (out[:, 0, 0] == out[:, 0, 1]).float().mean().item()
    assert agree == pytest.approx(0.58, abs=0.03)  # grades are independent: 0.7² + 0.3²


def network(**options) -> LGATr:
    arguments = {
        "num_blocks": 2,
        "in_mv_channels": 1,
        "out_mv_channels": 1,
        "hidden_mv_channels": 4,
        "in_s_channels": 0,
        "out_s_channels": 0,
        "hidden_s_channels": 4,
        "attention": {"num_heads": 2},
        "mlp": {},
    }
    return LGATr(**{**arguments, **options})


def test_checkpointing_changes_nothing():
    torch.manual_seed(1)
    plain = network()
    saving = network(checkpoint_blocks=True)
    saving.load_state_dict(plain.state_dict())
    x = torch.randn(2, 5, 1, 16)
    gradients = []
    for net in (plain, saving):
        net(x)[0].square().sum().backward()
        gradients.append([p.grad for p in net.parameters()])
    for a, b in zip(*gradients, strict=True):
        assert torch.equal(a, b)


def test_dropout_only_in_training():
    net = network(dropout_prob=0.5)
    x = torch.randn(1, 5, 1, 16)
    assert not torch.equal(net(x)[0], net(x)[0])
    net.eval()
    assert torch.equal(net(x)[0], net(x)[0])


def test_configs_are_cast():
    from omegaconf import OmegaConf

    net = network(attention=OmegaConf.create({"num_heads": 4}), primitives={"subgroup": False})
    assert net.linear_in.weight.shape[-1] == 5 and net.blocks[0].attention.heads == 4
    with pytest.raises(ValueError, match="no option num_head;"):
        network(attention={"num_head": 4})
    with pytest.raises(TypeError, match="mapping"):
        network(mlp=3)
    with pytest.raises(ValueError, match="num_heads must be at least 1"):
        network(attention={"num_heads": 0})


PINNED = {
    "linear_in.weight": (16, 1, 10),
    "linear_in.mvs2s.bias": (32,),
    "blocks.0.norm1.weight_mv": (16, 5),
    "blocks.0.attention.head_scale": (8,),
    "blocks.0.attention.qkv_module.in_linear.weight": (96, 16, 10),
    "blocks.0.attention.qkv_module.in_linear.s2s.weight": (192, 32),
    "blocks.0.attention.out_linear.s2mvs.weight": (32, 64),
    "blocks.0.mlp.layers.0.linear_left.s2mvs.bias": (64,),
    "blocks.0.mlp.layers.0.linear_out.mvs2s.weight": (64, 64),
    "blocks.0.mlp.layers.2.weight": (16, 32, 10),
    "linear_out.s2mvs.bias": (2,),
}


def test_state_dict_keys_are_pinned():
    net = network(
        num_blocks=1,
        hidden_mv_channels=16,
        hidden_s_channels=32,
        attention={"num_heads": 8, "attn_ratio": 2, "head_scale": True},
        mlp={"mlp_ratio": 2},
    )
    state = net.state_dict()
    assert {k: tuple(state[k].shape) for k in PINNED} == PINNED
    assert len(state) == 40


def attention_layer(multi_query: bool):
    from lgatr.layers import SelfAttention, SelfAttentionConfig

    config = SelfAttentionConfig(
        in_mv_channels=4,
        out_mv_channels=3,
        in_s_channels=5,
        out_s_channels=2,
        additional_qk_mv_channels=2,
        additional_qk_s_channels=1,
        num_heads=2,
        multi_query=multi_query,
        dropout_prob=0.5,
    )
    return SelfAttention(config, PrimitivesConfig()).double().eval()


@pytest.mark.parametrize("multi_query", [False, True])
def test_attention_is_its_parts(multi_query):
    from lgatr.primitives import sdp_attention

    layer = attention_layer(multi_query)
    x, more = torch.randn(3, 6, 4, 16).double(), torch.randn(3, 6, 2, 16).double()
    s, more_s = torch.randn(3, 6, 5).double(), torch.randn(3, 6, 1).double()
    q, k, v, qs, ks, vs = layer.qkv_module(x, s, more, more_s)
    heads = 1 if multi_query else 2
    assert q.shape == (3, 2, 6, 2, 16) and k.shape == v.shape == (3, heads, 6, 2, 16)
    assert qs.shape == (3, 2, 6, 4) and ks.shape == vs.shape == (3, heads, 6, 4)
    torch.testing.assert_close(
        abs_squared_norm(q).mean((-2, -1)), torch.ones(3, 2, 6, dtype=torch.float64)
    )
    out, out_s = sdp_attention(q, k, v, qs, ks, vs)
    # Heads first, then channels.
    joined, joined_s = out.movedim(1, 2).flatten(2, 3), out_s.movedim(1, 2).flatten(2)
    expected = layer.out_linear(joined, joined_s)
    for a, b in zip(layer(x, s, more, more_s), expected, strict=True):
        torch.testing.assert_close(a, b)
    assert layer.qkv_module(x, s, more, more_s)[0].shape == q.shape


def test_scalars_alone_may_be_added_to_queries():
    layer = attention_layer(False)
    with pytest.raises(TypeError, match="additional_qk_features_mv must be a tensor"):
        layer(torch.randn(2, 4, 16).double(), torch.randn(2, 5).double())
    with pytest.raises(TypeError, match="additional_qk_features_mv must be a tensor"):
        scalars = torch.randn(2, 5).double(), None, torch.randn(2, 1).double()
        layer(torch.randn(2, 4, 16).double(), *scalars)


@pytest.mark.parametrize("kind", ["LGATr", "ConditionalLGATr", "LGATrSlim", "ConditionalLGATrSlim"])
def test_blocks_alone_are_the_network_without_its_ends(kind):
    from support import networks

    kind = getattr(__import__("lgatr"), kind)
    net = networks.build(kind, num_blocks=1)
    slim, block = networks.is_slim(kind), net.blocks[0]
    values = networks.inputs(kind, 2, 5)
    expected = net(*values)
    turned = [v.transpose(-1, -2) if slim and v.dim() == 4 else v for v in values]
    if kind in networks.CONDITIONAL:
        x, x_cond, s, s_cond = turned
        x, s = net.linear_in(x, s)
        out = block(x, x_cond, s, s_cond)
    else:
        out = block(*net.linear_in(*turned))
    outputs = net.linear_out(*out)
    for a, b in zip(outputs, expected, strict=True):
        torch.testing.assert_close(a.transpose(-1, -2) if slim and a.dim() == 4 else a, b)


@pytest.mark.parametrize("slim", [False, True])
def test_attention_layers_alone(slim):
    from lgatr.layers import CrossAttention, SlimCrossAttention, SlimSelfAttention

    s, s_cond = torch.randn(2, 5, 3), torch.randn(2, 7, 2)
    if slim:
        x, x_cond = torch.randn(2, 5, 4, 4), torch.randn(2, 7, 4, 3)
        layer = SlimCrossAttention(4, 3, 3, 2, num_heads=2)
        alone = SlimSelfAttention(4, 3, num_heads=2, dropout_prob=0.2).eval()
        mask = torch.eye(5, dtype=torch.bool)
        assert not torch.equal(alone(x, s)[0], alone(x, s, attn_mask=mask)[0])
        with pytest.raises(ValueError, match="at least 1"):
            SlimSelfAttention(4, 3, num_heads=0)
    else:
        from lgatr import CrossAttentionConfig

        x, x_cond = torch.randn(2, 5, 4, 16), torch.randn(2, 7, 3, 16)
        channels = {"q_mv_channels": 4, "kv_mv_channels": 3, "out_mv_channels": 4}
        scalars = {"q_s_channels": 3, "kv_s_channels": 2, "out_s_channels": 3}
        layer = CrossAttention(CrossAttentionConfig(num_heads=2, **channels, **scalars))
        with pytest.raises(ValueError, match="needs q_mv_channels"):
            CrossAttention(CrossAttentionConfig())
    out, out_s = layer(x, x_cond, s, s_cond)
    assert out.shape == x.shape and out_s.shape == s.shape
    # Keys in another order give the same sums.
    order = torch.randperm(7)
    again, _ = layer(x, x_cond[:, order], s, s_cond[:, order])
    torch.testing.assert_close(again, out)


def test_options_that_cannot_be():
    from lgatr.layers import (
        GeoMLP,
        MLPConfig,
        SelfAttention,
        SelfAttentionConfig,
        SlimDropout,
        SlimLinear,
        SlimMLP,
    )

    with pytest.raises(ValueError, match="needs in_mv_channels"):
        SelfAttention(SelfAttentionConfig())
    with pytest.raises(ValueError, match="needs mv_channels"):
        GeoMLP(MLPConfig())
    with pytest.raises(ValueError, match="mlp_ratio must be at least 1"):
        MLPConfig(mlp_ratio=0)
    with pytest.raises(ValueError, match="needs mv_channels"):
        EquiLayerNorm(elementwise_affine=True)
    for dropout in (GradeDropout, SlimDropout):
        with pytest.raises(ValueError, match="from 0 to 1"):
            dropout(1.5)
    with pytest.raises(ValueError, match="default, small"):
        SlimLinear(1, 1, 1, 1, initialization="unit")
    with pytest.raises(ValueError, match="num_layers must be at least 2"):
        SlimMLP(1, 1, num_layers=1)


def test_slim_dropout_drops_whole_vectors():
    from lgatr.layers import SlimDropout

    v, s = SlimDropout(0.3)(torch.ones(3000, 4, 2), torch.ones(3000, 5))
    assert torch.equal(v, v[:, :1].expand_as(v))
    torch.testing.assert_close(v.unique(), torch.tensor([0.0, 1 / 0.7]))
    assert s.mean().item() == pytest.approx(1.0, abs=0.03)


def test_slim_initialisation_keeps_the_scale():
    from lgatr.layers import SlimLinear

    for scheme, factor in (("default", 1.0), ("small", 0.1)):
        layer = SlimLinear(200, 300, 100, 400, initialization=scheme)
        assert layer.weight_v.std().item() * math.sqrt(3 * 200) == pytest.approx(factor, rel=0.02)
        weight = layer.linear_s.weight
        assert weight.std().item() * math.sqrt(3 * 100) == pytest.approx(factor, rel=0.02)
        assert not layer.linear_s.bias.any() and "v=200->300" in repr(layer)


def test_a_norm_with_gains_for_scalars_is_called_without_any():
    norm, x = EquiLayerNorm(3, 9, elementwise_affine=True), torch.randn(5, 3, 16)
    torch.testing.assert_close(norm(x)[0], norm(x, torch.randn(5, 9))[0])
    assert norm(x)[1] is None
