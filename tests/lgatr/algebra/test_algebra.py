"""The algebra against the clifford package and against exterior powers."""

from __future__ import annotations

import warnings

import pytest
import torch

from lgatr import algebra
from lgatr.layout import from_sectors, to_sectors
from lgatr.ops.product.formula import product_by_table
from lgatr.ops.product.stage import sector_product
from lgatr.primitives import (
    geometric_product,
    grade_involute,
    grade_project,
    inner_product,
    reverse,
)


@pytest.fixture(scope="module")
def spacetime():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        clifford = pytest.importorskip("clifford")
        return clifford.Cl(sig=[1, -1, -1, -1])[0]


def test_geometric_product_equals_clifford(spacetime):
    x, y = torch.randn(2, 20, 16, dtype=torch.float64)
    expected = [
        (spacetime.MultiVector(a.numpy()) * spacetime.MultiVector(b.numpy())).value
        for a, b in zip(x, y, strict=True)
    ]
    ours = geometric_product(x, y)
    for row, other in zip(ours, expected, strict=True):
        torch.testing.assert_close(row, torch.from_numpy(other), rtol=1e-12, atol=1e-12)


def test_reverse_and_involution_equal_clifford(spacetime):
    x = torch.randn(16, dtype=torch.float64)
    multivector = spacetime.MultiVector(x.numpy())
    torch.testing.assert_close(reverse(x), torch.from_numpy((~multivector).value))
    torch.testing.assert_close(grade_involute(x), torch.from_numpy(multivector.gradeInvol().value))


def test_inner_product_is_scalar_part():
    x, y = torch.randn(2, 5, 16, dtype=torch.float64)
    torch.testing.assert_close(inner_product(x, y), geometric_product(reverse(x), y)[..., :1])


def test_every_product_of_blades_equals_clifford(spacetime):
    identity = torch.eye(16, dtype=torch.float64)
    for a in range(16):
        for b in range(16):
            product = (
                spacetime.MultiVector(identity[a].numpy())
                * spacetime.MultiVector(identity[b].numpy())
            ).value
            blade, sign = algebra.PRODUCT[a][b]
            assert product[blade] == sign and abs(product).sum() == 1


def test_pairs_are_products_with_the_pseudoscalar():
    identity = torch.eye(16)
    for blade, dual, sign in algebra.PAIRS:
        out = geometric_product(identity[blade], identity[15])
        assert out[dual] == sign and out.abs().sum() == 1


def test_grade_projection_sums_to_identity():
    x = torch.randn(3, 16)
    parts = grade_project(x)
    assert parts.shape == (3, 5, 16)
    torch.testing.assert_close(parts.sum(-2), x)
    assert [(parts[0, g] != 0).sum().item() for g in range(5)] == [1, 4, 6, 4, 1]


def test_layout_round_trip():
    mv, s = torch.randn(2, 7, 3, 16), torch.randn(2, 7, 5)
    back, scalars = from_sectors(to_sectors(mv, s))
    assert torch.equal(back, mv) and torch.equal(scalars, s)


def test_kernel_equals_reference_with_gradients():
    x, y = (to_sectors(torch.randn(6, 4, 16, dtype=torch.float64)) for _ in range(2))
    leaves = [t.detach().requires_grad_() for t in (*x, *y)]
    x, y = type(x)(*leaves[:3]), type(x)(*leaves[3:])
    fast, slow = sector_product(x, y), product_by_table(x, y)
    weights = [torch.randn_like(t) for t in fast]
    for a, b in zip(fast, slow, strict=True):
        torch.testing.assert_close(a, b)
    totals = [sum((w * t).sum() for w, t in zip(weights, out, strict=True)) for out in (fast, slow)]
    for a, b in zip(*(torch.autograd.grad(t, leaves) for t in totals), strict=True):
        torch.testing.assert_close(a, b)


def test_geometric_product_derivatives():
    x, y = (torch.randn(2, 16, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(geometric_product, (x, y), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(geometric_product, (x, y))


def test_geometric_product_under_vmap():
    x, y = torch.randn(5, 3, 16), torch.randn(3, 16)
    mapped = torch.func.vmap(geometric_product, in_dims=(0, None))(x, y)
    torch.testing.assert_close(mapped, geometric_product(x, y.expand(5, 3, 16)))


def test_geometric_product_is_associative():
    x, y, z = torch.randn(3, 4, 16, dtype=torch.float64)
    left = geometric_product(geometric_product(x, y), z)
    torch.testing.assert_close(left, geometric_product(x, geometric_product(y, z)))
