"""An elementwise function and its derivative, from one evaluation."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Function = Callable[[Tensor], Tensor]


class FunctionValues:
    """A function at some numbers.

    Parameters
    ----------
    function
        Works number by number.
    x
        Where.
    """

    def __init__(self, function: Function, x: Tensor) -> None:
        with torch.enable_grad():
            # Side by side: torch computes functions of short strided rows number by number.
            self._at = x.detach().contiguous().requires_grad_()
            self._found = function(self._at)
        self.values = self._found.detach()

    def pullback(self, grad: Tensor) -> Tensor:
        """``grad`` times the derivative."""
        return torch.autograd.grad(self._found, self._at, grad)[0]
