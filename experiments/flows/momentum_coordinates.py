"""Momenta themselves as coordinates: trajectories that are straight in momentum space.

Legend: B events, P particles of each. Coordinates ``(B, P, 4)`` are (px, py, pz, log m^2),
standardised.
"""

from __future__ import annotations

import torch
from torch import Tensor

from experiments.flows.coordinates import LEAST_MASS, LOG_M2, Coordinates


class MomentumCoordinates(Coordinates):
    """Momenta, for comparison: cuts on transverse momenta are not built in (arXiv:2411.00446).

    Parameters are those of :class:`~experiments.flows.coordinates.Coordinates`.
    """

    scalar_components = (LOG_M2,)

    def fit(self, momenta: Tensor) -> None:
        """Standardise by events ``(B, P, 4)``, with one width for all components of momenta."""
        raw = self._raw(momenta.double())
        std, mean = torch.std_mean(raw, dim=0, correction=0)
        mean[:, :LOG_M2] = 0.0
        std[:, :LOG_M2] = raw[..., :LOG_M2].square().mean().sqrt()
        fixed = ~self.is_free[:, LOG_M2]
        mean[fixed, LOG_M2], std[fixed, LOG_M2] = self.fixed_m2[fixed].log(), 1.0
        self.mean.copy_(mean)
        self.std.copy_(std.clamp_min(1e-6))

    def _raw(self, p: Tensor) -> Tensor:
        m2 = p[..., 0].square() - p[..., 1:].square().sum(-1)
        m2 = torch.where(self.is_free[:, LOG_M2], m2.clamp_min(LEAST_MASS**2), self.fixed_m2)
        return torch.cat([p[..., 1:], m2.log().unsqueeze(-1)], dim=-1)

    def momenta(self, x: Tensor) -> Tensor:
        """Momenta of coordinates ``(B, P, 4)``, in float64."""
        raw = x.double() * self.std + self.mean
        spatial = raw[..., :LOG_M2]
        energy = (raw[..., LOG_M2].exp() + spatial.square().sum(-1)).sqrt()
        return torch.cat([energy.unsqueeze(-1), spatial], dim=-1)

    def velocity(self, momenta: Tensor, of_momenta: Tensor) -> Tensor:
        """Velocity of coordinates from that of momenta."""
        p, v = momenta, of_momenta
        m2 = p[..., 0].square() - p[..., 1:].square().sum(-1)
        d_m2 = 2 * (p[..., 0] * v[..., 0] - (p[..., 1:] * v[..., 1:]).sum(-1))
        of_mass = (d_m2 / m2.clamp_min(LEAST_MASS**2)).unsqueeze(-1)
        return self.kept(torch.cat([v[..., 1:], of_mass], dim=-1) / self.std)

    def difference(self, end: Tensor, start: Tensor) -> Tensor:
        """From ``start`` to ``end``."""
        return end - start

    def inputs(self, x: Tensor) -> Tensor:
        """Five numbers ``(B, P, 5)`` for networks without symmetry, the last one zero."""
        return torch.nn.functional.pad(x, (0, 1))

    def log_volume(self, x: Tensor) -> Tensor:
        """Logarithm of the volume in (px, py, pz, log m^2) over that of coordinates, ``(B,)``."""
        return self.log_scale.expand(len(x))
