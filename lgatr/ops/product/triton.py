"""The geometric product on CUDA: one Triton kernel forward, one for both gradients.

The same complex 4x4 times 4x2 matrix product as the formula (see :mod:`lgatr.ops.product`), for one
token and channel in the registers of a thread: every coefficient is read once and written once, so
the kernels are bound by memory (48 numbers forward, 80 backward, for 128 and 256 multiply-adds).

Legend: T tokens, C channels; a lane of a program is one (token, channel).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import triton
import triton.language as tl
from torch import Tensor

from lgatr.layout import Sectors, flat
from lgatr.ops._runtime.choice import Passes
from lgatr.ops._runtime.stage import Optionals, Tensors
from lgatr.ops._runtime.triton import FUSED, ceil_div, strides
from lgatr.ops._runtime.triton_launch import Kernel
from lgatr.ops._runtime.tuning import Options, Tuned

if TYPE_CHECKING:
    from lgatr.ops.product.stage import Product, ProductOfHalves

# Blocks of 128 to 512 lanes and 4 or 8 warps differ by 3 % on an H200.
_FORWARD = Tuned("product", ({"BLOCK": 256, "num_warps": 4},))
_BACKWARD = Tuned("product gradient", ({"BLOCK": 128, "num_warps": 4},))


@triton.jit
def _load_pair(row, c, mask):
    """A complex number: the coefficient of p, and C further that of p I."""
    return tl.load(row, mask=mask, other=0.0), tl.load(row + c, mask=mask, other=0.0)


@triton.jit
def _load_even(z, b, b_row, c, mask):
    """E = ((z + b3, b1 + i b2), (b1 - i b2, z - b3)): eight numbers, Re and Im of each entry."""
    zero_re, zero_im = _load_pair(z, c, mask)
    one_re, one_im = _load_pair(b, c, mask)
    two_re, two_im = _load_pair(b + b_row, c, mask)
    three_re, three_im = _load_pair(b + 2 * b_row, c, mask)
    return (
        zero_re + three_re,
        zero_im + three_im,
        one_re - two_im,
        one_im + two_re,
        one_re + two_im,
        one_im - two_re,
        zero_re - three_re,
        zero_im - three_im,
    )


@triton.jit
def _load_odd(v, v_row, c, mask):
    """O, the same of the four vector rows."""
    return _load_even(v, v + v_row, v_row, c, mask)


@triton.jit
def _store_pair(row, c, mask, re, im):
    tl.store(row, re, mask=mask)
    tl.store(row + c, im, mask=mask)


@triton.jit
def _store_even(z, b, b_row, c, mask, ar, ai, br, bi, cr, ci, dr, di):
    """Undo :func:`_load_even`."""
    _store_pair(z, c, mask, 0.5 * (ar + dr), 0.5 * (ai + di))
    _store_pair(b, c, mask, 0.5 * (br + cr), 0.5 * (bi + ci))
    _store_pair(b + b_row, c, mask, 0.5 * (bi - ci), 0.5 * (cr - br))
    _store_pair(b + 2 * b_row, c, mask, 0.5 * (ar - dr), 0.5 * (ai - di))


@triton.jit
def _dot(ar, ai, br, bi, cr, ci, dr, di):
    """a b + c d of complex numbers."""
    return ar * br - ai * bi + cr * dr - ci * di, ar * bi + ai * br + cr * di + ci * dr


@triton.jit
def _times(ar, ai, br, bi, cr, ci, dr, di, er, ei, fr, fi, gr, gi, hr, hi):
    """((a, b), (c, d)) times ((e, f), (g, h))."""
    xr, xi = _dot(ar, ai, er, ei, br, bi, gr, gi)
    yr, yi = _dot(ar, ai, fr, fi, br, bi, hr, hi)
    ur, ui = _dot(cr, ci, er, ei, dr, di, gr, gi)
    wr, wi = _dot(cr, ci, fr, fi, dr, di, hr, hi)
    return xr, xi, yr, yi, ur, ui, wr, wi


@triton.jit
def _tilde(ar, ai, br, bi, cr, ci, dr, di):
    """The adjugate of the conjugate transpose."""
    return dr, -di, -cr, ci, -br, bi, ar, -ai


@triton.jit
def _conjugate_transpose(ar, ai, br, bi, cr, ci, dr, di):
    return ar, -ai, cr, -ci, br, -bi, dr, -di


@triton.jit
def _adjugate(ar, ai, br, bi, cr, ci, dr, di):
    return dr, di, -br, -bi, -cr, -ci, ar, ai


@triton.jit
def _sum(a, b):
    return (
        a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3],
        a[4] + b[4], a[5] + b[5], a[6] + b[6], a[7] + b[7],
    )  # fmt: skip


@triton.jit
def _multiply(ex, ox, ey, oy):
    """E and O of a product: E_x E_y + ~O_x O_y and O_x E_y + ~E_x O_y."""
    even = _sum(_times(*ex, *ey), _times(*_tilde(*ox), *oy))
    odd = _sum(_times(*ox, *ey), _times(*_tilde(*ex), *oy))
    return even, odd


@Kernel
@triton.jit(do_not_specialize=["tokens"])
def _product_kernel(
    xz, xv, xb, yz, yv, yb, oz, ov, ob,
    xz_t, xv_i, xv_t, xb_i, xb_t, yz_t, yv_i, yv_t, yb_i, yb_t, oz_t, ov_i, ov_t, ob_i, ob_t,
    tokens, channels, BLOCK: tl.constexpr,
):  # fmt: skip
    lane = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    t, c = lane // channels, lane % channels
    mask = t < tokens
    ex = _load_even(xz + t * xz_t + c, xb + t * xb_t + c, xb_i, channels, mask)
    ox = _load_odd(xv + t * xv_t + c, xv_i, channels, mask)
    ey = _load_even(yz + t * yz_t + c, yb + t * yb_t + c, yb_i, channels, mask)
    oy = _load_odd(yv + t * yv_t + c, yv_i, channels, mask)
    even, odd = _multiply(ex, ox, ey, oy)
    _store_even(oz + t * oz_t + c, ob + t * ob_t + c, ob_i, channels, mask, *even)
    v = ov + t * ov_t + c
    _store_even(v, v + ov_i, ov_i, channels, mask, *odd)


@Kernel
@triton.jit(do_not_specialize=["tokens"])
def _gradient_kernel(
    xz, xv, xb, yz, yv, yb, gz, gv, gb, dxz, dxv, dxb, dyz, dyv, dyb,
    xz_t, xv_i, xv_t, xb_i, xb_t, yz_t, yv_i, yv_t, yb_i, yb_t, gz_t, gv_i, gv_t, gb_i, gb_t,
    dxz_t, dxv_i, dxv_t, dxb_i, dxb_t, dyz_t, dyv_i, dyv_t, dyb_i, dyb_t,
    tokens, channels, BLOCK: tl.constexpr,
):  # fmt: skip
    lane = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    t, c = lane // channels, lane % channels
    mask = t < tokens
    eg = _load_even(gz + t * gz_t + c, gb + t * gb_t + c, gb_i, channels, mask)
    og = _load_odd(gv + t * gv_t + c, gv_i, channels, mask)
    # The gradient of x is g times the Hermitian conjugate y+ from the right.
    ey = _load_even(yz + t * yz_t + c, yb + t * yb_t + c, yb_i, channels, mask)
    oy = _load_odd(yv + t * yv_t + c, yv_i, channels, mask)
    even, odd = _multiply(eg, og, _conjugate_transpose(*ey), _adjugate(*oy))
    _store_even(dxz + t * dxz_t + c, dxb + t * dxb_t + c, dxb_i, channels, mask, *even)
    v = dxv + t * dxv_t + c
    _store_even(v, v + dxv_i, dxv_i, channels, mask, *odd)
    # In the same way the gradient of y is that of the product with x+ from the left.
    ex = _load_even(xz + t * xz_t + c, xb + t * xb_t + c, xb_i, channels, mask)
    ox = _load_odd(xv + t * xv_t + c, xv_i, channels, mask)
    even, odd = _multiply(_conjugate_transpose(*ex), _adjugate(*ox), eg, og)
    _store_even(dyz + t * dyz_t + c, dyb + t * dyb_t + c, dyb_i, channels, mask, *even)
    v = dyv + t * dyv_t + c
    _store_even(v, v + dyv_i, dyv_i, channels, mask, *odd)


def _tensors(*states: Sectors) -> list[Tensor]:
    return [part for x in states for part in x]


def _grid(x: Sectors, options: Options) -> tuple[int]:
    return (ceil_div(x.v.shape[1] * x.mv_channels, options["BLOCK"]),)


def write_product(x: Sectors, y: Sectors, out: Sectors) -> Sectors:
    """Write the geometric product of ``x`` and ``y`` into ``out``.

    All are ``z (T, .)``, ``v (4, T, .)``, ``b (3, T, .)`` with channels side by side and any other
    strides.
    """
    tokens, channels = x.v.shape[1], x.mv_channels

    def launch(options: Options) -> None:
        _product_kernel[_grid(x, options)](
            *_tensors(x, y, out), *strides(x, y, out), tokens, channels, **options, **FUSED
        )

    _FORWARD(x.z, (channels,), launch)
    return out


def write_gradients(
    x: Sectors, y: Sectors, grad: Sectors, places: tuple[Sectors, Sectors]
) -> tuple[Sectors, Sectors]:
    """Write the gradients of x and y into ``places``, given that of their product."""
    states = (x, y, grad, *places)
    tokens, channels = x.v.shape[1], x.mv_channels

    def launch(options: Options) -> None:
        _gradient_kernel[_grid(x, options)](
            *_tensors(*states), *strides(*states), tokens, channels, **options, **FUSED
        )

    _BACKWARD(x.z, (channels,), launch)
    return places


def _halves(rows: Optionals) -> tuple[Sectors, Sectors]:
    """Both factors, as flat views."""
    left, right = zip(*(x.chunk(2, dim=-1) for x in rows if x is not None), strict=True)
    return flat(Sectors(*left)), flat(Sectors(*right))


def _pair(rows: Optionals) -> tuple[Sectors, Sectors]:
    found = [x for x in rows if x is not None]
    return flat(Sectors(*found[:3])), flat(Sectors(*found[3:]))


def product(settings: Product | None, *inputs: Tensor) -> tuple[Tensors, Tensors]:
    """Forward pass of :class:`~lgatr.ops.product.stage.Product`."""
    w = inputs[1].shape[-1]
    out = Sectors(*(x.new_empty(*x.shape[:-1], w) for x in inputs[:3]))
    write_product(*_pair(inputs), flat(out))
    return out, ()


def product_gradients(
    settings: Product | None, inputs: Optionals, outputs: Tensors, kept: Tensors, grads: Tensors
) -> Optionals:
    """Backward pass likewise."""
    found = [x.new_zeros(x.shape) for x in inputs if x is not None]
    grad = flat(Sectors(*(g.contiguous() for g in grads)))
    write_gradients(*_pair(inputs), grad, _pair(found))
    return found


def product_of_halves(settings: ProductOfHalves, *inputs: Tensor) -> tuple[Tensors, Tensors]:
    """Forward pass of :class:`~lgatr.ops.product.stage.ProductOfHalves`."""
    out = Sectors(*(x.new_empty(*x.shape[:-1], x.shape[-1] // 2) for x in inputs))
    write_product(*_halves(inputs), flat(out))
    return out, ()


def product_of_halves_gradients(
    settings: ProductOfHalves, inputs: Optionals, outputs: Tensors, kept: Tensors, grads: Tensors
) -> Optionals:
    """Backward pass likewise."""
    found = [x.new_empty(x.shape) for x in inputs if x is not None]
    grad = flat(Sectors(*(g.contiguous() for g in grads)))
    write_gradients(*_halves(inputs), grad, _halves(found))
    return found


PRODUCT = Passes(product, product_gradients)
PRODUCT_OF_HALVES = Passes(product_of_halves, product_of_halves_gradients)
