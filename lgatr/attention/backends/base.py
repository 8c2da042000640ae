"""Interface of backends: a table of capabilities, ``plan`` per forward pass, ``attend`` per layer.

Legend: T tokens, H heads, K key-value heads (H or a divisor: 1 for multi-query), D
head width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from lgatr.attention.pattern.spec import AttentionSpec


@dataclass(frozen=True)
class Capabilities:
    """What a backend can do, as data.

    Parameters
    ----------
    features
        Names out of :data:`lgatr.attention.pattern.features.PATTERN_FEATURES`.
    devices
        Device types with a kernel.
    dtypes
        Number formats with a kernel.
    training_devices
        Device types with a backward kernel; None means ``devices``.
    max_head_width
        Widest heads D, or None for any.
    """

    features: frozenset[str]
    devices: frozenset[str]
    dtypes: frozenset[torch.dtype]
    training_devices: frozenset[str] | None = None
    max_head_width: int | None = None

    def has_kernel(self, device: torch.device, training: bool) -> bool:
        """Whether there is a kernel for the device."""
        devices = self.devices if self.training_devices is None else self.training_devices
        return device.type in (devices if training else self.devices)

    def missing(
        self, spec: AttentionSpec, device: torch.device, dtype: torch.dtype, training: bool = False
    ) -> list[str]:
        """Features, device or format that ``spec`` needs and the backend lacks."""
        lacking = sorted(spec.features() - self.features)
        if not self.has_kernel(device, False):
            lacking.append(f"device {device.type}")
        elif not self.has_kernel(device, training):
            lacking.append(f"training on device {device.type}")
        if dtype not in self.dtypes:
            lacking.append(str(dtype).removeprefix("torch."))
        return lacking


_RENAMED = {
    "unavailable": "import_error",
    "unloaded": "load_error",
    "refuses": "unsupported",
    "problem": "why_unusable",
}


class Backend(ABC):
    """One way to run attention. A file of this package holds one under the name ``BACKEND``."""

    name: ClassVar[str]
    capabilities: ClassVar[Capabilities]
    priority: ClassVar[int] = 0
    """``auto`` takes the usable backend with the highest preference, by default this number."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for old, new in _RENAMED.items():
            if old in vars(cls):
                raise TypeError(f"{cls.__name__}.{old} is called {new} now; rename it")

    @classmethod
    def import_error(cls) -> str | None:
        """Why the package behind this backend cannot be imported, or None if it can."""
        return None

    @classmethod
    def load_error(cls, device: torch.device) -> str | None:
        """Why the kernels of an installed backend cannot be loaded for ``device``, or None."""
        return None

    @classmethod
    def preference(cls, spec: AttentionSpec, device: torch.device) -> int:
        """Preference of ``auto`` for this backend; the highest usable one is taken."""
        return cls.priority

    @classmethod
    def unsupported(cls, spec: AttentionSpec) -> str | None:
        """What in ``spec`` the backend cannot do although it has all its features, or None."""
        return None

    @classmethod
    def why_unusable(
        cls,
        spec: AttentionSpec,
        device: torch.device,
        dtype: torch.dtype,
        training: bool = False,
        width: int | None = None,
    ) -> str | None:
        """Why this backend cannot run ``spec``, or None if it can."""
        reason = cls.import_error()
        if reason is not None:
            return reason
        missing = cls.capabilities.missing(spec, device, dtype, training)
        if missing:
            return f"no kernel for {', '.join(missing)}"
        reason = cls.load_error(device)
        if reason is not None:
            return reason
        widest = cls.capabilities.max_head_width
        if widest is not None and width is not None and width > widest:
            return f"heads are {width} numbers wide, and its kernels end at {widest}"
        return cls.unsupported(spec)

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
        Tensor shaped like ``q``, as wide as the heads of ``v``.
        """

    def attend_partial(
        self, q: Tensor, k: Tensor, v: Tensor, spec: AttentionSpec, plan: Any
    ) -> tuple[Tensor, Tensor]:
        """Attention to a part of the keys, with what is needed to merge it with other parts.

        Backends that can do it have the feature ``partial``.

        Returns
        -------
        out
            As of :meth:`attend`.
        lse
            ``(..., T, H)``: logarithm of the sum of exponentials of each query's scores.
        """
        raise NotImplementedError(f"attention={self.name} gives no log-sum-exp")
