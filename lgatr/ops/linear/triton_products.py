"""Products of the rows of a state with the matrices of its sectors, on CUDA.

All rows are in one launch, a program for some tokens, one row and some of its outputs. Gradients of
the matrices are one launch for chunks of the tokens, and one that adds them up in a fixed order.
Whether a launch for the products beats the library's depends on GPU and channels: both are among
the candidates that :mod:`lgatr.ops._runtime.tuning` measures.

Legend: T tokens, C multivector channels, S scalar channels, I and O numbers of a row in and out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from lgatr.layout import NUM_BIVECTORS, NUM_VECTORS, Sectors
from lgatr.ops._runtime.products import products
from lgatr.ops._runtime.triton import FUSED, ceil_div, power_of_two, strides
from lgatr.ops._runtime.tuning import Options, Tuned
from lgatr.ops.linear.triton_kernels import (
    linear_kernel,
    sum_kernel,
    weights_kernel,
)

_LIBRARY: Options = {"BLOCK_T": 0}
"""Stands for the products of the library."""
# How many programs share a multiprocessor decides: stages take its memory, numbers in flight its
# registers. Others were slower for all channels of the published networks on an H200: halves
# instead of thirds, three TF32 products, 128 tokens or outputs, all outputs at once, a program for
# many tiles of tokens. Each candidate costs seconds of compilation. The first is taken where
# nothing can be measured.
_TILE: Options = {"BLOCK_T": 64, "BLOCK_O": 64, "num_warps": 4}
_BEST: Options = {**_TILE, "num_stages": 2, "maxnreg": 96}
_CANDIDATES = (_BEST, _LIBRARY)
_PLAIN, _GATED = Tuned("linear", _CANDIDATES), Tuned("gated linear", _CANDIDATES)
_WEIGHTS = Tuned(
    "linear weights", ({**_TILE, "num_stages": 1, "maxnreg": 128}, {**_TILE, "num_stages": 3})
)
_PROGRAMS = 800
"""For gradients of matrices: fewer leave multiprocessors idle, more leave more to add up."""
_LEAST, _MOST = 128, 1024
"""Tokens of one partial gradient."""
_BLOCK_K, _SUM_BLOCK = 32, 64

Matrices = tuple[Tensor, Tensor, Tensor]


def _rows(x: Sectors) -> int:
    return 1 + NUM_VECTORS + len(x.b)


def _parts() -> dict[str, int]:
    invariants, components = products()
    return {"PARTS_Z": invariants, "PRODUCTS": components}


def _is_turned(matrices: Matrices) -> bool:
    """Whether matrices lie column by column, as transposed views, instead of row by row."""
    turned = not all(m.is_contiguous() for m in matrices)  # one of a single row lies both ways
    if turned and not all(m.t().is_contiguous() for m in matrices):
        raise ValueError("matrices must lie row by row, or be transposed views of such")
    return turned


class Gates(NamedTuple):
    """The nonlinearities of gates and auxiliary scalars.

    Parameters
    ----------
    numbers
        Of those that the kernel evaluates; see :mod:`lgatr.ops._runtime.triton_functions`.
    gates, scalars
        ``(T, C)`` and ``(T, S)``, the values of others.
    """

    numbers: tuple[int, int]
    gates: Tensor | None
    scalars: Tensor | None


class Heads(NamedTuple):
    """How many numbers of each row, and how many scalars, a head has; zeros if there are none."""

    width: int = 0
    scalars: int = 0


NO_HEADS = Heads()


def rows_of_heads(heads: Tensor, sizes: Heads) -> Sectors:
    """Heads ``(T, N, D)``, side by side, as a state for the kernels here.

    Its shapes are those of the state, and its strides lead to the channels of the first head; with
    ``sizes`` the kernels find the others.
    """
    (t, n, d), (w, s), start = heads.shape, sizes, heads.storage_offset()
    if not heads.is_contiguous():
        raise ValueError("heads must lie side by side")

    def rows(count: int, before: int) -> Tensor:
        return heads.as_strided((count, t, n * w), (w, n * d, 1), start + before)

    z = heads.as_strided((t, n * (w + s)), (n * d, 1))
    return Sectors(z, rows(NUM_VECTORS, w + s), rows(NUM_BIVECTORS, w + s + NUM_VECTORS * w))


def _launch(
    x: Sectors,
    gates: Gates | None,
    matrices: Matrices,
    bias: Tensor | None,
    out: Sectors,
    options: Options,
    of_heads: Heads = NO_HEADS,
    to_heads: Heads = NO_HEADS,
) -> None:
    tokens, width, outputs = len(x.z), x.v.shape[-1], out.z.shape[-1]
    tiles = ceil_div(outputs, options["BLOCK_O"])
    numbers, *given = ((0, 0), None, None) if gates is None else gates
    linear_kernel[(ceil_div(tokens, options["BLOCK_T"]), _rows(x), tiles)](
        *x, *given, *matrices, bias, *out, *strides(x, out),
        tokens, max(width // 2, 1), outputs, out.v.shape[-1], width, x.z.shape[-1] - width,
        HAS_BIAS=bias is not None, GATED=gates is not None, NUMBER=numbers[0],
        NUMBER_S=numbers[1], W_IN=of_heads.width, S_IN=of_heads.scalars, W_OUT=to_heads.width,
        S_OUT=to_heads.scalars, TURNED=_is_turned(matrices), **_parts(), BLOCK_K=_BLOCK_K,
        **options, **FUSED,
    )  # fmt: skip


def _by_library(x: Sectors, matrices: Matrices, bias: Tensor | None, out: Sectors) -> None:
    """The products as the library has them, into ``out``."""
    if bias is None:
        torch.mm(x.z, matrices[0].t(), out=out.z)
    else:
        torch.addmm(bias, x.z, matrices[0].t(), out=out.z)
    for part, matrix, room in zip(x[1:], matrices[1:], out[1:], strict=True):
        if len(part):
            # Vectors of tokens instead of rows of vectors: as they lie in slim networks.
            part, room = (y if y.is_contiguous() else y.transpose(0, 1) for y in (part, room))
            torch.mm(part.flatten(0, 1), matrix.t(), out=room.flatten(0, 1))


def _empty(x: Sectors, matrices: Matrices) -> Sectors:
    z, v, b = (
        part.new_empty(*part.shape[:-1], len(matrix))
        for part, matrix in zip(x, matrices, strict=True)
    )
    return Sectors(z, v, b)


def _sizes(x: Sectors, out: Sectors) -> tuple[int, ...]:
    return x.z.shape[-1], x.v.shape[-1], out.z.shape[-1], out.v.shape[-1], len(x.b)


def product(
    x: Sectors, matrices: Matrices, bias: Tensor | None, out: Sectors | None = None
) -> Sectors:
    """The linear map of ``z (T, .)``, ``v (4, T, .)``, ``b (3, T, .)``, channels side by side.

    Parameters
    ----------
    x
        The state; ``b`` may have no rows.
    matrices
        ``(O, I)`` for each sector; transposed views for the gradient of the state.
    bias
        Of the scalar sector, or None.
    out
        Where to write the result; None for new tensors.
    """
    out = _empty(x, matrices) if out is None else out

    def launch(options: Options) -> None:
        if options["BLOCK_T"]:
            _launch(x, None, matrices, bias, out, options)
        else:
            _by_library(x, matrices, bias, out)

    if len(x.z):
        _PLAIN(x.z, _sizes(x, out), launch)
    return out


def gated_product(
    x: Sectors,
    matrices: Matrices,
    bias: Tensor | None,
    gates: Callable[[], Gates],
    gated: Callable[[], Sectors],
) -> Sectors:
    """The linear map of a gated state, without writing that state.

    Parameters
    ----------
    x
        The state, flat as for :func:`product`.
    matrices, bias
        See :func:`product`.
    gates
        Gives the gates.
    gated
        Gives the gated state, for where writing it is faster.
    """
    out = _empty(x, matrices)

    def launch(options: Options) -> None:
        if options["BLOCK_T"]:
            _launch(x, gates(), matrices, bias, out, options)
        else:
            _by_library(gated(), matrices, bias, out)

    if len(x.z):
        _GATED(x.z, _sizes(x, out), launch)
    return out


def product_of_heads(
    heads: Tensor, sizes: Heads, matrices: Matrices, bias: Tensor | None
) -> Sectors:
    """The linear map of a state in heads ``(T, N, D)``."""
    x = rows_of_heads(heads, sizes)
    out = _empty(x, matrices)
    if len(heads):
        _launch(x, None, matrices, bias, out, _BEST, of_heads=sizes)
    return out


def product_to_heads(x: Sectors, matrices: Matrices, heads: Tensor, sizes: Heads) -> None:
    """The linear map of a state, into heads ``(T, N, D)``."""
    if len(heads):
        out = rows_of_heads(heads, sizes)
        _launch(x, None, matrices, None, out, _BEST, to_heads=sizes)


def _chunk(tokens: int, tiles: int) -> int:
    """Tokens of one partial gradient, for so many tiles of matrices and rows."""
    tokens_each = ceil_div(tokens, ceil_div(_PROGRAMS, max(tiles, 1)))
    return min(max(64 * ceil_div(tokens_each, 64), _LEAST), _MOST)


def weight_gradients(
    grad: Sectors, x: Sectors, with_bias: bool, of_heads: Heads = NO_HEADS
) -> list[Tensor]:
    """The gradients of the three matrices, and of the bias if there is one.

    Parameters
    ----------
    grad
        Of the outputs, flat as for :func:`product`.
    x
        The state that was mapped, likewise; or :func:`rows_of_heads`.
    of_heads
        Their sizes.

    Returns
    -------
    ``(O, I)`` of each sector, zeros for one without rows, and ``(O_z,)``; they lie one after the
    other in memory.
    """
    tokens, (z_out, z_in) = len(x.z), (grad.z.shape[-1], x.z.shape[-1])
    v_out, v_in = grad.v.shape[-1], x.v.shape[-1]
    block_o, b_rows = _TILE["BLOCK_O"], len(x.b)
    block_i = min(64, max(16, power_of_two(max(z_in, v_in))))
    z_tiles, v_tiles = (
        ceil_div(o, block_o) * ceil_div(i, block_i) for o, i in ((z_out, z_in), (v_out, v_in))
    )
    chunk = _chunk(tokens, z_tiles + (NUM_VECTORS + b_rows) * v_tiles)
    pieces = max(ceil_div(tokens, chunk), 1)
    of_z, of_v, of_bias = z_out * z_in, v_out * v_in, z_out if with_bias else 0
    sizes = of_z, NUM_VECTORS * of_v, b_rows * of_v, of_bias
    partial = grad.z.new_empty(pieces * sum(sizes))
    parts = partial.split_with_sizes([pieces * size for size in sizes])
    out = grad.z.new_empty(of_z + 2 * of_v + of_bias)

    def launch(options: Options) -> None:
        weights_kernel[(pieces, _rows(x), max(z_tiles, v_tiles))](
            *grad, *x, *parts, *strides(grad, x), tokens, chunk, z_out, z_in, v_out, v_in,
            HAS_BIAS=with_bias, W_IN=of_heads.width, S_IN=of_heads.scalars, **_parts(),
            BLOCK_I=block_i, **options, **FUSED,
        )  # fmt: skip

    _WEIGHTS(grad.z, (z_out, z_in, v_out, v_in, b_rows), launch)
    blocks = ceil_div(max(of_z, of_v, of_bias), _SUM_BLOCK)
    sum_kernel[(blocks, 4 if with_bias else 3)](
        partial, out, pieces, b_rows, of_z, of_v, of_bias, BLOCK=_SUM_BLOCK, STEP=64, **FUSED
    )
    found = out.split_with_sizes([of_z, of_v, of_v, of_bias])
    shapes = (z_out, z_in), (v_out, v_in), (v_out, v_in)
    matrices = [part.view(shape) for part, shape in zip(found, shapes, strict=False)]
    return [*matrices, found[3]] if with_bias else matrices
