"""Matrices of the linear modules inside layers, whatever became of these modules."""

from __future__ import annotations

from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.compiler import is_compiling

from lgatr.layers.base import hold_parameters

_TOLERANCE = 0.05  # of the largest output: inputs of quantized weights are rounded to 8 bits
_found_linear: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()
"""Modules that were tried, and whether they were in training then."""


class LinearMap(NamedTuple):
    """A matrix ``(outputs, inputs)`` and what is added, ``(outputs,)`` or nothing."""

    weight: Tensor
    bias: Tensor | None


def linear_map(module: nn.Module, inputs: int, like: Tensor) -> LinearMap:
    """The map that a module inside a layer is.

    A :class:`torch.nn.Linear` only holds the parameters of one. One with a computation of its own
    (an adapter, a wrapper, quantized weights) or with hooks (weights that are normed or pruned) is
    called with zeros and with unit vectors, which give its bias and its matrix, with gradients.

    Parameters
    ----------
    module
        The module.
    inputs
        Its input channels.
    like
        A tensor in the format and on the device of its inputs.

    Raises
    ------
    ValueError
        If it is no linear map: it has dropout, say, or an activation.
    """
    if hold_parameters(module):
        return LinearMap(module.weight, module.bias)  # type: ignore[arg-type]
    units = torch.eye(inputs + 1, inputs, dtype=like.dtype, device=like.device).roll(1, 0)
    outputs = module(units)
    bias = outputs[0]
    found = LinearMap((outputs[1:] - bias).t(), bias)
    if not is_compiling() and _found_linear.get(module) is not module.training:
        _check_linear(module, found, like)
        _found_linear[module] = module.training
    return found


@torch.no_grad()
def _check_linear(module: nn.Module, found: LinearMap, like: Tensor) -> None:
    inputs = found.weight.shape[1]
    x = torch.linspace(-1.0, 1.0, 2 * inputs, dtype=like.dtype, device=like.device).view(2, inputs)
    expected, given = nn.functional.linear(x, *found), module(x)
    if not bool((given - expected).abs().amax() <= _TOLERANCE * expected.abs().amax()):
        raise ValueError(
            f"{type(module).__name__} stands for a torch.nn.Linear inside of a layer, but is no "
            "linear map (has it dropout, or an activation?); replace the layer around it instead"
        )
