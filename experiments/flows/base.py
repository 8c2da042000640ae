"""The distribution that a flow starts from: normal in momenta, within the cuts.

Legend: B events, P particles of each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from data.events.final_state import BoolArray, FinalState, FloatArray, transverse_momentum
from experiments.errors import UserError
from experiments.flows.coordinates import LEAST_MASS

_TRIES = 64
"""Events that are drawn at once for each that is wanted; more follow where none passed."""
_MOST_ROUNDS = 2000
_FOR_ACCEPTANCE = 1 << 19


class BaseDistribution(nn.Module):
    """Normal in (px, py, pz, log m^2) of each particle, restricted to events that pass the cuts.

    Both transverse components have one width, so that the distribution is symmetric around the
    beam, and all means of momenta are zero.

    Parameters
    ----------
    final_state
        Particles and cuts.
    rejects
        Whether events that fail the cuts are drawn again. Without, only those with transverse
        momenta below the cut are, which have no coordinates.
    """

    widths: Tensor
    mass_mean: Tensor
    mass_width: Tensor
    log_acceptance: Tensor

    def __init__(self, final_state: FinalState, rejects: bool = True) -> None:
        super().__init__()
        self.final_state, self.rejects = final_state, rejects
        particles = len(final_state.masses)
        self.register_buffer("widths", torch.ones(particles, 3, dtype=torch.float64))
        self.register_buffer("mass_mean", torch.zeros(particles, dtype=torch.float64))
        self.register_buffer("mass_width", torch.ones(particles, dtype=torch.float64))
        self.register_buffer("log_acceptance", torch.zeros((), dtype=torch.float64))

    def fit(self, momenta: Tensor) -> None:
        """Take the widths of events ``(B, P, 4)``, and measure how many events pass the cuts.

        Raises
        ------
        UserError
            If nearly none passes.
        """
        p = momenta.double()
        transverse = (p[..., 1].square() + p[..., 2].square()).mean(0).div(2).sqrt()
        self.widths.copy_(
            torch.stack([transverse, transverse, p[..., 3].square().mean(0).sqrt()], 1)
        )
        m2 = p[..., 0].square() - p[..., 1:].square().sum(-1)
        std, mean = torch.std_mean(m2.clamp_min(LEAST_MASS**2).log(), dim=0, correction=0)
        self.mass_mean.copy_(mean)
        self.mass_width.copy_(std.clamp_min(1e-6))
        drawn = self._drawn(np.random.default_rng(0), _FOR_ACCEPTANCE)
        share = float(self._passed(drawn).mean())
        if share < 1e-4:
            raise UserError(
                f"data.cuts: {share:.2%} of events of independent particles pass them; a flow has "
                "no base there"
            )
        self.log_acceptance.fill_(math.log(share))

    def _drawn(self, random: np.random.Generator, count: int) -> FloatArray:
        """``(count, P, 4)`` events without cuts."""
        particles = len(self.final_state.masses)
        normal = random.normal(size=(count, particles, 4))
        spatial = normal[..., 1:] * self.widths.numpy(force=True)
        log_m2 = self.mass_mean.numpy(force=True) + normal[..., 0] * self.mass_width.numpy(
            force=True
        )
        for i, mass in enumerate(self.final_state.masses):
            if mass is not None:
                log_m2[:, i] = 2 * math.log(max(mass, LEAST_MASS))
        energy = np.sqrt(np.exp(log_m2) + (spatial**2).sum(-1))
        return np.concatenate([energy[..., None], spatial], axis=-1)

    def _passed(self, events: FloatArray) -> BoolArray:
        if self.rejects:
            return self.final_state.passed(events)
        jets = events[:, self.final_state.jets]
        found: BoolArray = np.all(transverse_momentum(jets) > self.final_state.cuts.pt, axis=1)
        return found

    def drawn_within_cuts(self, random: np.random.Generator, count: int) -> FloatArray:
        """``(count, P, 4)`` events."""
        found: list[FloatArray] = []
        missing = count
        share = max(math.exp(float(self.log_acceptance)), 1e-4)
        for _ in range(_MOST_ROUNDS):
            drawn = self._drawn(random, int(1.2 * missing / share) + 16)
            kept = drawn[self._passed(drawn)][:missing]
            found.append(kept)
            missing -= len(kept)
            if not missing:
                return np.concatenate(found)
        raise UserError("data.cuts: events of independent particles hardly ever pass them")

    def sample(self, numbers: Sequence[int], seed: int) -> Tensor:
        """Events ``(B, P, 4)``, float64, on the CPU; each depends on its number and the seed alone.

        Parameters
        ----------
        numbers
            A number for each event.
        seed
            Of all of them.
        """
        found = np.empty((len(numbers), len(self.final_state.masses), 4))
        for row, number in enumerate(numbers):
            random = np.random.Generator(np.random.Philox(key=[seed, number]))
            for _ in range(_MOST_ROUNDS):
                drawn = self._drawn(random, _TRIES)
                passed = self._passed(drawn)
                if passed.any():
                    found[row] = drawn[int(passed.argmax())]
                    break
            else:
                raise UserError("data.cuts: events of independent particles hardly ever pass them")
        return torch.from_numpy(found)

    def log_density(self, momenta: Tensor) -> Tensor:
        """Logarithm of the density in (px, py, pz, log m^2), ``(B,)``.

        Outside of the cuts, where the density is zero, it is continued: a trained flow brings some
        events from closely beyond them, for which :meth:`is_inside` is false.

        Parameters
        ----------
        momenta
            ``(B, P, 4)``.
        """
        p = momenta.double()
        pulls = p[..., 1:] / self.widths
        normal = -0.5 * pulls.square() - self.widths.log() - 0.5 * math.log(2 * math.pi)
        m2 = p[..., 0].square() - p[..., 1:].square().sum(-1)
        pull = (m2.clamp_min(LEAST_MASS**2).log() - self.mass_mean) / self.mass_width
        of_mass = -0.5 * pull.square() - self.mass_width.log() - 0.5 * math.log(2 * math.pi)
        free = torch.tensor([m is None for m in self.final_state.masses], device=p.device)
        return normal.sum((1, 2)) + torch.where(free, of_mass, 0.0).sum(1) - self.log_acceptance

    def is_inside(self, momenta: Tensor) -> Tensor:
        """Which events ``(B, P, 4)`` pass the cuts of the base: ``(B,)``."""
        return torch.from_numpy(self._passed(momenta.double().numpy(force=True))).to(momenta.device)
