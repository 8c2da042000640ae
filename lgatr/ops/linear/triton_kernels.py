"""Kernels of equivariant linear maps on CUDA.

All rows of a state, eight or five, are in one launch, each with the matrix of its sector. Products
are those of :mod:`lgatr.ops._runtime.triton_split`.

Legend: T tokens, I and O numbers of a row in and out.
"""

from __future__ import annotations

import triton
import triton.language as tl

from lgatr.ops._runtime.triton_functions import GIVEN, value_or_given
from lgatr.ops._runtime.triton_launch import Kernel
from lgatr.ops._runtime.triton_split import (
    SPLIT,
    add_halves,
    add_thirds,
    halves,
    scaled,
    thirds,
    turned_halves,
)


@triton.jit
def _added(a, b, total, PRODUCTS: tl.constexpr):
    """``total + a b``."""
    return add_thirds(thirds(a, PRODUCTS), thirds(b, PRODUCTS), total, PRODUCTS)


@triton.jit
def _added_turned(a, b, total, PRODUCTS: tl.constexpr):
    """``total + a^T b``: over many tokens, where halves and their scales cost less than thirds."""
    if PRODUCTS == SPLIT:
        a, down_a = scaled(a)
        b, down_b = scaled(b)
        found = tl.zeros(total.shape, tl.float32)
        found = add_halves(turned_halves(halves(a, PRODUCTS)), halves(b, PRODUCTS), found, PRODUCTS)
        return total + found * (down_a * down_b)
    else:
        return add_halves(turned_halves(halves(a, PRODUCTS)), halves(b, PRODUCTS), total, PRODUCTS)


