"""Published figures by task, and the format of values beside them."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any


def all_published() -> dict[str, Any]:
    """All published tables by task."""
    text = resources.files("experiments.report").joinpath("published.json").read_text("utf-8")
    tables: dict[str, Any] = json.loads(text)
    return tables


def published(task: str) -> dict[str, Any]:
    """The published table of a task, or an empty dict if there is none."""
    table: dict[str, Any] = all_published().get(task, {})
    return table


def value_with_error(results: dict[str, Any], name: str) -> str:
    """Format a metric as ``value±error``."""
    value, error = results.get(name), results.get(f"{name}_error")
    if value is None:
        limit = results.get(f"{name}_lower_limit_95")
        return f"> {limit:.0f} (95 %)" if limit is not None else "–"
    is_coarse = error is None or error >= 1
    digits = 4 if abs(value) < 10 else (0 if is_coarse else 2)
    return f"{value:.{digits}f}" + (f"±{error:.{digits}f}" if error is not None else "")
