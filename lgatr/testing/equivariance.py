"""Measure and assert that a function commutes with Lorentz transformations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from lgatr.testing.groups import GROUPS
from lgatr.testing.representations import transform

Names = str | None | Sequence[str | None]

TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.1}
"""Largest relative deviation that passes for a symmetry."""


def as_tuple(values: Any) -> tuple[Any, ...]:
    """Several values, or one, as a tuple."""
    return tuple(values) if isinstance(values, (tuple, list)) else (values,)


def declared(function: Any, inputs: Names, outputs: Names) -> tuple[tuple[Any, ...], ...]:
    """Representations of inputs and outputs, as given or as the module declares them.

    Raises
    ------
    ValueError
        If neither says anything.
    """
    known = getattr(function, "representations", None)
    if inputs is None and outputs is None and known is not None:
        inputs, outputs = known
    if inputs is None or outputs is None:
        raise ValueError(
            "say how inputs and outputs transform, such as inputs='vector', outputs='scalar'"
        )
    return as_tuple(inputs), as_tuple(outputs)


def move(values: tuple[Any, ...], names: tuple[str | None, ...], matrix: Tensor) -> tuple[Any, ...]:
    """Transform those values that are tensors with a representation."""
    if len(values) > len(names):
        raise ValueError(f"{len(values)} values, but representations of {len(names)}: {names}")
    return tuple(
        transform(value, matrix, name) if isinstance(value, Tensor) and name else value
        for value, name in zip(values, names, strict=False)
    )


def _deviation(moved: tuple[Any, ...], expected: tuple[Any, ...]) -> float:
    worst = 0.0
    for a, b in zip(moved, expected, strict=True):
        if isinstance(b, Tensor) and b.numel():
            scale = b.detach().abs().max().clamp(min=torch.finfo(b.dtype).tiny)
            worst = max(worst, float(((a - b).detach().abs().max() / scale).nan_to_num(torch.inf)))
    return worst


def equivariance_error(
    function: Callable[..., Any],
    arguments: Any,
    matrix: Tensor,
    inputs: Names = None,
    outputs: Names = None,
    **options: Any,
) -> float:
    """Largest ``|f(L x) - L f(x)|`` over the largest ``|L f(x)|``, for one transformation L.

    Parameters
    ----------
    function
        A function or module.
    arguments
        A tensor, or a tuple of tensors and other things.
    matrix
        ``(4, 4)``.
    inputs, outputs
        Representation of each argument and each result, see :func:`transform`; None for those that
        do not transform. The layers and networks of this library declare theirs.
    **options
        Keyword arguments of the function.
    """
    names_in, names_out = declared(function, inputs, outputs)
    arguments = as_tuple(arguments)
    expected = move(as_tuple(function(*arguments, **options)), names_out, matrix)
    moved = as_tuple(function(*move(arguments, names_in, matrix), **options))
    return _deviation(moved, expected)


def assert_equivariant(
    function: Callable[..., Any],
    arguments: Any,
    inputs: Names = None,
    outputs: Names = None,
    *,
    group: str = "SO+(1,3)",
    rapidity: float = 1.0,
    trials: int = 4,
    tolerance: float | None = None,
    seed: int = 0,
    **options: Any,
) -> None:
    """Raise ``AssertionError`` unless a function commutes with random elements of a group.

    Parameters
    ----------
    function, arguments, inputs, outputs, **options
        See :func:`equivariance_error`.
    group
        A key of :data:`lgatr.testing.GROUPS`.
    rapidity
        Of the boosts.
    trials
        Number of elements.
    tolerance
        Largest relative deviation; None takes 1e-8 for float64, 1e-3 for float32.
    seed
        Of the elements.

    Raises
    ------
    AssertionError
        With the deviation and the transformation.
    ValueError
        If there is no such group.
    """
    if group not in GROUPS:
        raise ValueError(f"no group {group!r}; choose from {', '.join(GROUPS)}")
    if tolerance is None:
        dtypes = [a.dtype for a in as_tuple(arguments) if isinstance(a, Tensor)]
        tolerance = max(TOLERANCE.get(dtype, 0.0) for dtype in dtypes)
    generator = torch.Generator().manual_seed(seed)
    for n in range(trials):
        matrix = GROUPS[group].draw(n, rapidity, generator)
        error = equivariance_error(function, arguments, matrix, inputs, outputs, **options)
        if not error <= tolerance:
            raise AssertionError(
                f"not equivariant under {group}: relative deviation {error:.1e} exceeds "
                f"{tolerance:.0e} for the transformation\n{matrix.numpy().round(4)}"
            )
