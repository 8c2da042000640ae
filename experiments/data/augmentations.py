"""Random transformations of training jets under which their class does not change.

Each time a jet is seen it is rotated, reflected or boosted in a way that leaves the distribution of
its class unchanged, exactly or approximately. A network learns from these what it does not know
by its own symmetry.

Legend: T particles, B events. Momenta ``(T, 4)`` are (E, px, py, pz) in GeV.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from lgatr import Packing


@dataclass(frozen=True)
class Events:
    """What an augmentation may depend on besides momenta.

    Parameters
    ----------
    axes
        ``(B, 3)`` unit vectors along the jets.
    index
        ``(T,)`` the event of each particle.
    drawn
        ``(B,)`` float64 random numbers, uniform from 0 to 1.
    """

    axes: Tensor
    index: Tensor
    drawn: Tensor

    def uniform(self, low: float, high: float) -> Tensor:
        """One uniform random number per event: ``(B,)``."""
        return low + (high - low) * self.drawn


Augmentation = Callable[[Tensor, Events], Tensor]
"""Momenta ``(T, 4)``, events → new momenta."""

RAPIDITY = 0.5
"""Largest boost along the beam."""


def _rotated(p: Tensor, axis: Tensor, angle: Tensor, index: Tensor) -> Tensor:
    """Rotate momenta about unit vectors ``(T, 3)`` by angles ``(B,)`` (Rodrigues' formula)."""
    momentum = p[:, 1:]
    cos, sin = angle.cos()[index, None], angle.sin()[index, None]
    along = (momentum * axis).sum(dim=1, keepdim=True) * axis
    turned = along + cos * (momentum - along) + sin * torch.linalg.cross(axis, momentum)
    return torch.cat([p[:, :1], turned], dim=1)


def rotation_about_jet(p: Tensor, events: Events) -> Tensor:
    """Rotate each jet about its axis by a random angle.

    Energies and invariants are kept; the decay plane takes a random orientation to the beam.
    """
    axis = events.axes[events.index]
    return _rotated(p, axis, events.uniform(-math.pi, math.pi), events.index)


def rotation_about_beam(p: Tensor, events: Events) -> Tensor:
    """Rotate each jet about the beam by a random angle, an exact symmetry of collisions."""
    # Not from a list of numbers, whose copy to a GPU would wait for it.
    beam = p.new_zeros(3)
    beam[2] = 1.0
    angle = events.uniform(-math.pi, math.pi)
    return _rotated(p, beam.expand(len(p), 3), angle, events.index)


def mirror(p: Tensor, events: Events) -> Tensor:
    """Reflect each jet in the plane of beam and jet axis with probability 1/2."""
    axes = events.axes
    across = torch.stack([-axes[:, 1], axes[:, 0], torch.zeros_like(axes[:, 0])], dim=1)
    across = torch.nn.functional.normalize(across, dim=1)[events.index]
    twice = 2.0 * (events.uniform(0.0, 1.0) < 0.5).to(p.dtype)
    component = (p[:, 1:] * across).sum(dim=1, keepdim=True)
    return torch.cat([p[:, :1], p[:, 1:] - twice[events.index, None] * component * across], dim=1)


def boost_along_beam(p: Tensor, events: Events) -> Tensor:
    """Boost each jet along the beam by a rapidity of up to :data:`RAPIDITY`."""
    rapidity = events.uniform(-RAPIDITY, RAPIDITY)
    cosh, sinh = rapidity.cosh()[events.index], rapidity.sinh()[events.index]
    energy, z = p[:, 0], p[:, 3]
    return torch.stack(
        [cosh * energy + sinh * z, p[:, 1], p[:, 2], sinh * energy + cosh * z], dim=1
    )


AUGMENTATIONS: dict[str, Augmentation] = {
    "rotation_about_jet": rotation_about_jet,
    "rotation_about_beam": rotation_about_beam,
    "mirror": mirror,
    "boost_along_beam": boost_along_beam,
}
"""Augmentation by name."""

_KEEPS_DISPLACEMENTS = ("rotation_about_beam",)
_DISPLACEMENTS = frozenset({"d0", "dz"})


def check_augmentations(names: Sequence[str], features: Sequence[str]) -> None:
    """Raise :class:`ValueError` for an unknown name, or one that invalidates a feature.

    Displacements are relative to a track's direction and are not transformed with the momenta; only
    rotations about the beam leave them valid.
    """
    unknown = [name for name in names if name not in AUGMENTATIONS]
    if unknown:
        raise ValueError(
            f"no augmentation {', '.join(unknown)}; there are {', '.join(AUGMENTATIONS)}"
        )
    spoiling = [name for name in names if name not in _KEEPS_DISPLACEMENTS]
    if spoiling and _DISPLACEMENTS & set(features):
        raise ValueError(
            f"augmentation {', '.join(spoiling)} turns momenta but not the displacements d0 and "
            "dz; leave out one or the other"
        )


def draw(names: Sequence[str], events: int, generator: Generator) -> Tensor:
    """The random numbers of augmentations: ``(names, events)`` float64, uniform from 0 to 1.

    They are drawn on the CPU, so that every device has the same.
    """
    drawn = [torch.rand(events, generator=generator, dtype=torch.float64) for _ in names]
    return torch.stack(drawn) if drawn else torch.empty(0, events, dtype=torch.float64)


def augment(fourmomenta: Tensor, packing: Packing, names: Sequence[str], draws: Tensor) -> Tensor:
    """Apply the named augmentations in turn to momenta ``(T, 4)``; returns the same dtype.

    Computed in float64, so that invariant masses are kept, on the device of the momenta.

    Parameters
    ----------
    draws
        As of :func:`draw`, on the same device.
    """
    if not names:
        return fourmomenta
    p, index = fourmomenta.double(), packing.batch_index()
    for name, drawn in zip(names, draws, strict=True):
        jets = p.new_zeros(packing.num_events, 3).index_add(0, index, p[:, 1:])
        axes = torch.nn.functional.normalize(jets, dim=1)
        p = AUGMENTATIONS[name](p, Events(axes, index, drawn))
    return p.to(fourmomenta.dtype)
