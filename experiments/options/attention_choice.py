"""The options of attention: which backend, and its dtype."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any

from experiments.options.markers import OneOf
from lgatr.attention.registry import choices

FORMATS = ("float16", "bfloat16", "float32", "float64")


@dataclass(frozen=True)
class AttentionChoice:
    """Options of attention.

    Parameters
    ----------
    name
        Name of a backend, or ``auto``.
    strict
        Whether to fail if the backend has no kernel for the device.
    compute_dtype
        Dtype of attention, such as ``bfloat16``; None for that of the network.
    """

    name: Annotated[str, OneOf(choices)]
    strict: bool
    compute_dtype: Annotated[str, OneOf(FORMATS)] | None = None

    @cached_property
    def keywords(self) -> dict[str, Any]:
        """Keywords of a network's forward call, or of ``prepare_attention``."""
        return {"backend": self.name, "strict": self.strict, "compute_dtype": self.compute_dtype}
