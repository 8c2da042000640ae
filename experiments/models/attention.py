"""The choice of an attention backend, as configurations make it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


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

    name: str
    strict: bool
    compute_dtype: str | None = None

    def keywords(self) -> dict[str, Any]:
        """For a forward call of a network."""
        return {"backend": self.name, "strict": self.strict, "compute_dtype": self.compute_dtype}
