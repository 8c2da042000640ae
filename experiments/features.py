"""Scalar features of particles, computed from four-momenta.

All of them refer to the beam axis or to the jet, so they break Lorentz symmetry down to rotations
about the beam (and boosts along it, for those that are differences). Shifts and factors bring
them to order one for jets of several hundred GeV.

Legend: T particles, B events.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lgatr import Packing


@dataclass(frozen=True)
class Kinematics:
    """Particles and the jet each belongs to, ``(T, 4)`` each, (E, px, py, pz) in GeV."""

    particle: Tensor
    jet: Tensor


def _pt(p: Tensor) -> Tensor:
    return p[:, 1:3].norm(dim=1).clamp(min=1e-6)


def _eta(p: Tensor) -> Tensor:
    return torch.asinh(p[:, 3] / _pt(p))


def _delta_eta(k: Kinematics) -> Tensor:
    return _eta(k.particle) - _eta(k.jet)


def _delta_phi(k: Kinematics) -> Tensor:
    x, y = k.particle[:, 1], k.particle[:, 2]
    a, b = k.jet[:, 1], k.jet[:, 2]
    return torch.atan2(a * y - b * x, a * x + b * y)


def _delta_r(k: Kinematics) -> Tensor:
    # Not torch.hypot, which ONNX does not have.
    return (_delta_eta(k).square() + _delta_phi(k).square()).sqrt()


FEATURES: dict[str, Callable[[Kinematics], Tensor]] = {
    "log_pt": lambda k: 0.7 * (_pt(k.particle).log() - 1.7),
    "log_energy": lambda k: 0.7 * (k.particle[:, 0].log() - 2.0),
    "log_pt_relative": lambda k: 0.7 * ((_pt(k.particle) / _pt(k.jet)).log() + 4.7),
    "log_energy_relative": lambda k: 0.7 * ((k.particle[:, 0] / k.jet[:, 0]).log() + 4.7),
    "delta_eta": lambda k: 2.0 * _delta_eta(k),
    "delta_phi": lambda k: 2.0 * _delta_phi(k),
    "delta_r": lambda k: 4.0 * (_delta_r(k) - 0.2),
}
"""Feature by name: natural logarithms of GeV or of ratios, pseudorapidity, radians."""


def compute_features(fourmomenta: Tensor, packing: Packing, names: Sequence[str]) -> Tensor:
    """The named features of every particle, ``(T, len(names))``.

    Raises
    ------
    ValueError
        If a name is unknown.
    """
    unknown = [name for name in names if name not in FEATURES]
    if unknown:
        raise ValueError(f"no feature {', '.join(unknown)}; there are {', '.join(FEATURES)}")
    if not names:
        return fourmomenta.new_empty(len(fourmomenta), 0)
    index = packing.batch_index()
    jets = fourmomenta.new_zeros(packing.num_events, 4).index_add(0, index, fourmomenta)
    kinematics = Kinematics(fourmomenta, jets[index])
    return torch.stack([FEATURES[name](kinematics) for name in names], dim=1)
