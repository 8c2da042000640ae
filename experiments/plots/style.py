"""Style of all plots, and writing them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import mplhep
from cycler import cycler
from matplotlib.figure import Figure

from data.atomic import atomic_path

# The style asks for fonts that few machines have; matplotlib then uses its own.
logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)


_PANEL = 5.0, 5.0
"""Inches."""

# Ten colours that are told apart without seeing red and green (arXiv:2107.02270); the curves of ten
# more have other lines.
COLOURS = (
    "#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6", "#a96b59", "#e76300", "#717581",
    "#92dadd", "#000000",
)  # fmt: skip
_CYCLE = cycler(linestyle=["-", "--"]) * cycler(color=COLOURS)
_STYLE = {"font.size": 15, "axes.prop_cycle": _CYCLE}


def new_figure(**options: Any) -> tuple[Figure, Any]:
    """Make a figure with one set of axes in the style of the LHC experiments."""
    with plt.style.context([mplhep.style.CMS, {**_STYLE, "figure.figsize": (7, 6)}]):
        return plt.subplots(layout="constrained", **options)


def new_panels(columns: int, rows: int) -> tuple[Figure, list[tuple[Any, Any]]]:
    """Make a figure of panels, each a pair of axes, a low one below another.

    Without the constrained layout, which takes seconds for many panels, in each format.
    """
    width, height = _PANEL[0] * columns, _PANEL[1] * rows
    with plt.style.context([mplhep.style.CMS, _STYLE]):
        figure = plt.figure(figsize=(width, height))
        grid = figure.add_gridspec(
            rows, columns, left=1.0 / width, right=1 - 0.2 / width, bottom=0.8 / height,
            top=1 - 0.3 / height, wspace=0.3, hspace=0.25,
        )  # fmt: skip
        pairs = []
        for place in range(rows * columns):
            cell = grid[divmod(place, columns)]
            inner = cell.subgridspec(2, 1, height_ratios=(3, 1), hspace=0.06)
            above, below = figure.add_subplot(inner[0]), figure.add_subplot(inner[1])
            above.minorticks_off()
            below.minorticks_off()
            pairs.append((above, below))
    return figure, pairs


FORMATS = ("png", "pdf")
_formats: ContextVar[Sequence[str]] = ContextVar("formats", default=FORMATS)


@contextmanager
def saved_as(formats: Sequence[str]) -> Iterator[None]:
    """Set the formats of what :func:`save` writes; with none, figures are laid out alone."""
    token = _formats.set(formats)
    try:
        yield
    finally:
        _formats.reset(token)


def save(figure: Figure, directory: Path, name: str) -> None:
    """Write a figure in the formats of the run, PNG and PDF by default."""
    if not _formats.get():
        figure.draw_without_rendering()  # what fails in drawing, fails in this
    for suffix in _formats.get():
        save_as(figure, directory / f"{name}.{suffix}")
        figure.set_layout_engine("none")  # laid out once: that is half of the time
    plt.close(figure)


def save_as(figure: Figure, file: Path) -> None:
    """Write one image; the suffix chooses the format."""
    with atomic_path(file) as temporary:
        figure.savefig(temporary, dpi=110)
    plt.close(figure)


def plain(name: str, longest: int = 40) -> str:
    """Escape and shorten a name, so that matplotlib shows it literally."""
    text = "".join(c if c.isprintable() else "?" for c in name)
    text = text if len(text) <= longest else text[: longest - 1] + "…"
    # Dollar signs delimit formulas; legends hide labels that begin with an underscore.
    return (" " if text.startswith("_") else "") + text.replace("$", r"\$")
