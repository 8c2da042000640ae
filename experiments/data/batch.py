"""Batches of events, and the specification of a data set.

Legend: T particles of all events, B events, S scalar features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from data.events.final_state import FinalState
from lgatr import Packing

WEIGHT = "weight"
"""The column of events that weights them."""


class EventBatch:
    """An immutable packed batch of events.

    Not a dataclass: Lightning converts tensors inside dataclasses by assignment, which a frozen one
    refuses.

    Parameters
    ----------
    fourmomenta
        ``(T, 4)`` as (E, px, py, pz) in GeV.
    scalars
        ``(T, S)`` features of the particles.
    packing
        Offsets of the events.
    target
        ``(B,)`` class labels, or the float64 values of a quantity.
    condition
        ``(B, U, 4)`` four-momenta of U particles that each event belongs to, in GeV, or None.
    columns
        Further values of the events by name, ``(B,)`` each, such as :data:`WEIGHT`.
    """

    __slots__ = ("columns", "condition", "fourmomenta", "packing", "scalars", "target")
    fourmomenta: Tensor
    scalars: Tensor
    packing: Packing
    target: Tensor
    condition: Tensor | None
    columns: Mapping[str, Tensor]

    def __init__(
        self,
        fourmomenta: Tensor,
        scalars: Tensor,
        packing: Packing,
        target: Tensor,
        condition: Tensor | None = None,
        columns: Mapping[str, Tensor] | None = None,
    ) -> None:
        values = {
            "fourmomenta": fourmomenta, "scalars": scalars, "packing": packing, "target": target,
            "condition": condition, "columns": dict(columns or {}),
        }  # fmt: skip
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a batch is never changed: make a new one with another {name}")

    def __reduce__(self) -> tuple[type[EventBatch], tuple[object, ...]]:
        events = self.target, self.condition, self.columns
        return EventBatch, (self.fourmomenta, self.scalars, self.packing, *events)

    def __len__(self) -> int:
        return self.packing.num_events

    def to(self, device: torch.device | str) -> EventBatch:
        """Copy to another device (called by Lightning)."""
        return self._converted(lambda x: x.to(device, non_blocking=True), self.packing.to(device))

    def pin_memory(self) -> EventBatch:
        """Copy to page-locked memory (called by data loaders)."""
        return self._converted(Tensor.pin_memory, self.packing.pin_memory())

    def _converted(self, convert: Callable[[Tensor], Tensor], packing: Packing) -> EventBatch:
        return EventBatch(
            convert(self.fourmomenta),
            convert(self.scalars),
            packing,
            convert(self.target),
            None if self.condition is None else convert(self.condition),
            {name: convert(values) for name, values in self.columns.items()},
        )

    @property
    def weight(self) -> Tensor | None:
        """Weights of the events, ``(B,)``; None if all are one."""
        return self.columns.get(WEIGHT)


@dataclass(frozen=True)
class DataSpec:
    """What a model needs to know about a data set to be built for it.

    Parameters
    ----------
    num_scalars
        Scalar features per particle.
    classes
        Names of the classes, in the order of their labels; none for a quantity.
    quantity
        What is to be predicted of each event, if not its class.
    uncertain
        Whether the uncertainty of the quantity is predicted, too.
    final_state
        What every event consists of, if events are generated.
    conditional
        Whether each is generated from another event.
    further_outputs
        Outputs of each event behind those of the classes, for further quantities.
    """

    num_scalars: int
    classes: tuple[str, ...] = ()
    quantity: str | None = None
    uncertain: bool = False
    final_state: FinalState | None = None
    conditional: bool = False
    further_outputs: int = 0

    @property
    def described(self) -> str:
        """What is predicted, for messages."""
        if self.final_state is not None:
            return f"events of {', '.join(self.final_state.names)}"
        return f"classes {', '.join(self.classes)}" if self.quantity is None else self.quantity

    @property
    def class_outputs(self) -> int:
        """Outputs per event that are logits: one per class, but 1 for two classes."""
        return len(self.classes) if len(self.classes) > 2 else 1

    @property
    def num_outputs(self) -> int:
        """Outputs per event: logits and further ones, or 1 or 2 for a quantity."""
        if self.quantity is not None:
            return 2 if self.uncertain else 1
        return self.class_outputs + self.further_outputs


def absent_classes(target: Tensor, classes: tuple[str, ...]) -> list[str]:
    """Names of the classes that do not occur among the labels."""
    counts = torch.bincount(target.cpu().long(), minlength=len(classes))
    return [name for name, count in zip(classes, counts.tolist(), strict=False) if not count]
