"""Ranges and choices in annotations: ``batch_size: Annotated[int, Range(1)]``.

Values from a configuration are checked against the annotation of the parameter and its markers.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Any


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, inclusive by default.

    Parameters
    ----------
    low, high
        Bounds, or None.
    above, below
        Whether ``low``, or ``high``, is excluded.
    """

    low: float | None = None
    high: float | None = None
    above: bool = False
    below: bool = False

    def holds(self, value: float) -> bool:
        """Whether a number is in the range."""
        if self.low is not None and (value < self.low or (self.above and value == self.low)):
            return False
        return self.high is None or not (value > self.high or (self.below and value == self.high))

    def __str__(self) -> str:
        low = f"{'above' if self.above else 'at least'} {self.low}"
        high = f"{'below' if self.below else 'at most'} {self.high}"
        if self.low is None or self.high is None:
            return high if self.low is None else low
        plain = not (self.above or self.below)
        return f"from {self.low} to {self.high}" if plain else f"{low} and {high}"


@dataclass(frozen=True, eq=False)
class OneOf:
    """One of the given names, or of those that a function returns; or any that begins so."""

    names: Iterable[str] | Callable[[], Iterable[str]]
    beginning: str | None = None

    def holds(self, name: str) -> bool:
        """Whether a name is allowed."""
        start = self.beginning
        return name in self.known() or (
            start is not None and name.startswith(start) and len(name) > len(start)
        )

    def __str__(self) -> str:
        return ", ".join([*self.known(), *([f"{self.beginning}NAME"] if self.beginning else [])])

    def known(self) -> list[str]:
        """All allowed names."""
        return list(self.names() if callable(self.names) else self.names)


@dataclass(frozen=True)
class NotEmpty:
    """Text that is not blank."""


MAX_NAME = 150
"""Bytes of a name; with what is put behind it, a file system takes 255."""


@dataclass(frozen=True)
class FolderName:
    """Name of a directory, not a path."""

    def holds(self, text: str) -> bool:
        """Whether a folder, or with a suffix a file, can have this name in any other folder."""
        is_name = text.strip() not in ("", ".", "..") and not {"/", "\\"} & set(text)
        return is_name and text.isprintable() and len(text.encode()) <= MAX_NAME

    def __str__(self) -> str:
        return f"the name of a folder, without slashes, of 1 to {MAX_NAME} characters"


@dataclass(frozen=True)
class Supplied:
    """Keywords that the code passes to a part; configurations must not set them."""

    names: tuple[str, ...]

    def __init__(self, *names: str) -> None:
        object.__setattr__(self, "names", names)


@dataclass(frozen=True)
class KeywordsOf:
    """A mapping of keywords of a class or function, which is given by its full name."""

    target: str
    supplied: tuple[str, ...] = ()

    def load(self) -> Any:
        """Import the class or function; ImportError if its package is not installed."""
        module, _, name = self.target.rpartition(".")
        return getattr(importlib.import_module(module), name)


Count = Annotated[int, Range(1)]
Limit = Annotated[int, Range(0)]
Seed = Annotated[int, Range(0, 2**32 - 1)]
Positive = Annotated[float, Range(0, above=True)]
Share = Annotated[float, Range(0, 1)]
Dropout = Annotated[float, Range(0, 1, below=True)]
Text = Annotated[str, NotEmpty()]


def did_you_mean(name: str, known: Iterable[str], above: str = "") -> str:
    """``; did you mean x?`` if a known name is similar, else an empty string.

    ``above`` stands before the name in the answer, and does not count.
    """
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {above}{close[0]}?" if close else ""
