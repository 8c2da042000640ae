"""Products of split float32 numbers against float64; run as ``triton_checks.py`` is."""

from __future__ import annotations

import pytest
import torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
triton = pytest.importorskip("triton", reason="Triton is not installed: pip install triton")

import triton.language as tl  # noqa: E402

from lgatr.ops._runtime.triton_split import (  # noqa: E402
    add_halves,
    add_thirds,
    halves,
    scale_down,
    scale_up,
    scaled,
    thirds,
    turned_halves,
)

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of NumPy in the interpreter

TOLERANCE = 2e-6
"""Of the largest entry."""
SIZE = 32


@triton.jit
def _product_kernel(a, b, out, IN_HALVES: tl.constexpr, N: tl.constexpr):
    row = tl.arange(0, N)
    place = row[:, None] * N + row[None, :]
    x = tl.load(a + place)
    y = tl.load(b + place)
    total = tl.zeros([N, N], tl.float32)
    if IN_HALVES:
        x, down_x = scaled(x)
        y, down_y = scaled(y)
        total = add_halves(turned_halves(halves(x, 2)), halves(y, 2), total, 2) * down_x * down_y
    else:
        total = add_thirds(thirds(x, 2), thirds(y, 2), total, 2)
    tl.store(out + place, total)


@triton.jit
def _scale_kernel(x, up, down, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    found = tl.load(x + i)
    tl.store(up + i, scale_up(found))
    tl.store(down + i, scale_down(found))


def product(a, b, in_halves):
    """a^T b in halves, or a b in thirds."""
    out = torch.full_like(a, torch.nan)
    _product_kernel[(1,)](a, b, out, IN_HALVES=in_halves, N=SIZE)
    return out


def check(a, b, in_halves, tolerance=TOLERANCE):
    exact = (a.mT if in_halves else a).double() @ b.double()
    error = (product(a, b, in_halves).double() - exact).abs().max()
    assert error <= tolerance * exact.abs().max()


def tile(size=1.0):
    return (size * torch.randn(SIZE, SIZE, dtype=torch.float64)).to(DEVICE, torch.float32)


ways = pytest.mark.parametrize("in_halves", [True, False], ids=["halves", "thirds"])
SIZES = [(1.0, 1.0), (1e-30, 1e30), (1e15, 1e-18), (1e18, 1e18), (1e-15, 1e-15), (3e4, 7e-9)]


@ways
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_magnitudes(sizes, in_halves):
    """A part or a product of parts that is left out; a scale not undone; a tile not turned."""
    torch.manual_seed(0)
    check(*map(tile, sizes), in_halves)


@ways
def test_rows_of_different_magnitudes(in_halves):
    """Small rows that lose their bits."""
    torch.manual_seed(1)
    a, b = tile(), tile()
    check(a * 10.0 ** (-8 * torch.rand(SIZE, 1)).to(DEVICE), b, in_halves)


@ways
def test_entries_of_many_magnitudes(in_halves):
    """Low parts that are lost beside large numbers."""
    torch.manual_seed(2)
    a, b = (tile() * 10.0 ** (-6 * torch.rand(SIZE, SIZE)).to(DEVICE) for _ in "ab")
    check(a, b, in_halves)


@ways
def test_zeros(in_halves):
    """Rows or tiles without a largest number, to be scaled by what is not finite."""
    torch.manual_seed(3)
    a, b = tile(), tile()
    a[5], b[:, 7], a[:, 2] = 0.0, 0.0, 0.0
    check(a, b, in_halves)
    assert not product(torch.zeros_like(a), b, in_halves).any()
    assert not product(a, torch.zeros_like(a), in_halves).any()


@ways
@pytest.mark.parametrize("size", [1e-33, 1e-35, 3e-38])
def test_numbers_close_to_the_subnormal_ones(size, in_halves):
    """A tile scaled to zero, as it is so small that the inverse of its scale is."""
    torch.manual_seed(4)
    # Thirds are numbers of the same range, of which those below 2^-126 may be cut off.
    tolerance = TOLERANCE if in_halves else TOLERANCE + 2.0**-125 / size
    check(tile(size), tile(1e30), in_halves, tolerance)


def test_subnormal_numbers():
    """Numbers below the normal ones that come out as large ones, or as none."""
    torch.manual_seed(5)
    a, b = tile(1e-40), tile(1e30)
    check(a, b, True, 1e-4)
    assert product(a, b, False).isfinite().all()


def test_scales():
    """Powers of two, inverse to each other, that keep numbers below 2^15."""
    x = torch.cat([torch.tensor([0.0]), 2.0 ** torch.arange(-149, 128)])
    x = torch.cat([x, 1.99 * x[1:], torch.full((1024,), 3.0)])[:1024].to(DEVICE)
    up, down = torch.empty_like(x), torch.empty_like(x)
    _scale_kernel[(1,)](x, up, down, BLOCK=1024)
    assert torch.equal(up * down, torch.ones_like(up))
    assert torch.equal(up.frexp().mantissa, torch.full_like(up, 0.5))
    assert (x * up < 2**15).all()
    assert (x * up >= 2**14)[x >= 2.0**-112].all()
