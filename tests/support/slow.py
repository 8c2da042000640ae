"""What of a product of cases runs by default."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Any

import pytest


def slow_but_for(wanted: Container[Any], cases: Iterable[Any]) -> list[Any]:
    """All cases, marked as slow but for those that are wanted by default."""
    return [c if c in wanted else pytest.param(c, marks=pytest.mark.slow) for c in cases]
