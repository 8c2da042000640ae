"""Equivariant linear maps on CUDA: all eight rows of a state in one launch.

The three products of a map are small: some ten operations for each byte, in three launches. One
launch takes them all, a program for some tokens, one row and some of its outputs, and multiplies by
the gates of a nonlinearity while it reads, so that the gated state is never written. Whether that
beats the library's products and the separate gate depends on GPU and channels: both are among the
candidates that :mod:`lgatr.ops._runtime.tuning` measures.

Legend: T tokens, C multivector channels, S scalar channels, I and O numbers of a row in and out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl
from torch import Tensor

from lgatr.layout import NUM_BIVECTORS, NUM_VECTORS, Sectors, flat, unflat
from lgatr.ops._runtime.choice import Passes
from lgatr.ops._runtime.matmul import as_rows, weight_gradient
from lgatr.ops._runtime.stage import Optionals, Tensors
from lgatr.ops._runtime.triton import FUSED, strides
from lgatr.ops._runtime.tuning import Options, Tuned
from lgatr.ops.linear.placement import gradients_of_map, place, placement_of
from lgatr.ops.linear.triton_matrices import look_up

if TYPE_CHECKING:
    from lgatr.ops.linear.stage import Linear

_LIBRARY: Options = {"BLOCK_T": 0}
"""Stands for the products of the library; first, so taken where nothing can be measured."""
# Other blocks were never much faster on an H200; each candidate costs seconds of compilation.
_CANDIDATES = (_LIBRARY, {"BLOCK_T": 64, "BLOCK_O": 64, "num_warps": 4})
_PLAIN, _GATED = Tuned("linear", _CANDIDATES), Tuned("gated linear", _CANDIDATES)
_ROWS = 1 + NUM_VECTORS + NUM_BIVECTORS
_BLOCK_K = 32

Matrices = tuple[Tensor, Tensor, Tensor]


@triton.jit(do_not_specialize=["tokens"])
def _linear_kernel(
    z, v, b, gates, activated, of_z, of_v, of_b, bias, oz, ov, ob,
    z_t, v_i, v_t, b_i, b_t, oz_t, ov_i, ov_t, ob_i, ob_t,
    tokens, channels, outputs, out_width, width, s_channels,
    HAS_BIAS: tl.constexpr, GATED: tl.constexpr, TURNED: tl.constexpr, TF32: tl.constexpr,
    BLOCK_T: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_O: tl.constexpr,
):  # fmt: skip
    """Some outputs of one row of some tokens."""
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
        t = tl.program_id(0).to(tl.int64) * BLOCK_T + tl.arange(0, BLOCK_T)
        in_t, in_o = (t < tokens)[:, None], (o < wide)[None, :]
        total = tl.zeros([BLOCK_T, BLOCK_O], tl.float32)
        for start in range(0, count, BLOCK_K):
            k = start + tl.arange(0, BLOCK_K)
            in_k = k < count
            if GATED:
                # Both halves of a pair have one gate; auxiliary scalars come with theirs applied.
                paired = in_t & (k < width)[None, :]
                part = tl.load(x + t[:, None] * x_t + k[None, :], mask=paired, other=0.0)
                place = t[:, None] * channels + (k % channels)[None, :]
                part *= tl.load(gates + place, mask=paired, other=0.0)
                place = t[:, None] * s_channels + (k - width)[None, :]
                alone = in_t & ((k >= width) & in_k)[None, :]
                part += tl.load(activated + place, mask=alone, other=0.0)
            else:
                place = t[:, None] * x_t + k[None, :]
                part = tl.load(x + place, mask=in_t & in_k[None, :], other=0.0)
            if TURNED:
                place = k[:, None] * wide + o[None, :]
            else:
                place = k[:, None] + o[None, :] * count
            weights = tl.load(matrix + place, mask=in_k[:, None] & in_o, other=0.0)
            total = tl.dot(part, weights, total, input_precision="tf32" if TF32 else "ieee")
        if HAS_BIAS:
            if row == 0:
                total += tl.load(bias + o, mask=o < wide, other=0.0)[None, :]
        tl.store(out + t[:, None] * out_t + o[None, :], total, mask=in_t & in_o)


def _launch(
    x: Sectors,
    gates: Tensor | None,
    scalars: Tensor | None,
    matrices: Matrices,
    bias: Tensor | None,
    out: Sectors,
    options: Options,
) -> None:
    tokens, width, outputs = len(x.z), x.v.shape[-1], out.z.shape[-1]
    # Matrices lie row by row, or all are transposes of such; one of a single row lies both ways.
    turned = not all(m.is_contiguous() for m in matrices)
    if turned and not all(m.t().is_contiguous() for m in matrices):
        raise ValueError("matrices must lie row by row, or be transposed views of such")
    tiles = triton.cdiv(outputs, options["BLOCK_O"])
    _linear_kernel[(triton.cdiv(tokens, options["BLOCK_T"]), _ROWS, tiles)](
        *x, gates, scalars, *matrices, bias, *out, *strides(x, out),
        tokens, max(width // 2, 1), outputs, out.v.shape[-1], width, x.z.shape[-1] - width,
        HAS_BIAS=bias is not None, GATED=gates is not None, TURNED=turned,
        TF32=torch.backends.cuda.matmul.allow_tf32, BLOCK_K=_BLOCK_K, **options, **FUSED,
    )  # fmt: skip


def _by_library(x: Sectors, matrices: Matrices, bias: Tensor | None, out: Sectors) -> None:
    """The products as the library has them, into ``out``."""
    if bias is None:
        torch.mm(x.z, matrices[0].t(), out=out.z)
    else:
        torch.addmm(bias, x.z, matrices[0].t(), out=out.z)
    for part, matrix, room in zip(x[1:], matrices[1:], out[1:], strict=True):
        torch.mm(part.flatten(0, 1), matrix.t(), out=room.flatten(0, 1))


def _empty(x: Sectors, matrices: Matrices) -> Sectors:
    z, v, b = (
        part.new_empty(*part.shape[:-1], len(matrix))
        for part, matrix in zip(x, matrices, strict=True)
    )
    return Sectors(z, v, b)


def _sizes(x: Sectors, out: Sectors) -> tuple[int, ...]:
    return x.mv_channels, x.s_channels, out.mv_channels, out.s_channels


def product(x: Sectors, matrices: Matrices, bias: Tensor | None) -> Sectors:
    """The linear map of ``z (T, .)``, ``v (4, T, .)``, ``b (3, T, .)``, channels side by side.

    Parameters
    ----------
    x
        The state.
    matrices
        ``(O, I)`` for each sector; transposed views for the gradient of the state.
    bias
        Of the scalar sector, or None.
    """
    out = _empty(x, matrices)

    def launch(options: Options) -> None:
        if options["BLOCK_T"]:
            _launch(x, None, None, matrices, bias, out, options)
        else:
            _by_library(x, matrices, bias, out)

    if len(x.z):
        _PLAIN(x.z, _sizes(x, out), launch)
    return out


def gated_product(
    x: Sectors,
    gates: Tensor,
    scalars: Tensor,
    matrices: Matrices,
    bias: Tensor | None,
    gate: Callable[[], Sectors],
) -> Sectors:
    """The linear map of a gated state, without writing that state.

    Parameters
    ----------
    x
        The state, flat as for :func:`product`.
    gates
        ``(T, C)``, of each multivector.
    scalars
        ``(T, S)``, auxiliary scalars after their nonlinearity.
    matrices, bias
        See :func:`product`.
    gate
        Gives the gated state, for where writing it is faster.
    """
    out = _empty(x, matrices)

    def launch(options: Options) -> None:
        if options["BLOCK_T"]:
            _launch(x, gates, scalars, matrices, bias, out, options)
        else:
            _by_library(gate(), matrices, bias, out)

    if len(x.z):
        _GATED(x.z, _sizes(x, out), launch)
    return out


def _look_up(parts: list[Tensor], table: Tensor, signs: Tensor, first: int) -> Tensor:
    """:func:`lgatr.ops.linear.placement.look_up` by one launch."""
    return look_up(torch.cat(parts), table, signs, first)


def matrices_of(
    settings: Linear, given: Optionals
) -> tuple[Matrices, Tensor | None, tuple[Tensor, ...]]:
    """Matrices and bias of a linear stage, and which of them are kept for its gradient."""
    placement = placement_of(settings.formula, given)
    if placement is None:
        of_z, of_v, of_b, bias = given
        assert of_z is not None and of_v is not None and of_b is not None
        return (of_z, of_v, of_b), bias, ()
    of_z, of_v, of_b, *rest = place(placement, given, _look_up)
    found = of_z, of_v, of_b
    return found, rest[0] if rest else None, found


def linear(
    settings: Linear, z: Tensor, v: Tensor, b: Tensor, *given: Tensor | None
) -> tuple[Tensors, Tensors]:
    """Forward pass of :class:`~lgatr.ops.linear.stage.Linear`."""
    matrices, bias, kept = matrices_of(settings, given)
    x = Sectors(z, v, b)
    return tuple(unflat(product(flat(x), matrices, bias), x)), kept


def linear_gradients(
    settings: Linear, inputs: Optionals, outputs: Tensors, kept: Tensors, grads: Tensors
) -> Optionals:
    """Backward pass likewise."""
    given = inputs[3:]
    matrices = given[:3] if settings.formula is None else kept
    of_z, of_v, of_b = (None if m is None else m.t() for m in matrices)
    assert of_z is not None and of_v is not None and of_b is not None
    grad = Sectors(*grads)
    of_states = unflat(product(flat(grad), (of_z, of_v, of_b), None), grad)
    of_matrices = []
    for x, g in zip(inputs[:3], grads, strict=True):
        assert x is not None
        of_matrices.append(weight_gradient(as_rows(g), as_rows(x)))
    return *of_states, *of_parameters(settings, given, of_matrices, grads[0])


def of_parameters(
    settings: Linear, given: Optionals, of_matrices: list[Tensor], grad: Tensor
) -> Optionals:
    """The gradients of ``given``, from those of the matrices and of the first output."""
    placement = placement_of(settings.formula, given)
    return gradients_of_map(placement, given, of_matrices, grad, _look_up)


LINEAR = Passes(linear, linear_gradients)
