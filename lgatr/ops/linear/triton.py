"""Equivariant linear maps on CUDA: all eight rows of a state in one launch.

The three products of a map are small: some ten operations for each byte, in three launches of a
library. One launch takes them all, a program for some tokens, one row and some of its outputs, and
multiplies by the gates of a nonlinearity while it reads, so that the gated state is never written.
So it is with the gradients of the three matrices: one launch for parts of the tokens, one that adds
them up in a fixed order. Whether a launch for the products beats the library's depends on GPU and
channels: both are among the candidates that :mod:`lgatr.ops._runtime.tuning` measures.

Legend: T tokens, C multivector channels, S scalar channels, I and O numbers of a row in and out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
import triton
from torch import Tensor

from lgatr.layout import NUM_BIVECTORS, NUM_VECTORS, Sectors, flat, unflat
from lgatr.ops._runtime.choice import Passes
from lgatr.ops._runtime.products import products_of
from lgatr.ops._runtime.stage import Optionals, Tensors
from lgatr.ops._runtime.triton import FUSED, strides
from lgatr.ops._runtime.tuning import Options, Tuned
from lgatr.ops.linear.placement import place, place_gradients, placement_of
from lgatr.ops.linear.triton_kernels import linear_kernel, sum_kernel, weights_kernel
from lgatr.ops.linear.triton_matrices import look_up

if TYPE_CHECKING:
    from lgatr.ops.linear.stage import Linear

_LIBRARY: Options = {"BLOCK_T": 0}
"""Stands for the products of the library."""
# Each candidate costs seconds of compilation. The first is taken where nothing can be measured.
_CANDIDATES = (
    {"BLOCK_T": 64, "BLOCK_O": 64, "num_warps": 4},
    {"BLOCK_T": 128, "BLOCK_O": 64, "num_warps": 8},
    {"BLOCK_T": 64, "BLOCK_O": 32, "num_warps": 4},
    _LIBRARY,
)
_PLAIN, _GATED = Tuned("linear", _CANDIDATES), Tuned("gated linear", _CANDIDATES)
_WEIGHTS = Tuned(
    "linear weights",
    (
        {"BLOCK_T": 64, "BLOCK_O": 64, "num_warps": 4},
        {"BLOCK_T": 32, "BLOCK_O": 64, "num_warps": 4},
    ),
)
_CHUNK = 512
"""Tokens of one partial gradient of the matrices."""
_ROWS = 1 + NUM_VECTORS + NUM_BIVECTORS
_BLOCK_K, _SUM_BLOCK = 32, 128

Matrices = tuple[Tensor, Tensor, Tensor]


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
    linear_kernel[(triton.cdiv(tokens, options["BLOCK_T"]), _ROWS, tiles)](
        *x, gates, scalars, *matrices, bias, *out, *strides(x, out),
        tokens, max(width // 2, 1), outputs, out.v.shape[-1], width, x.z.shape[-1] - width,
        HAS_BIAS=bias is not None, GATED=gates is not None, TURNED=turned,
        PARTS=products_of("cuda"), BLOCK_K=_BLOCK_K, **options, **FUSED,
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


def weight_gradients(grad: Sectors, x: Sectors, with_bias: bool) -> list[Tensor]:
    """The gradients of the three matrices, and of the bias if there is one.

    Parameters
    ----------
    grad
        Of the outputs, flat as for :func:`product`.
    x
        The state that was mapped, likewise.

    Returns
    -------
    ``(O, I)`` of each sector, and ``(O_z,)``; they lie one after the other in memory.
    """
    tokens, (z_out, z_in) = len(x.z), (grad.z.shape[-1], x.z.shape[-1])
    v_out, v_in = grad.v.shape[-1], x.v.shape[-1]
    pieces = max(triton.cdiv(tokens, _CHUNK), 1)
    of_z, of_v, of_bias = z_out * z_in, v_out * v_in, z_out if with_bias else 0
    partial = grad.z.new_empty(pieces * (of_z + 7 * of_v + of_bias))
    parts = partial.split([pieces * n for n in (of_z, 4 * of_v, 3 * of_v, of_bias)])
    out = grad.z.new_empty(of_z + 2 * of_v + of_bias)
    block_i = min(64, max(16, triton.next_power_of_2(max(z_in, v_in))))

    def launch(options: Options) -> None:
        tiles = [
            triton.cdiv(o, options["BLOCK_O"]) * triton.cdiv(i, block_i)
            for o, i in ((z_out, z_in), (v_out, v_in))
        ]
        weights_kernel[(pieces, _ROWS, max(tiles))](
            *grad, *x, *parts, *strides(grad, x), tokens, _CHUNK, z_out, z_in, v_out, v_in,
            HAS_BIAS=with_bias, PARTS=products_of("cuda"), BLOCK_I=block_i, **options, **FUSED,
        )  # fmt: skip

    _WEIGHTS(grad.z, (z_out, z_in, v_out, v_in), launch)
    blocks = triton.cdiv(max(of_z, of_v, of_bias), _SUM_BLOCK)
    sum_kernel[(blocks, 4 if with_bias else 3)](
        partial, out, pieces, of_z, of_v, of_bias, BLOCK=_SUM_BLOCK, STEP=16
    )
    found = out.split([of_z, of_v, of_v, of_bias])
    shapes = (z_out, z_in), (v_out, v_in), (v_out, v_in)
    matrices = [part.view(shape) for part, shape in zip(found, shapes, strict=False)]
    return [*matrices, found[3]] if with_bias else matrices


def _look_up(parts: list[Tensor], table: Tensor, signs: Tensor, first: int) -> Tensor:
    """:func:`lgatr.ops.linear.placement.look_up` by one launch."""
    return look_up(_joined(parts), table, signs, first)


def _joined(parts: list[Tensor]) -> list[Tensor]:
    """Parts that lie one after the other as one."""
    storage, place = parts[0].untyped_storage().data_ptr(), parts[0].storage_offset()
    total = 0
    for part in parts:
        inside = part.untyped_storage().data_ptr() == storage
        if not (inside and part.storage_offset() == place + total):
            return parts
        total += part.numel()
    return [parts[0].as_strided((total,), (1,))]


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
    return *of_states, *of_parameters(settings, given, grad, Sectors(*inputs[:3]))  # type: ignore[arg-type]


def of_parameters(settings: Linear, given: Optionals, grad: Sectors, x: Sectors) -> Optionals:
    """The gradients of ``given``, from that of the outputs and the state that was mapped."""
    placement = placement_of(settings.formula, given)
    with_bias = given[3] is not None if placement is None else len(placement.out_shapes) > 3
    found = weight_gradients(flat(grad), flat(x), with_bias)
    if placement is None:
        return found if with_bias else [*found, None]
    return place_gradients(placement, given, found, _look_up)


LINEAR = Passes(linear, linear_gradients)
