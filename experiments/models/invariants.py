"""What networks on events of a fixed number of particles share.

Legend: B events, P particles of each.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from experiments.data.batch import EventBatch
from experiments.errors import UserError

_SMALLEST = 1e-12


def by_event(batch: EventBatch, particles: int) -> Tensor:
    """Momenta ``(B, P, 4)`` in GeV.

    Raises
    ------
    UserError
        If events have another number of particles.
    """
    if any(length != particles for length in batch.packing.lengths):
        found = sorted(set(batch.packing.lengths))
        raise UserError(
            f"model.particles={particles}: events have {', '.join(map(str, found))} particles; "
            "give how many each event has"
        )
    return batch.fourmomenta.unflatten(0, (-1, particles))


class Invariants(nn.Module):
    """Logarithms of the sizes of the Minkowski products of all pairs of particles.

    Parameters
    ----------
    particles
        Particles of each event P.
    """

    first: Tensor
    second: Tensor

    def __init__(self, particles: int) -> None:
        super().__init__()
        first, second = torch.triu_indices(particles, particles, 1)
        self.register_buffer("first", first, persistent=False)
        self.register_buffer("second", second, persistent=False)

    @property
    def channels(self) -> int:
        """Number of pairs."""
        return len(self.first)

    def forward(self, p: Tensor) -> Tensor:
        """Map momenta ``(B, P, 4)`` to ``(B, pairs)``."""
        a, b = p[:, self.first], p[:, self.second]
        products = a[..., 0] * b[..., 0] - (a[..., 1:] * b[..., 1:]).sum(-1)
        return products.abs().clamp_min(_SMALLEST).log()


def dtype_of(module: nn.Module) -> torch.dtype:
    """The format of its parameters."""
    return next(module.parameters()).dtype


def perceptron(inputs: int, hidden: Sequence[int], outputs: int) -> nn.Sequential:
    """A multilayer perceptron with GELU."""
    layers: list[nn.Module] = []
    for channels in hidden:
        layers += [nn.Linear(inputs, channels), nn.GELU()]
        inputs = channels
    return nn.Sequential(*layers, nn.Linear(inputs, outputs))
