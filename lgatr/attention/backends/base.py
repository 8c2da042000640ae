"""What a backend is: a table of capabilities, ``plan`` once per forward, ``attend`` per layer.

Legend: T tokens, H heads, K key-value heads (H, or 1 for multi-query), D head width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from lgatr.attention.spec import AttentionSpec


@dataclass(frozen=True)
class Capabilities:
    """What a backend can do, as data.

    Parameters
    ----------
    features
        Subset of ``dense``, ``packed``, ``cross``, ``mask``, ``causal``, ``dropout``, ``scale``.
    devices
        Device types with a kernel.
    dtypes
        Number formats with a kernel.
    """

    features: frozenset[str]
    devices: frozenset[str]
    dtypes: frozenset[torch.dtype]

    def missing(self, spec: AttentionSpec, device: torch.device, dtype: torch.dtype) -> list[str]:
        """What ``spec`` on ``device`` in ``dtype`` would need and is not there."""
        lacking = sorted(spec.features() - self.features)
        if device.type not in self.devices:
            lacking.append(f"device {device.type}")
        if dtype not in self.dtypes:
            lacking.append(str(dtype).removeprefix("torch."))
        return lacking


class Backend(ABC):
    """One way to run attention. Subclasses live one per file and register themselves by name."""

    name: ClassVar[str]
    capabilities: ClassVar[Capabilities]
    priority: ClassVar[int] = 0
    """``auto`` takes the usable backend with the highest priority."""

    @classmethod
    def unavailable(cls) -> str | None:
        """Why this backend cannot be imported here, or None if it can."""
        return None

    @abstractmethod
    def plan(self, spec: AttentionSpec, device: torch.device) -> Any:
        """Lower ``spec`` for this backend; the result serves all layers of a forward pass."""

    @abstractmethod
    def attend(self, q: Tensor, k: Tensor, v: Tensor, spec: AttentionSpec, plan: Any) -> Tensor:
        """Scaled dot-product attention.

        Parameters
        ----------
        q
            ``(T, H, D)`` for packed batches, ``(..., items, H, D)`` for dense ones.
        k, v
            Likewise with K heads.
        spec
            The pattern.
        plan
            What :meth:`plan` made of it.

        Returns
        -------
        Tensor shaped like ``q``.
        """
