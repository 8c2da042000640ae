"""The equivariant layer norm in C++ (``norm.cpp``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from lgatr.layout import Sectors, flat
from lgatr.ops._runtime.arguments import FLAG, PIECE_COUNT, Real, State, given, maybe, out, sizes
from lgatr.ops._runtime.choice import Passes
from lgatr.ops._runtime.cpu import PIECES, kernel
from lgatr.ops._runtime.stage import Optionals, Tensors
from lgatr.ops.norm.formula import SCALAR_EPSILON, floor_factor

if TYPE_CHECKING:
    from lgatr.ops.norm.stage import Norm

_STATE, _STATE_OUT = State("2 * C + S", "2 * C"), State("2 * C + S", "2 * C", written=True)
_NORM = kernel("norm", {
    "x": _STATE, "out": _STATE_OUT, "factor": out("T"), "mean": out("T"), "deviation": out("T"),
    "weight": maybe("5", "C"), "weight_s": maybe("S"), **sizes("T C S"),
    "epsilon": Real(), "gain": Real(), "epsilon_s": Real(),
})  # fmt: skip
_GRADIENTS = kernel("norm_gradients", {
    "x": _STATE, "grad": _STATE, "out": _STATE_OUT, "factor": given("T"), "mean": given("T"),
    "deviation": given("T"), "weight": maybe("5", "C"), "weight_s": maybe("S"),
    "of_weight": maybe("P", "5", "C", written=True), "of_weight_s": maybe("P", "S", written=True),
    **sizes("T C S"), "gain": Real(), "limit": Real(), "from_outputs": FLAG, "P": PIECE_COUNT,
})  # fmt: skip


def norm(
    settings: Norm, z: Tensor, v: Tensor, b: Tensor, weight: Tensor | None, weight_s: Tensor | None
) -> tuple[Tensors, Tensors]:
    """Forward pass; keeps the factor of the multivectors, mean and inverse deviation of scalars."""
    found = z.new_empty(z.shape), v.new_empty(v.shape), b.new_empty(b.shape)
    x, y = (z, v, b), found
    if z.dim() != 2 or not z.stride(1) == v.stride(2) == b.stride(2) == 1:
        x, y = flat(Sectors(*x)), flat(Sectors(*y))
    tokens, w = len(x[0]), v.shape[-1]
    kept = z.new_empty(3, tokens).unbind(0)
    if weight is not None:
        weight = weight.t().contiguous()
    if weight_s is not None:
        weight_s = weight_s.contiguous()
    _NORM(
        z, x, y, *kept, weight, weight_s, tokens, w // 2, z.shape[-1] - w,
        float(settings.epsilon), float(settings.gain), SCALAR_EPSILON,
    )  # fmt: skip
    return found, kept


def norm_gradients(
    settings: Norm, inputs: Optionals, outputs: Tensors, kept: Tensors, grads: Tensors
) -> Optionals:
    """Backward pass."""
    weight, weight_s = inputs[3:]
    z, v, b = outputs or inputs[:3]
    assert z is not None and v is not None and b is not None
    found = z.new_empty(z.shape), v.new_empty(v.shape), b.new_empty(b.shape)
    x, g, to = (flat(Sectors(*state)) for state in ((z, v, b), grads, found))
    w = v.shape[-1]
    weights = [
        None if weight is None else weight.t().contiguous(),
        None if weight_s is None else weight_s.contiguous(),
    ]
    sums = [None if p is None else p.new_zeros(PIECES, *p.shape) for p in weights]
    _GRADIENTS(
        z, x, g, to, *kept, *weights, *sums, len(x.z), w // 2, z.shape[-1] - w,
        float(settings.gain), floor_factor(settings.epsilon, z.dtype), bool(outputs), PIECES,
    )  # fmt: skip
    return *found, *(None if total is None else total.sum(0).t() for total in sums)


NORM = NORM_BY_OUTPUTS = Passes(norm, norm_gradients)
