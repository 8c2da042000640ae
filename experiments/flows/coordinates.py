"""Coordinates of particles in which a flow's trajectories are straight.

Legend: B events, P particles of each. Momenta ``(B, P, 4)`` are (E, px, py, pz) in GeV; coordinates
``(B, P, 4)`` are (log(pT - pT_min), phi, eta, log m^2), with standardised first, third and fourth
components (arXiv:2411.00446, section 6).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

LEAST_MASS = 0.1
"""GeV: jets that are lighter, such as of one photon, get this mass, because of the logarithm."""
LOG_PT, PHI, ETA, LOG_M2 = range(4)


def wrapped(angle: Tensor) -> Tensor:
    """Angles brought to the interval from -pi to pi."""
    return torch.remainder(angle + math.pi, 2 * math.pi) - math.pi


class Coordinates(nn.Module):
    """The map from momenta to coordinates and back, and that of velocities.

    Subclasses are other coordinates (:mod:`experiments.flows.momentum_coordinates`).

    Parameters
    ----------
    pt_min
        Smallest transverse momentum of each particle in GeV.
    masses
        Of each particle in GeV; None where it differs from event to event. The coordinate of a
        fixed mass is always zero.
    periodic
        Whether trajectories go the shorter way around in phi.
    """

    scalar_components: tuple[int, ...] = (LOG_PT, LOG_M2)
    """Components whose velocities are scalars of equivariant networks: their derivatives by momenta
    are large where transverse momentum is near the cut, and mass near zero."""

    mean: Tensor
    std: Tensor
    pt_min: Tensor
    fixed_m2: Tensor
    is_free: Tensor

    def __init__(
        self, pt_min: Sequence[float], masses: Sequence[float | None], periodic: bool = True
    ) -> None:
        super().__init__()
        self.periodic = periodic
        particles = len(masses)
        fixed = [LEAST_MASS if mass is None else max(mass, LEAST_MASS) for mass in masses]
        least, masses_of_all = (torch.tensor(x, dtype=torch.float64) for x in (pt_min, fixed))
        self.register_buffer("pt_min", least, persistent=False)
        self.register_buffer("fixed_m2", masses_of_all.square(), persistent=False)
        free = torch.ones(particles, 4, dtype=torch.bool)
        free[:, LOG_M2] = torch.tensor([mass is None for mass in masses])
        self.register_buffer("is_free", free, persistent=False)
        self.register_buffer("mean", torch.zeros(particles, 4, dtype=torch.float64))
        self.register_buffer("std", torch.ones(particles, 4, dtype=torch.float64))

    @property
    def particles(self) -> int:
        """Number of particles P."""
        return len(self.pt_min)

    def fit(self, momenta: Tensor) -> None:
        """Standardise by events ``(B, P, 4)``; phi stays as it is."""
        raw = self._raw(momenta.double())
        std, mean = torch.std_mean(raw, dim=0, correction=0)
        mean[:, PHI], std[:, PHI] = 0.0, 1.0
        fixed = ~self.is_free[:, LOG_M2]
        mean[fixed, LOG_M2], std[fixed, LOG_M2] = self.fixed_m2[fixed].log(), 1.0
        self.mean.copy_(mean)
        self.std.copy_(std.clamp_min(1e-6))

    def _raw(self, p: Tensor) -> Tensor:
        pt = torch.hypot(p[..., 1], p[..., 2])
        m2 = p[..., 0].square() - p[..., 1:].square().sum(-1)
        m2 = torch.where(self.is_free[:, LOG_M2], m2.clamp_min(LEAST_MASS**2), self.fixed_m2)
        return torch.stack(
            [
                (pt - self.pt_min).clamp_min(1e-6).log(),
                torch.atan2(p[..., 2], p[..., 1]),
                torch.asinh(p[..., 3] / pt),
                m2.log(),
            ],
            dim=-1,
        )

    def of(self, momenta: Tensor) -> Tensor:
        """Coordinates of momenta ``(B, P, 4)``, in float64."""
        return (self._raw(momenta.double()) - self.mean) / self.std

    def momenta(self, x: Tensor) -> Tensor:
        """Momenta of coordinates ``(B, P, 4)``, in float64."""
        log_pt, phi, eta, log_m2 = (x.double() * self.std + self.mean).unbind(-1)
        pt = self.pt_min + log_pt.exp()
        spatial = torch.stack([pt * phi.cos(), pt * phi.sin(), pt * eta.sinh()], dim=-1)
        energy = (log_m2.exp() + spatial.square().sum(-1)).sqrt()
        return torch.cat([energy.unsqueeze(-1), spatial], dim=-1)

    def velocity(self, momenta: Tensor, of_momenta: Tensor) -> Tensor:
        """Velocity of coordinates from that of momenta, by the derivative of :meth:`of`.

        Parameters
        ----------
        momenta, of_momenta
            ``(B, P, 4)``: where, and in which direction in GeV per unit of time.
        """
        p, v = momenta, of_momenta
        pt = torch.hypot(p[..., 1], p[..., 2])
        size = torch.hypot(pt, p[..., 3])
        d_pt = (p[..., 1] * v[..., 1] + p[..., 2] * v[..., 2]) / pt
        m2 = p[..., 0].square() - p[..., 1:].square().sum(-1)
        d_m2 = 2 * (p[..., 0] * v[..., 0] - (p[..., 1:] * v[..., 1:]).sum(-1))
        found = torch.stack(
            [
                d_pt / (pt - self.pt_min).clamp_min(1e-6),
                (p[..., 1] * v[..., 2] - p[..., 2] * v[..., 1]) / pt.square(),
                (pt * v[..., 3] - p[..., 3] * d_pt) / (pt * size),
                d_m2 / m2.clamp_min(LEAST_MASS**2),
            ],
            dim=-1,
        )
        return self.kept(found / self.std)

    def kept(self, velocity: Tensor) -> Tensor:
        """A velocity of coordinates without the components of fixed masses."""
        return torch.where(self.is_free, velocity, 0.0)

    def difference(self, end: Tensor, start: Tensor) -> Tensor:
        """From ``start`` to ``end``, the shorter way around in phi if it is periodic."""
        found = end - start
        if not self.periodic:
            return found
        return torch.cat(
            [found[..., :PHI], wrapped(found[..., PHI : PHI + 1]), found[..., PHI + 1 :]], dim=-1
        )

    def inputs(self, x: Tensor) -> Tensor:
        """Five numbers ``(B, P, 5)`` for networks without symmetry: cosine and sine of phi."""
        phi = x[..., PHI : PHI + 1]
        parts = [x[..., :PHI], phi.cos(), phi.sin(), x[..., PHI + 1 :]]
        return torch.cat(parts, dim=-1)

    def log_volume(self, x: Tensor) -> Tensor:
        """Logarithm of the volume in (px, py, pz, log m^2) over that of coordinates, ``(B,)``.

        Parameters
        ----------
        x
            Coordinates ``(B, P, 4)``.
        """
        raw = x.double() * self.std + self.mean
        pt = self.pt_min + raw[..., LOG_PT].exp()
        # px, py: pT dpT dphi, dpT = (pT - pT_min) dlog; pz: pT cosh(eta) deta.
        found = 2 * pt.log() + raw[..., LOG_PT] + raw[..., ETA].cosh().log()
        return found.sum(-1) + self.log_scale

    @property
    def log_scale(self) -> Tensor:
        """Logarithm of the volume in plain coordinates over that of standardised ones."""
        return torch.where(self.is_free, self.std, 1.0).log().sum()