@triton.jit
def _place(i, row, W: tl.constexpr, S: tl.constexpr):
    """Where channel i of a row lies: side by side; or in heads, which have W numbers of each row.

    A head is W numbers of the row of scalars and S more, then W of each of seven rows.
    """
    if W == 0:
        return i
    else:
        in_scalars = i // (W + S) * (8 * W + S) + i % (W + S)
        return tl.where(row == 0, in_scalars, i // W * (8 * W + S) + i % W)


@triton.jit
def _gated(
    x, x_t, z, z_t, gates, activated, t, k, in_t, in_k, channels, width, s_channels,
    NUMBER: tl.constexpr, NUMBER_S: tl.constexpr,
):  # fmt: skip
    """Channels k of a gated row."""
    # Both halves of a pair have one gate.
    paired, alone = in_t & (k < width)[None, :], in_t & ((k >= width) & in_k)[None, :]
    found = tl.load(x + t[:, None] * x_t + k[None, :], mask=paired, other=0.0)
    c = (k % channels)[None, :]
    gate = tl.load(z + t[:, None] * z_t + c, mask=paired, other=0.0)
    found *= value_or_given(gate, gates, t[:, None] * channels + c, paired, NUMBER)
    scalar = tl.load(z + t[:, None] * z_t + k[None, :], mask=alone, other=0.0)
    place = t[:, None] * s_channels + (k - width)[None, :]
    scalar = value_or_given(scalar, activated, place, alone, NUMBER_S)
    return found + tl.where(alone, scalar, 0.0)


@Kernel
@triton.jit(do_not_specialize=["tokens"])
def linear_kernel(
    z, v, b, gates, activated, of_z, of_v, of_b, bias, oz, ov, ob,
    z_t, v_i, v_t, b_i, b_t, oz_t, ov_i, ov_t, ob_i, ob_t,
    tokens, channels, outputs, out_width, width, s_channels,
    HAS_BIAS: tl.constexpr, GATED: tl.constexpr, NUMBER: tl.constexpr, NUMBER_S: tl.constexpr,
    W_IN: tl.constexpr, S_IN: tl.constexpr, W_OUT: tl.constexpr, S_OUT: tl.constexpr,
    TURNED: tl.constexpr, PARTS_Z: tl.constexpr, PRODUCTS: tl.constexpr,
    BLOCK_T: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_O: tl.constexpr,
):  # fmt: skip
    """Some outputs of one row of some tokens.

    With ``GATED`` of the gated state, by the nonlinearities of these numbers, or by what is given.
    With ``W_IN`` of channels in heads, with ``W_OUT`` to such: see :func:`_place`.
    """
    row = tl.program_id(1).to(tl.int64)
    if row == 0:
        x, x_t, matrix, count = z, z_t, of_z, width + s_channels
        out, out_t, wide = oz, oz_t, outputs
    elif row < 5:
        x, x_t, matrix, count = v + (row - 1) * v_i, v_t, of_v, width
        out, out_t, wide = ov + (row - 1) * ov_i, ov_t, out_width
    else:
        x, x_t, matrix, count = b + (row - 5) * b_i, b_t, of_b, width
        out, out_t, wide = ob + (row - 5) * ob_i, ob_t, out_width
    o = tl.program_id(2) * BLOCK_O + tl.arange(0, BLOCK_O)
    if tl.program_id(2) * BLOCK_O < wide:
        # Places inside of a tile are small numbers, which need half the registers.
        start_t = tl.program_id(0).to(tl.int64) * BLOCK_T
        t = tl.arange(0, BLOCK_T)
        x, out = x + start_t * x_t, out + start_t * out_t
        in_t, in_o = (t < tokens - start_t)[:, None], (o < wide)[None, :]
        if GATED:
            z += start_t * z_t
            if NUMBER == GIVEN:
                gates += start_t * channels
            if NUMBER_S == GIVEN:
                activated += start_t * s_channels
        total = tl.zeros([BLOCK_T, BLOCK_O], tl.float32)
        for start in range(0, count, BLOCK_K):
            k = start + tl.arange(0, BLOCK_K)
            in_k = k < count
            if GATED:
                part = _gated(
                    x, x_t, z, z_t, gates, activated, t, k, in_t, in_k, channels, width,
                    s_channels, NUMBER, NUMBER_S,
                )  # fmt: skip
            else:
                place = t[:, None] * x_t + _place(k, row, W_IN, S_IN)[None, :]
                part = tl.load(x + place, mask=in_t & in_k[None, :], other=0.0)
            if TURNED:
                place = k[:, None] * wide + o[None, :]
            else:
                place = k[:, None] + o[None, :] * count
            weights = tl.load(matrix + place, mask=in_k[:, None] & in_o, other=0.0)
            # The scalar sector may multiply otherwise than the others.
            if PARTS_Z == PRODUCTS:
                total = _added(part, weights, total, PRODUCTS)
            else:
                if row == 0:
                    total = _added(part, weights, total, PARTS_Z)
                else:
                    total = _added(part, weights, total, PRODUCTS)
        if HAS_BIAS:
            if row == 0:
                total += tl.load(bias + o, mask=o < wide, other=0.0)[None, :]
        place = t[:, None] * out_t + _place(o, row, W_OUT, S_OUT)[None, :]
        tl.store(out + place, total, mask=in_t & in_o)


@Kernel
@triton.jit(do_not_specialize=["tokens"])
def weights_kernel(
    gz, gv, gb, z, v, b, of_z, of_v, of_b, of_bias,
    gz_t, gv_i, gv_t, gb_i, gb_t, z_t, v_i, v_t, b_i, b_t,
    tokens, chunk, z_out, z_in, v_out, v_in,
    HAS_BIAS: tl.constexpr, W_IN: tl.constexpr, S_IN: tl.constexpr,
    PARTS_Z: tl.constexpr, PRODUCTS: tl.constexpr,
    BLOCK_T: tl.constexpr, BLOCK_O: tl.constexpr, BLOCK_I: tl.constexpr,
):  # fmt: skip
    """Gradient of a tile of one matrix by one row of a chunk of tokens.

    A matrix has one such gradient for each chunk, and for each row of its sector. ``W_IN`` and
    ``S_IN`` are as for :func:`linear_kernel`.
    """
    piece, row = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    if row == 0:
        g, g_t, x, x_t, outputs, inputs = gz, gz_t, z, z_t, z_out, z_in
        found = of_z + piece * z_out * z_in
    elif row < 5:
        g, g_t, x, x_t = gv + (row - 1) * gv_i, gv_t, v + (row - 1) * v_i, v_t
        outputs, inputs = v_out, v_in
        found = of_v + (4 * piece + row - 1) * v_out * v_in
    else:
        g, g_t, x, x_t = gb + (row - 5) * gb_i, gb_t, b + (row - 5) * b_i, b_t
        outputs, inputs = v_out, v_in
        found = of_b + (3 * piece + row - 5) * v_out * v_in
    across = tl.cdiv(inputs, BLOCK_I)
    first_o = tl.program_id(2) // across * BLOCK_O
    if first_o < outputs:
        o = first_o + tl.arange(0, BLOCK_O)
        i = tl.program_id(2) % across * BLOCK_I + tl.arange(0, BLOCK_I)
        t = tl.arange(0, BLOCK_T)
        total = tl.zeros([BLOCK_O, BLOCK_I], tl.float32)
        sums = tl.zeros([BLOCK_O], tl.float32)
        end = tl.minimum(chunk, tokens - piece * chunk).to(tl.int32)
        g, x = g + piece * chunk * g_t, x + piece * chunk * x_t
        for start in range(0, end, BLOCK_T):
            in_t = (t < end - start)[:, None]
            place = t[:, None] * g_t + o[None, :]
            grad = tl.load(g + place, mask=in_t & (o < outputs)[None, :], other=0.0)
            place = t[:, None] * x_t + _place(i, row, W_IN, S_IN)[None, :]
            part = tl.load(x + place, mask=in_t & (i < inputs)[None, :], other=0.0)
            g, x = g + BLOCK_T * g_t, x + BLOCK_T * x_t
            if PARTS_Z == PRODUCTS:
                total = _added_turned(grad, part, total, PRODUCTS)
            else:
                if row == 0:
                    total = _added_turned(grad, part, total, PARTS_Z)
                else:
                    total = _added_turned(grad, part, total, PRODUCTS)
            if HAS_BIAS:
                sums += tl.sum(grad, 0)
        place = o[:, None] * inputs + i[None, :]
        tl.store(found + place, total, mask=(o < outputs)[:, None] & (i < inputs)[None, :])
        if HAS_BIAS:
            if (row == 0) & (tl.program_id(2) % across == 0):
                tl.store(of_bias + piece * z_out + o, sums, mask=o < outputs)


@Kernel
@triton.jit
def sum_kernel(
    partial, out, pieces, b_rows, size_z, size_v, size_bias, BLOCK: tl.constexpr, STEP: tl.constexpr
):  # fmt: skip
    """The sums of the gradients of all matrices over their chunks and rows, in order.

    Gradients of z, v, b and the bias follow each other in ``partial`` and in ``out``; ``size_z``,
    ``size_v`` (also of b) and ``size_bias`` are their sizes.
    """
    sector = tl.program_id(1)
    if sector == 0:
        size, count, start, to = size_z, pieces, 0, 0
    elif sector == 1:
        size, count, start, to = size_v, 4 * pieces, pieces * size_z, size_z
    elif sector == 2:
        size, count, start, to = (
            size_v,
            b_rows * pieces,
            pieces * (size_z + 4 * size_v),
            size_z + size_v,
        )
    else:
        size, count, to = size_bias, pieces, size_z + 2 * size_v
        start = pieces * (size_z + (4 + b_rows) * size_v)
    if tl.program_id(0) * BLOCK < size:
        e = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        total = tl.zeros([BLOCK], tl.float32)
        for first in range(0, count, STEP):
            r = first + tl.arange(0, STEP)
            place = start + r.to(tl.int64)[:, None] * size + e[None, :]
            mask = (r < count)[:, None] & (e < size)[None, :]
            total += tl.sum(tl.load(partial + place, mask=mask, other=0.0), 0)
        tl.store(out + to + e, total, mask=e < size)
