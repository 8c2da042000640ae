"""What is kept of the events of a sample: one row of numbers for each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

S = TypeVar("S", bound="OfSample")


class OfSample:
    """Base of dataclasses of tensors ``(J, ...)`` with a class method ``joined(parts)``."""

    @classmethod
    def joined(cls, parts: Any) -> Any:
        """Concatenate those of batches, on the CPU."""
        raise NotImplementedError

    def of_all_processes(self: S) -> S:
        """Concatenate with those of all other processes, if there are any, by their rank."""
        if not (distributed.is_available() and distributed.is_initialized()):
            return self
        parts: list[S | None] = [None] * distributed.get_world_size()
        distributed.all_gather_object(parts, self)
        found: S = self.joined([part for part in parts if part is not None])
        return found

    def in_order(self: S, rows: Tensor) -> S:
        """Those of the same events in the order of ``rows`` ``(J,)``, the row of each event."""
        found: S = _ordered(self, torch.argsort(rows))
        return found


def _ordered(value: Any, order: Tensor) -> Any:
    """Of values of another number of events, such as densities of some of them, none move."""
    if isinstance(value, Tensor):
        return value[order] if len(value) == len(order) else value
    if isinstance(value, Mapping):
        return {name: _ordered(inner, order) for name, inner in value.items()}
    if isinstance(value, OfSample):
        names = [field.name for field in fields(value)]  # type: ignore[arg-type]
        return replace(value, **{n: _ordered(getattr(value, n), order) for n in names})  # type: ignore[type-var]
    return value
