"""Scalar features of particles: kinematics, particle identification, displacements.

Kinematics refer to the beam axis or to the jet, so they break Lorentz symmetry down to rotations
about the beam (and boosts along it, for those that are differences). Shifts and factors bring
them to order one for jets of several hundred GeV. The others are columns of the sample
(:mod:`data.columns`), brought to order one.

Legend: T particles, B events.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from lgatr import Packing


def _pt(p: Tensor) -> Tensor:
    return p[:, 1:3].norm(dim=1).clamp(min=1e-6)


@dataclass(frozen=True)
class Particles:
    """Particles: what features are computed from, each part once.

    Parameters
    ----------
    particle, jet
        Four-momenta of particles and of their jets, ``(T, 4)`` as (E, px, py, pz) in GeV.
    columns
        Further properties of the particles by name, ``(T,)`` each; see :mod:`data.columns`.
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


@dataclass(frozen=True)
class Feature:
    """A feature of particles.

    Parameters
    ----------
    compute
        Maps the particles to ``(T,)``.
    columns
        Names of the columns that it is computed from, of those in :mod:`data.columns`.
    """

    compute: Callable[[Particles], Tensor]
    columns: tuple[str, ...] = ()

    @classmethod
    def of_column(cls, name: str, function: Callable[[Tensor], Tensor] = lambda x: x) -> Feature:
        """A function of one column."""
        return cls(lambda particles: function(particles.columns[name]), (name,))


def _up_to_one(x: Tensor) -> Tensor:
    return x.clamp(0.0, 1.0)


FEATURES: dict[str, Feature] = {
    "log_pt": Feature(lambda p: 0.7 * (p.pt.log() - 1.7)),
    "log_energy": Feature(lambda p: 0.7 * (p.particle[:, 0].log() - 2.0)),
    "log_pt_relative": Feature(lambda p: 0.7 * ((p.pt / p.jet_pt).log() + 4.7)),
    "log_energy_relative": Feature(lambda p: 0.7 * ((p.particle[:, 0] / p.jet[:, 0]).log() + 4.7)),
    "delta_eta": Feature(lambda p: 2.0 * p.delta_eta),
    "delta_phi": Feature(lambda p: 2.0 * p.delta_phi),
    "delta_r": Feature(lambda p: 4.0 * (p.delta_r - 0.2)),
    "charge": Feature.of_column("charge"),
    "is_charged_hadron": Feature.of_column("is_charged_hadron"),
    "is_neutral_hadron": Feature.of_column("is_neutral_hadron"),
    "is_photon": Feature.of_column("is_photon"),
    "is_electron": Feature.of_column("is_electron"),
    "is_muon": Feature.of_column("is_muon"),
    "d0": Feature.of_column("d0", torch.tanh),
    "d0_error": Feature.of_column("d0_error", _up_to_one),
    "dz": Feature.of_column("dz", torch.tanh),
    "dz_error": Feature.of_column("dz_error", _up_to_one),
}
"""Feature by name: natural logarithms of GeV or of ratios, pseudorapidity, radians; tanh of
displacements in mm, and their errors cut off at 1 mm."""

COLUMN = "column."
"""``column.NAME`` is a column of the sample as it is, for those that no feature is made of."""

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


def _is_feature(name: str) -> bool:
    return name in FEATURES or (name.startswith(COLUMN) and name != COLUMN)


def _feature(name: str) -> Feature:
    return FEATURES[name] if name in FEATURES else Feature.of_column(name.removeprefix(COLUMN))


def feature_names(names: Sequence[str]) -> tuple[str, ...]:
    """Replace the names of sets by the features in them.

    Raises
    ------
    ValueError
        If a name is unknown.
    """
    unknown = [name for name in names if name not in SETS and not _is_feature(name)]
    if unknown:
        raise ValueError(
            f"no feature {', '.join(unknown)}; there are {', '.join(FEATURES)}, the sets "
            f"{', '.join(SETS)}, and {COLUMN}NAME for columns of the sample"
        )
    found = [feature for name in names for feature in SETS.get(name, (name,))]
    return tuple(dict.fromkeys(found))


def columns_of(names: Sequence[str], there: Iterable[str] | None = None) -> tuple[str, ...]:
    """The columns that features (no sets) are computed from, each once.

    Parameters
    ----------
    names
        Of features.
    there
        Columns of the sample, if they are to be compared.

    Raises
    ------
    ValueError
        If the sample lacks one.
    """
    known = None if there is None else tuple(there)
    for name in names:
        for column in _feature(name).columns:
            if known is not None and column not in known:
                others = ", ".join(known) or "none"
                raise ValueError(
                    f"the feature {name!r} needs the column {column!r}, and the sample does not "
                    f"have it; columns of its particles: {others}; features of four-momenta are "
                    "the set kinematics"
                )
    return tuple(dict.fromkeys(column for name in names for column in _feature(name).columns))


def features_of(particles: Particles, names: Sequence[str]) -> Tensor:
    """Compute features by name (no sets), ``(T, features)``.

    Raises
    ------
    ValueError
        If the particles lack a column.
    """
    columns_of(names, particles.columns)
    return torch.stack([_feature(name).compute(particles) for name in names], dim=1)


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
    return features_of(Particles(fourmomenta, jets[index], columns or {}), names)
