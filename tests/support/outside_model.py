"""A model of a package that the experiments do not know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from experiments.options.markers import OneOf, Range


@dataclass
class Inner:
    """Of a package that is not known here."""

    width: int
    mode: Literal["a", "b"] = "a"


class Outside:
    """A model with annotations and nothing else."""

    def __init__(
        self,
        spec: Any,
        inner: Inner,
        num_blocks: int,
        scale: Annotated[float, Range(0, above=True)] = 1.0,
        names: list[str] | None = None,
        kind: Annotated[str, OneOf(("x", "y"))] = "x",
        untyped=None,
        dropout=0.1,
    ) -> None: ...
