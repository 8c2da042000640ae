"""Which symmetry a model really has."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lgatr.testing.equivariance import TOLERANCE, Names, as_tuple, declared, equivariance_error
from lgatr.testing.groups import GROUPS
from lgatr.testing.transformations import random_momenta


@dataclass(frozen=True)
class SymmetryReport:
    """Result of :func:`report`; print it.

    Parameters
    ----------
    errors
        Largest relative deviation by group.
    tolerance
        Deviations up to here count as a symmetry.
    response
        Relative change of the outputs when the inputs are shuffled and rescaled: what a model
        without any symmetry would show.
    """

    errors: dict[str, float]
    tolerance: float
    response: float

    @property
    def holds(self) -> tuple[str, ...]:
        """Groups that the model respects."""
        return tuple(name for name, error in self.errors.items() if error <= self.tolerance)

    @property
    def symmetry(self) -> str:
        """The largest groups that the model respects, or ``"none"``."""
        implied = {small for name in self.holds for small in GROUPS[name].contains}
        return ", ".join(name for name in self.holds if name not in implied) or "none"

    @property
    def trivial(self) -> bool:
        """Whether the outputs do not depend on the inputs, so that every check passes."""
        return self.response <= self.tolerance

    def __str__(self) -> str:
        rows = [("group", "meaning", "deviation", "")]
        rows += [
            (name, GROUPS[name].meaning, _shown(error), "yes" if name in self.holds else "no")
            for name, error in self.errors.items()
        ]
        widths = [max(len(row[i]) for row in rows) for i in range(4)]
        lines = [
            "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) for row in rows
        ]
        lines.insert(1, "  ".join("-" * w for w in widths))
        lines.append(f"symmetry: {self.symmetry} (deviations up to {self.tolerance:.0e} count)")
        if not all(map(math.isfinite, self.errors.values())):
            lines.append(
                "undefined: some transformed inputs give outputs that are not finite, as do "
                "logarithms of energies after time reversal"
            )
        if self.trivial:
            lines.append("the outputs do not depend on the inputs, so this says nothing")
        return "\n".join(line.rstrip() for line in lines)


def _shown(error: float) -> str:
    return f"{error:.1e}" if math.isfinite(error) else "undefined"


def _in_float64(function: Any, arguments: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
    """A copy of a module in float64 with its arguments, so that rounding hides nothing."""
    if not isinstance(function, nn.Module):
        return function, arguments
    double = copy.deepcopy(function).double().eval()
    return double, tuple(
        a.double() if isinstance(a, Tensor) and a.is_floating_point() else a for a in arguments
    )


def _response(function: Callable[..., Any], arguments: tuple[Any, ...], options: Any) -> float:
    """How much the outputs change when every tensor is mixed along its last dimension."""
    generator = torch.Generator().manual_seed(1)

    def other(x: Any) -> Any:
        if not isinstance(x, Tensor) or not x.is_floating_point() or not x.numel():
            return x
        noise = torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x)
        return x * (1.0 + 0.5 * noise)

    before = as_tuple(function(*arguments, **options))
    after = as_tuple(function(*map(other, arguments), **options))
    changes = [
        float((b - a).detach().abs().max() / a.detach().abs().max().clamp(min=1e-30))
        for a, b in zip(before, after, strict=True)
        if isinstance(a, Tensor) and a.numel()
    ]
    return max(changes, default=0.0)


def report(
    model: Callable[..., Any],
    arguments: Any = None,
    inputs: Names = None,
    outputs: Names = None,
    *,
    rapidity: float = 1.0,
    trials: int = 8,
    tolerance: float | None = None,
    seed: int = 0,
    **options: Any,
) -> SymmetryReport:
    """Find out numerically which symmetry a model has.

    Parameters
    ----------
    model
        A function or a module. Of a module a copy in float64 and evaluation mode is measured.
    arguments
        A tensor, or a tuple of tensors and other things. None draws four-momenta
        ``(events, items, 4)`` of order one, for models of four-momenta alone.
    inputs, outputs
        Representation of each argument and each result: ``"scalar"``, ``"vector"``,
        ``"bivector"``, ``"axialvector"``, ``"pseudoscalar"``, ``"multivector"``; None for those
        that do not transform. The layers and networks of this library declare theirs.
    rapidity
        Of the boosts. Large boosts enlarge rounding errors.
    trials
        Elements of each group.
    tolerance
        Largest relative deviation that passes; None takes 1e-8 for float64, 1e-3 for float32.
    seed
        Of the elements.
    **options
        Keyword arguments of the model.

    Examples
    --------
    >>> print(report(lambda p: (p.sum(1) ** 2).sum(-1), inputs="vector", outputs="scalar"))
    """
    names = declared(model, inputs, outputs)
    arguments = (random_momenta(),) if arguments is None else as_tuple(arguments)
    model, arguments = _in_float64(model, arguments)
    if tolerance is None:
        dtypes = [a.dtype for a in arguments if isinstance(a, Tensor) and a.is_floating_point()]
        tolerance = max(TOLERANCE.get(dtype, 0.0) for dtype in dtypes)
    errors: dict[str, float] = {}
    with torch.no_grad():
        for name, group in GROUPS.items():
            generator = torch.Generator().manual_seed(seed)
            errors[name] = max(
                equivariance_error(
                    model, arguments, group.draw(n, rapidity, generator), *names, **options
                )
                for n in range(trials)
            )
        response = _response(model, arguments, options)
    return SymmetryReport(errors, tolerance, response)
