"""The options of attention: which backend, and in which format it computes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any

from experiments.options.markers import OneOf
from lgatr.attention.registry import choices

FORMATS = ("float16", "bfloat16", "float32", "float64")


@dataclass(frozen=True)
class AttentionChoice:
    """Which attention backend to use.

    Parameters
    ----------
    name
        ``auto`` or a backend.
    strict
        Whether to fail where the backend has no kernel for the device.
    compute_dtype
        Format to compute attention in, such as ``bfloat16``; None is that of the network.
    """

    name: Annotated[str, OneOf(choices)]
    strict: bool
    compute_dtype: Annotated[str, OneOf(FORMATS)] | None = None

    @cached_property
    def keywords(self) -> dict[str, Any]:
        """Keywords of a network's forward call, or of ``prepare_attention``."""
        return {"backend": self.name, "strict": self.strict, "compute_dtype": self.compute_dtype}
