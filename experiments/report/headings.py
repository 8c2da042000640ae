"""Headings of metrics in tables and reports, from their names in ``metrics.json``."""

from __future__ import annotations

import html

_CAPITALS = {"auc": "AUC", "mse": "MSE", "nll": "NLL"}


def _parts(column: str) -> tuple[str, str] | None:
    """Class and signal efficiency of a background rejection, or None for another metric."""
    if not column.startswith("rejection_"):
        return None
    name, _, efficiency = column.removeprefix("rejection_").rpartition("at_")
    return name.rstrip("_"), efficiency


def heading(column: str) -> str:
    """Heading as plain text: ``rejection_Hbb_at_0.5`` is 1/ε_B of Hbb at ε_S = 0.5."""
    if parts := _parts(column):
        name, efficiency = parts
        return f"1/ε_B {name} ({efficiency})".replace("  ", " ")
    words = (_CAPITALS.get(word, word) for word in column.split("_"))
    return " ".join(words).replace("times 1e5", "× 1e5")


def html_heading(column: str) -> str:
    """The same in HTML."""
    if parts := _parts(column):
        name, efficiency = (html.escape(part) for part in parts)
        name = f" {name}" if name else ""
        return f"1/ε<sub>B</sub>{name} (ε<sub>S</sub> = {efficiency})"
    return html.escape(heading(column)).replace("1e5", "10<sup>5</sup>")
