"""The equivariant layer norm on CUDA: one pass over the state forward, one backward.

Partial sums of the gradient of the gains are added in a fixed order: results do not vary from run
to run.

Legend: T tokens, C multivector channels, S scalar channels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lgatr.layout import Sectors, flat, unflat
from lgatr.ops._runtime.choice import Passes
from lgatr.ops._runtime.stage import OfSum, Optionals, Tensors
from lgatr.ops._runtime.triton import FUSED, ceil_div, power_of_two, strides
from lgatr.ops._runtime.tuning import Options, Tuned
from lgatr.ops.norm.formula import SCALAR_EPSILON, floor_factor
from lgatr.ops.norm.triton_kernels import gradient_kernel, norm_kernel

if TYPE_CHECKING:
    from lgatr.ops.norm.stage import Norm

_CANDIDATES = (
    {"BLOCK_T": 8, "num_warps": 4},
    {"BLOCK_T": 4, "num_warps": 2},
    {"BLOCK_T": 1, "num_warps": 1},
)
_FORWARD, _BACKWARD = Tuned("norm", _CANDIDATES), Tuned("norm gradient", _CANDIDATES)
_PROGRAMS = 1056
"""Programs of the backward pass, at most."""


def _blocks(x: Sectors) -> dict[str, int]:
    s = x.s_channels
    return {
        "BLOCK_C": power_of_two(max(x.mv_channels, 1)),
        "BLOCK_S": power_of_two(s) if s else 0,
    }


NO_STATE = (None, None, None)
_NO_STRIDES = (0,) * 5


def layer_norm(
    x: Sectors,
    weight: Tensor | None,
    weight_s: Tensor | None,
    epsilon: float,
    gain: float,
    layer_norm_epsilon: float,
    more: Sectors | None = None,
) -> tuple[Sectors, Sectors, tuple[Tensor, ...]]:
    """The norm of ``z (T, .)``, ``v (4, T, .)``, ``b (3, T, .)``, channels side by side.

    Parameters
    ----------
    x, more
        The state, and another that is added to it before.
    weight, weight_s, epsilon, gain, layer_norm_epsilon
        As for :func:`lgatr.ops.norm.formula.layer_norm`.

    Returns
    -------
    The sum, or ``x`` where nothing is added; the normalised state; and what the gradient needs: the
    factor ``(T,)`` of the multivectors, mean and inverse deviation of the scalars.
    """
    out = Sectors(*(torch.empty_like(part) for part in x))
    total = x if more is None else Sectors(*(torch.empty_like(part) for part in x))
    tokens, like = len(x.z), x.z
    moments = torch.empty(3, tokens, device=like.device, dtype=torch.float32).unbind(0)
    added = (NO_STATE, _NO_STRIDES) if more is None else (more, strides(more))
    summed = (NO_STATE, _NO_STRIDES) if more is None else (total, strides(total))

    def launch(options: Options) -> None:
        norm_kernel[(ceil_div(tokens, options["BLOCK_T"]),)](
            *x, *added[0], weight, weight_s, *summed[0], *out, *moments,
            *strides(x), *added[1], *summed[1], *strides(out),
            tokens, x.mv_channels, x.s_channels, epsilon, gain, layer_norm_epsilon,
            HAS_SUM=more is not None, HAS_WEIGHT=weight is not None,
            HAS_WEIGHT_S=weight_s is not None, **_blocks(x), **options, **FUSED,
        )  # fmt: skip

    if tokens:
        _FORWARD(like, (x.mv_channels, x.s_channels, int(more is not None)), launch)
    return total, out, moments


def layer_norm_gradients(
    x: Sectors,
    weight: Tensor | None,
    weight_s: Tensor | None,
    grad: Sectors,
    moments: tuple[Tensor, ...],
    epsilon: float,
    gain: float,
    more: Sectors | None = None,
) -> tuple[Sectors, Tensor | None, Tensor | None]:
    """The gradients of the state and of the gains.

    Parameters
    ----------
    x
        The state that was normalised.
    weight, weight_s, epsilon, gain
        As they were.
    grad
        Of the normalised state.
    moments
        What the forward pass kept.
    more
        A further gradient of the state, which is added.
    """
    out = Sectors(*(torch.empty_like(part) for part in x))
    tokens, c, s = len(x.z), x.mv_channels, x.s_channels
    programs = max(min(_PROGRAMS, tokens), 1)
    limit = floor_factor(epsilon, torch.float32)
    partial = torch.empty(programs, 5 * c + s, device=x.z.device, dtype=torch.float32)
    added = (NO_STATE, _NO_STRIDES) if more is None else (more, strides(more))

    def launch(options: Options) -> None:
        gradient_kernel[(programs,)](
            *x, weight, weight_s, *grad, *added[0], *moments, *out, partial,
            *strides(x, grad), *added[1], *strides(out), tokens, c, s, limit, gain,
            HAS_SUM=more is not None, HAS_WEIGHT=weight is not None,
            HAS_WEIGHT_S=weight_s is not None, **_blocks(x), **options, **FUSED,
        )  # fmt: skip

    if tokens:
        _BACKWARD(x.z, (c, s, int(more is not None)), launch)
    if weight is None and weight_s is None:
        return out, None, None
    of_weight, of_weight_s = partial.sum(0).split([5 * c, s])
    return (
        out,
        None if weight is None else of_weight.view(c, 5).to(weight.dtype),
        None if weight_s is None else of_weight_s.to(weight_s.dtype),
    )


def norm(
    settings: Norm, z: Tensor, v: Tensor, b: Tensor, weight: Tensor | None, weight_s: Tensor | None
) -> tuple[Tensors, Tensors]:
    """Forward pass of :class:`~lgatr.ops.norm.stage.Norm`."""
    x = Sectors(z, v, b)
    _, out, kept = layer_norm(
        flat(x), weight, weight_s, settings.epsilon, settings.gain, SCALAR_EPSILON
    )
    return tuple(unflat(out, x)), kept


def norm_gradients(
    settings: Norm, inputs: Optionals, outputs: Tensors, kept: Tensors, grads: Tensors
) -> Optionals:
    """Backward pass likewise."""
    z, v, b, weight, weight_s = inputs
    assert z is not None and v is not None and b is not None
    x = Sectors(z, v, b)
    out, of_weight, of_weight_s = layer_norm_gradients(
        flat(x), weight, weight_s, flat(Sectors(*grads)), kept, settings.epsilon, settings.gain
    )
    return *unflat(out, x), of_weight, of_weight_s


def sum_and_norm(settings: OfSum, *inputs: Tensor | None) -> tuple[Tensors, Tensors]:
    """Forward pass of :class:`~lgatr.ops._runtime.stage.OfSum`."""
    (x, more), (weight, weight_s) = _states(inputs), inputs[6:]
    total, out, kept = layer_norm(
        flat(x), weight, weight_s, settings.stage.epsilon, settings.stage.gain, SCALAR_EPSILON,
        None if more is None else flat(more),
    )  # fmt: skip
    # The state itself would not be an output of its own.
    total = Sectors(*(part.view_as(part) for part in x)) if more is None else unflat(total, x)
    return (*total, *unflat(out, x)), kept


def sum_and_norm_gradients(
    settings: OfSum, inputs: Optionals, outputs: Tensors, kept: Tensors, grads: Tensors
) -> Optionals:
    """Backward pass likewise; both states have the gradient of their sum."""
    total, (weight, weight_s) = Sectors(*outputs[:3]), inputs[6:]
    out, of_weight, of_weight_s = layer_norm_gradients(
        flat(total), weight, weight_s, flat(Sectors(*grads[3:])), kept,
        settings.stage.epsilon, settings.stage.gain, flat(Sectors(*grads[:3])),
    )  # fmt: skip
    found = unflat(out, total)
    return *found, *(NO_STATE if inputs[3] is None else found), of_weight, of_weight_s


def _states(inputs: Optionals) -> tuple[Sectors, Sectors | None]:
    more = None if inputs[3] is None else Sectors(*inputs[3:6])  # type: ignore[arg-type]
    return Sectors(*inputs[:3]), more  # type: ignore[arg-type]


NORM = Passes(norm, norm_gradients)
SUM_AND_NORM = Passes(sum_and_norm, sum_and_norm_gradients)
