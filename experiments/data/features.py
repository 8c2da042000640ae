"""Scalar features of particles: kinematics, particle identification, displacements.

Kinematics refer to the beam axis or to the jet, so they break Lorentz symmetry down to rotations
about the beam (and boosts along it, for those that are differences). Shifts and factors bring
them to order one for jets of several hundred GeV. The others are columns of the sample
(:mod:`data.columns`), brought to order one.

Legend: T particles, B events.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial

import torch
from torch import Tensor

from lgatr import Packing


def _pt(p: Tensor) -> Tensor:
    return p[:, 1:3].norm(dim=1).clamp(min=1e-6)


@dataclass(frozen=True)
class Kinematics:
    """Four-momenta of particles and of their jets, ``(T, 4)`` as (E, px, py, pz) in GeV.

    ``columns`` holds further properties of the particles, ``(T,)`` each. What several features
    are made of is computed once.
    """

    particle: Tensor
    jet: Tensor
    columns: Mapping[str, Tensor] = field(default_factory=dict)

    @cached_property
    def pt(self) -> Tensor:
        """Transverse momenta of particles in GeV, ``(T,)``."""
        return _pt(self.particle)

    @cached_property
    def jet_pt(self) -> Tensor:
        """Transverse momenta of their jets in GeV, ``(T,)``."""
        return _pt(self.jet)

    @cached_property
    def delta_eta(self) -> Tensor:
        """Pseudorapidities of particles relative to their jets, ``(T,)``."""
        jet = torch.asinh(self.jet[:, 3] / self.jet_pt)
        return torch.asinh(self.particle[:, 3] / self.pt) - jet

    @cached_property
    def delta_phi(self) -> Tensor:
        """Azimuths of particles relative to their jets in radians, ``(T,)``."""
        x, y = self.particle[:, 1], self.particle[:, 2]
        a, b = self.jet[:, 1], self.jet[:, 2]
        return torch.atan2(a * y - b * x, a * x + b * y)

    @property
    def delta_r(self) -> Tensor:
        """Distances of particles from the axes of their jets, ``(T,)``."""
        # Not torch.hypot, which ONNX does not have.
        return (self.delta_eta.square() + self.delta_phi.square()).sqrt()


def _column(name: str, k: Kinematics) -> Tensor:
    if name not in k.columns:
        known = ", ".join(k.columns) or "none; features of four-momenta are the set kinematics"
        raise ValueError(
            f"the feature {name!r} needs a column of that name, and the sample does not have it; "
            f"columns of its particles: {known}"
        )
    return k.columns[name]


def _tanh(name: str, k: Kinematics) -> Tensor:
    return _column(name, k).tanh()


def _clipped(name: str, k: Kinematics) -> Tensor:
    return _column(name, k).clamp(0.0, 1.0)


JET_FEATURES: dict[str, Callable[[Kinematics], Tensor]] = {
    "log_pt": lambda k: 0.7 * (k.pt.log() - 1.7),
    "log_energy": lambda k: 0.7 * (k.particle[:, 0].log() - 2.0),
    "log_pt_relative": lambda k: 0.7 * ((k.pt / k.jet_pt).log() + 4.7),
    "log_energy_relative": lambda k: 0.7 * ((k.particle[:, 0] / k.jet[:, 0]).log() + 4.7),
    "delta_eta": lambda k: 2.0 * k.delta_eta,
    "delta_phi": lambda k: 2.0 * k.delta_phi,
    "delta_r": lambda k: 4.0 * (k.delta_r - 0.2),
    "charge": partial(_column, "charge"),
    "is_charged_hadron": partial(_column, "is_charged_hadron"),
    "is_neutral_hadron": partial(_column, "is_neutral_hadron"),
    "is_photon": partial(_column, "is_photon"),
    "is_electron": partial(_column, "is_electron"),
    "is_muon": partial(_column, "is_muon"),
    "d0": partial(_tanh, "d0"),
    "d0_error": partial(_clipped, "d0_error"),
    "dz": partial(_tanh, "dz"),
    "dz_error": partial(_clipped, "dz_error"),
}
"""Feature by name: natural logarithms of GeV or of ratios, pseudorapidity, radians; tanh of
displacements in mm, and their errors cut off at 1 mm."""

SETS: dict[str, tuple[str, ...]] = {
    "fourmomenta": (),
    "kinematics": (
        "log_pt", "log_energy", "log_pt_relative", "log_energy_relative",
        "delta_eta", "delta_phi", "delta_r",
    ),
    "pid": (
        "charge", "is_charged_hadron", "is_neutral_hadron", "is_photon", "is_electron", "is_muon",
    ),
    "displacements": ("d0", "d0_error", "dz", "dz_error"),
}  # fmt: skip
"""Features that are used together. ``fourmomenta`` adds none: four-momenta are always inputs."""

SETS["default"] = SETS["kinematics"] + SETS["pid"] + SETS["displacements"]


def feature_names(names: Sequence[str]) -> tuple[str, ...]:
    """Replace the names of sets by the features in them.

    Raises
    ------
    ValueError
        If a name is unknown.
    """
    unknown = [name for name in names if name not in JET_FEATURES and name not in SETS]
    if unknown:
        raise ValueError(
            f"no feature {', '.join(unknown)}; there are {', '.join(JET_FEATURES)}, "
            f"and the sets {', '.join(SETS)}"
        )
    found = [feature for name in names for feature in SETS.get(name, (name,))]
    return tuple(dict.fromkeys(found))


def features_of(kinematics: Kinematics, names: Sequence[str]) -> Tensor:
    """Compute features by name (no sets), ``(T, features)``."""
    return torch.stack([JET_FEATURES[name](kinematics) for name in names], dim=1)


def compute_features(
    fourmomenta: Tensor,
    packing: Packing,
    names: Sequence[str],
    columns: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """Compute the named features and sets of every particle, ``(T, features)``.

    Raises
    ------
    ValueError
        If a name is unknown, or the sample lacks its column.
    """
    names = feature_names(names)
    if not names:
        return fourmomenta.new_empty(len(fourmomenta), 0)
    index = packing.batch_index()
    jets = fourmomenta.new_zeros(packing.num_events, 4).index_add(0, index, fourmomenta)
    return features_of(Kinematics(fourmomenta, jets[index], columns or {}), names)
