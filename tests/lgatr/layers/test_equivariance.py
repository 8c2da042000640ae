"""Every layer and the whole network under transformations built without our algebra."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from lgatr import LGATr, Packing, PrimitivesConfig
from lgatr.layers import (
    EquiLayerNorm,
    EquiLinear,
    GeometricBilinear,
    GeoMLP,
    LGATrBlock,
    MLPConfig,
    ScalarGatedNonlinearity,
    SelfAttention,
    SelfAttentionConfig,
)
from lgatr.primitives import abs_squared_norm, geometric_product, inner_product, sdp_attention
from support.lorentz import PARITY, TIME_REVERSAL, random_transformation, transform

MV, S = 4, 6

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-3}


def layers(subgroup: bool) -> dict[str, Callable[[], torch.nn.Module]]:
    """What builds each layer."""
    p = PrimitivesConfig(subgroup=subgroup)
    attention = {"num_heads": 2, "head_scale": True}

    def self_attention(**options):
        return SelfAttention(
            SelfAttentionConfig(
                in_mv_channels=MV,
                out_mv_channels=MV,
                in_s_channels=S,
                out_s_channels=S,
                **attention,
                **options,
            ),
            p,
        )

    def network(**options):
        arguments = {
            "num_blocks": 2,
            "in_mv_channels": MV,
            "out_mv_channels": MV,
            "hidden_mv_channels": 8,
            "in_s_channels": S,
            "out_s_channels": 3,
            "hidden_s_channels": 8,
            "attention": attention,
            "mlp": {"mlp_ratio": 2},
            "primitives": p,
        }
        return LGATr(**{**arguments, **options})

    return {
        "linear": lambda: EquiLinear(MV, 5, p, in_s_channels=S, out_s_channels=3),
        "linear without bias": lambda: EquiLinear(
            MV, 5, p, S, 3, bias=False, initialization="small"
        ),
        "linear unit": lambda: EquiLinear(MV, 5, p, S, initialization="unit_scalar"),
        "norm": lambda: EquiLayerNorm(),
        "norm affine": lambda: EquiLayerNorm(MV, S, elementwise_affine=True),
        "gate": lambda: ScalarGatedNonlinearity("silu"),
        "bilinear": lambda: GeometricBilinear(MV, 5, p, 6, S, 3),
        "mlp": lambda: GeoMLP(MLPConfig(mv_channels=MV, s_channels=S, num_layers_mlp=3), p),
        "attention": lambda: self_attention(),
        "multi-query attention": lambda: self_attention(multi_query=True),
        "block": lambda: LGATrBlock(MV, S, attention, {}, p),
        "network": lambda: network(),
        "multi-query network": lambda: network(attention={"num_heads": 2, "multi_query": True}),
        "network with reinserted channels": lambda: network(
            reinsert_mv_channels=(1,), reinsert_s_channels=(0, 2)
        ),
        "network without products": lambda: network(
            primitives=PrimitivesConfig(subgroup=subgroup, geometric_product=False)
        ),
        "network without bivectors": lambda: network(
            primitives=PrimitivesConfig(subgroup=subgroup, bivector=False)
        ),
        "network with checkpointing": lambda: network(checkpoint_blocks=True),
    }


NAMES = list(layers(True))


def randomise(layer: torch.nn.Module) -> None:
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))


def assert_equivariant(layer, matrix, dtype, **options):
    x, s = torch.randn(2, 7, MV, 16, dtype=dtype), torch.randn(2, 7, S, dtype=dtype)
    out, out_s = layer(x, s, **options)
    moved, moved_s = layer(transform(x, matrix), s, **options)
    expected = transform(out, matrix)
    scale = expected.abs().max()
    assert (moved - expected).abs().max() <= TOLERANCE[dtype] * scale
    if out_s is not None:
        assert (moved_s - out_s).abs().max() <= TOLERANCE[dtype] * out_s.abs().max()


@pytest.mark.parametrize("name", NAMES)
def test_connected_subgroup(name, dtype):
    layer = layers(True)[name]().to(dtype)
    randomise(layer)
    for _ in range(3):
        assert_equivariant(layer, random_transformation(2.0), dtype)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("element", ["parity", "time reversal", "both", "connected"])
def test_full_group(name, element, dtype):
    layer = layers(False)[name]().to(dtype)
    randomise(layer)
    discrete = {
        "parity": PARITY,
        "time reversal": TIME_REVERSAL,
        "both": PARITY @ TIME_REVERSAL,
        "connected": torch.eye(4, dtype=torch.float64),
    }[element]
    assert_equivariant(layer, discrete @ random_transformation(2.0), dtype)


def test_subgroup_network_is_not_invariant_under_parity():
    # Guards the tests above: an equivariance check that never fails proves nothing.
    layer = layers(True)["linear"]().double()
    with pytest.raises(AssertionError):
        assert_equivariant(layer, PARITY, torch.float64)


def test_wrong_representation_is_noticed():
    class Broken(torch.nn.Module):
        def forward(self, x, s):
            return x.roll(1, dims=-1), s

    with pytest.raises(AssertionError):
        assert_equivariant(Broken(), random_transformation(1.0), torch.float64)


def test_primitives(dtype):
    matrix = random_transformation(2.0)
    x, y = torch.randn(2, 9, 16, dtype=dtype)
    tx, ty = transform(x, matrix), transform(y, matrix)
    product = transform(geometric_product(x, y), matrix)
    limit = TOLERANCE[dtype] * product.abs().max()
    assert (geometric_product(tx, ty) - product).abs().max() <= limit
    for ours, moved in (
        (inner_product(x, y), inner_product(tx, ty)),
        (abs_squared_norm(x), abs_squared_norm(tx)),
    ):
        assert (ours - moved).abs().max() <= TOLERANCE[dtype] * tx.square().sum(-1).max()


def test_multivector_attention():
    matrix = random_transformation(2.0)
    q, k, v = torch.randn(3, 2, 5, 4, 16, dtype=torch.float64) * 0.5
    s = torch.randn(3, 2, 5, 6, dtype=torch.float64)
    out, out_s = sdp_attention(q, k, v, *s)
    moved, moved_s = sdp_attention(*(transform(t, matrix) for t in (q, k, v)), *s)
    torch.testing.assert_close(moved, transform(out, matrix), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(moved_s, out_s, rtol=1e-9, atol=1e-9)


def test_packed_network(dtype):
    net = layers(True)["network"]().to(dtype)
    packing = Packing.from_lengths([1, 5, 3])
    x, s = torch.randn(9, MV, 16, dtype=dtype), torch.randn(9, S, dtype=dtype)
    matrix = random_transformation(2.0)
    out, _ = net(x, s, packing=packing)
    moved, _ = net(transform(x, matrix), s, packing=packing)
    expected = transform(out, matrix)
    assert (moved - expected).abs().max() <= TOLERANCE[dtype] * expected.abs().max()
