"""Sixteen observables of jet substructure, for classifiers that take a fixed number of inputs.

With momentum fractions z of the particles and distances R from the jet axis or from each other:
mass, multiplicity, transverse momentum, mass over it, angularities :math:`\\sum z R^\\beta`
(arXiv:1408.3122), :math:`\\sqrt{\\sum z^2}`, leading fractions, the number of particles that carry
90 % of the momentum, and two-point correlators :math:`\\sum_{i<j} z_i z_j R_{ij}^\\beta`
(arXiv:1305.0007).

Legend: T particles, B events, P pairs of particles.
"""

from __future__ import annotations

import torch
from torch import Tensor

from experiments.data.batch import EventBatch
from lgatr import Packing

NAMES = (
    "mass", "multiplicity", "pt", "mass_over_pt", "angularity_0.5", "angularity_1", "angularity_2",
    "ptd", "fraction_1", "fraction_2", "fraction_3", "fraction_1_to_5", "number_90",
    "correlator_0.5", "correlator_1", "correlator_2",
)  # fmt: skip
_EXPONENTS = (0.5, 1.0, 2.0)
_LEADING = 5


def _directions(p: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Transverse momentum, pseudorapidity, azimuth."""
    pt = p[:, 1:3].norm(dim=1).clamp(min=1e-9)
    return pt, torch.asinh(p[:, 3] / pt), torch.atan2(p[:, 2], p[:, 1])


def _distance(eta: Tensor, phi: Tensor) -> Tensor:
    """Of differences of directions."""
    turn = torch.remainder(phi + torch.pi, 2 * torch.pi) - torch.pi
    return torch.hypot(eta, turn)


def _pairs(packing: Packing) -> tuple[Tensor, Tensor, Tensor]:
    """Both particles of all pairs i < j inside events, and their event: ``(P,)`` each."""
    first, second, event = [], [], []
    start = 0
    for number, n in enumerate(packing.lengths):
        i, j = torch.triu_indices(n, n, 1)
        first.append(start + i)
        second.append(start + j)
        event.append(torch.full_like(i, number))
        start += n
    return torch.cat(first), torch.cat(second), torch.cat(event)


def observables(batch: EventBatch) -> Tensor:
    """``(B, 16)`` float64, in the order of :data:`NAMES`."""
    p, packing = batch.fourmomenta.double(), batch.packing
    events, index = packing.num_events, packing.batch_index()

    def total(values: Tensor, where: Tensor = index) -> Tensor:
        return values.new_zeros(events, *values.shape[1:]).index_add(0, where, values)

    jet = total(p)
    mass = (jet[:, 0].square() - jet[:, 1:].square().sum(dim=1)).clamp(min=0).sqrt()
    jet_pt, jet_eta, jet_phi = _directions(jet)
    pt, eta, phi = _directions(p)
    z = pt / total(pt)[index]
    radius = _distance(eta - jet_eta[index], phi - jet_phi[index])
    columns = [mass, total(torch.ones_like(pt)), jet_pt, mass / jet_pt]
    columns += [total(z * radius**beta) for beta in _EXPONENTS]
    columns.append(total(z.square()).sqrt())

    # Particles by event and falling fraction: their place in the event is then the rank.
    order = torch.argsort(index - z / 2)
    rank = torch.arange(len(z)) - packing.ptr[:-1].long()[index]
    fractions = z[order]
    leading = z.new_zeros(events, _LEADING)
    shown = rank < _LEADING
    leading[index[shown], rank[shown]] = fractions[shown]
    columns += [leading[:, 0], leading[:, 1], leading[:, 2], leading.sum(dim=1)]
    sums = fractions.cumsum(0) - torch.arange(events)[index]
    columns.append(total((sums - fractions < 0.9 - 1e-9).double()))

    i, j, event = _pairs(packing)
    apart, weight = _distance(eta[i] - eta[j], phi[i] - phi[j]), z[i] * z[j]
    columns += [total(weight * apart**beta, event) for beta in _EXPONENTS]
    return torch.stack(columns, dim=1)
