"""The joint norm of four-vectors and scalars in C++ (``slim_norm.cpp``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from lgatr.ops._runtime.arguments import PIECE_COUNT, Real, given, maybe, out, sizes
from lgatr.ops._runtime.choice import Passes
from lgatr.ops._runtime.cpu import PIECES, kernel
from lgatr.ops._runtime.stage import Optionals, Tensors

if TYPE_CHECKING:
    from lgatr.ops.slim_norm.stage import SlimNorm

_NORM = kernel("slim_norm", {
    "v": given("T", "4", "C"), "s": given("T", "S"), "weight_v": maybe("C"),
    "weight_s": maybe("S"), "out_v": out("T", "4", "C"), "out_s": out("T", "S"),
    "factor": out("T"), **sizes("T C S"), "epsilon": Real(),
})  # fmt: skip
_GRADIENTS = kernel("slim_norm_gradients", {
    "v": given("T", "4", "C"), "s": given("T", "S"), "gv": given("T", "4", "C"),
    "gs": given("T", "S"), "factor": given("T"), "weight_v": maybe("C"), "weight_s": maybe("S"),
    "of_v": out("T", "4", "C"), "of_s": out("T", "S"),
    "of_weight_v": maybe("P", "C", written=True), "of_weight_s": maybe("P", "S", written=True),
    **sizes("T C S"), "P": PIECE_COUNT,
})  # fmt: skip


def slim_norm(
    settings: SlimNorm, v: Tensor, s: Tensor, weight_v: Tensor | None, weight_s: Tensor | None
) -> tuple[Tensors, Tensors]:
    """Forward pass; keeps the factor of each token."""
    v, s = v.contiguous(), s.contiguous()
    out_v, out_s, factor = v.new_empty(v.shape), s.new_empty(s.shape), s.new_empty(s.shape[:-1])
    weight_v = None if weight_v is None else weight_v.contiguous()
    weight_s = None if weight_s is None else weight_s.contiguous()
    _NORM(
        v, v, s, weight_v, weight_s, out_v, out_s, factor,
        factor.numel(), v.shape[-1], s.shape[-1], float(settings.epsilon),
    )  # fmt: skip
    return (out_v, out_s), (factor,)


def slim_norm_gradients(
    settings: SlimNorm, inputs: Optionals, outputs: Tensors, kept: Tensors, grads: Tensors
) -> Optionals:
    """Backward pass."""
    v, s, *weights = (None if x is None else x.contiguous() for x in inputs)
    assert v is not None and s is not None
    gv, gs = (g.contiguous() for g in grads)
    sums = [None if w is None else w.new_zeros(PIECES, *w.shape) for w in weights]
    of_v, of_s = v.new_empty(v.shape), s.new_empty(s.shape)
    _GRADIENTS(
        v, v, s, gv, gs, *kept, *weights, of_v, of_s, *sums,
        kept[0].numel(), v.shape[-1], s.shape[-1], PIECES,
    )  # fmt: skip
    return of_v, of_s, *(None if total is None else total.sum(0) for total in sums)


SLIM_NORM = Passes(slim_norm, slim_norm_gradients)
