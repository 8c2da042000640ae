"""What of a product of cases runs by default."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Any

import pytest


def every(number: int, cases: Iterable[Any]) -> list[Any]:
    """All cases, of which only every ``number``-th runs by default; the others are slow."""
    return [
        c if place % number == 0 else pytest.param(*_as_tuple(c), marks=pytest.mark.slow)
        for place, c in enumerate(cases)
    ]


def _as_tuple(case: Any) -> tuple[Any, ...]:
    """The values of a case of several parameters, or of one."""
    return case if isinstance(case, tuple) else (case,)


def slow_but_for(wanted: Container[Any], cases: Iterable[Any]) -> list[Any]:
    """All cases, marked as slow but for those that are wanted by default."""
    return [c if c in wanted else pytest.param(c, marks=pytest.mark.slow) for c in cases]
