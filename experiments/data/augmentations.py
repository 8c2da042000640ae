"""Random transformations of training jets under which their class does not change.

Each time a jet is seen it is rotated, reflected or boosted in a way that leaves the distribution of
its class unchanged, exactly or approximately. A network learns from these what it does not know
by its own symmetry.

Legend: T particles, B events. Momenta ``(T, 4)`` are (E, px, py, pz) in GeV.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor

from lgatr import Packing

Augmentation = Callable[[Tensor, Tensor, Packing, Generator], Tensor]
"""Momenta, the jet's axis of every particle ``(T, 3)``, packing, generator → new momenta."""

RAPIDITY = 0.5
"""Largest boost along the beam."""


def _uniform(packing: Packing, low: float, high: float, generator: Generator) -> Tensor:
    """One uniform random number per event, repeated for its particles: ``(T,)`` in float64."""
    drawn = torch.rand(packing.num_events, generator=generator, dtype=torch.float64)
    return (low + (high - low) * drawn)[packing.batch_index()]


def _rotated(p: Tensor, axis: Tensor, angle: Tensor) -> Tensor:
    """Rotate momenta about unit vectors ``(T, 3)`` by angles ``(T,)`` (Rodrigues' formula)."""
    momentum = p[:, 1:]
    cos, sin = angle.cos()[:, None], angle.sin()[:, None]
    along = (momentum * axis).sum(dim=1, keepdim=True) * axis
    turned = along + cos * (momentum - along) + sin * torch.linalg.cross(axis, momentum)
    return torch.cat([p[:, :1], turned], dim=1)


def rotation_about_jet(p: Tensor, axis: Tensor, packing: Packing, rng: Generator) -> Tensor:
    """Rotate each jet about its axis by a random angle.

    Energies and invariants are kept; the decay plane takes a random orientation to the beam.
    """
    return _rotated(p, axis, _uniform(packing, -math.pi, math.pi, rng))


def rotation_about_beam(p: Tensor, axis: Tensor, packing: Packing, rng: Generator) -> Tensor:
    """Rotate each jet about the beam by a random angle, an exact symmetry of collisions."""
    beam = p.new_tensor([0.0, 0.0, 1.0]).expand(len(p), 3)
    return _rotated(p, beam, _uniform(packing, -math.pi, math.pi, rng))


def mirror(p: Tensor, axis: Tensor, packing: Packing, rng: Generator) -> Tensor:
    """Reflect each jet in the plane of beam and jet axis with probability 1/2."""
    across = torch.stack([-axis[:, 1], axis[:, 0], torch.zeros_like(axis[:, 0])], dim=1)
    across = torch.nn.functional.normalize(across, dim=1)
    chosen = (_uniform(packing, 0.0, 1.0, rng) < 0.5).to(p.dtype)[:, None]
    component = (p[:, 1:] * across).sum(dim=1, keepdim=True)
    return torch.cat([p[:, :1], p[:, 1:] - 2.0 * chosen * component * across], dim=1)


def boost_along_beam(p: Tensor, axis: Tensor, packing: Packing, rng: Generator) -> Tensor:
    """Boost each jet along the beam by a rapidity of up to :data:`RAPIDITY`."""
    rapidity = _uniform(packing, -RAPIDITY, RAPIDITY, rng)
    cosh, sinh = rapidity.cosh(), rapidity.sinh()
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


def augment(
    fourmomenta: Tensor, packing: Packing, names: Sequence[str], generator: Generator
) -> Tensor:
    """Apply the named augmentations in turn to momenta ``(T, 4)``; returns the same dtype.

    Computed in float64, so that invariant masses are kept.
    """
    if not names:
        return fourmomenta
    p, index = fourmomenta.double(), packing.batch_index()
    for name in names:
        jets = p.new_zeros(packing.num_events, 3).index_add(0, index, p[:, 1:])
        axis = torch.nn.functional.normalize(jets, dim=1)[index]
        p = AUGMENTATIONS[name](p, axis, packing, generator)
    return p.to(fourmomenta.dtype)
