"""A multilayer perceptron on all momenta of an event: for events of a fixed number of particles.

Legend: B events, P particles of each.
"""

from __future__ import annotations

from typing import Annotated

from torch import Tensor, nn

from experiments.data.batch import DataSpec, EventBatch
from experiments.models.invariants import Invariants, by_event, dtype_of, perceptron
from experiments.options.markers import Count, OneOf, Positive

INPUTS = ("momenta", "invariants")


class MLP(nn.Module):
    """Momenta side by side, or their Minkowski products, to outputs.

    Scalar features are left out: they are the same in all events of a process.

    Parameters
    ----------
    spec
        Specification of the data set.
    particles
        Particles of each event P.
    inputs
        ``momenta`` are the ``4 P`` components; ``invariants`` the logarithms of the sizes of the
        Minkowski products of all pairs, which are Lorentz-invariant.
    hidden_channels, num_layers
        Width and number of the hidden layers.
    momentum_unit
        Four-momenta are divided by this many GeV.
    """

    def __init__(
        self,
        spec: DataSpec,
        particles: Count,
        inputs: Annotated[str, OneOf(INPUTS)],
        hidden_channels: Count,
        num_layers: Count,
        momentum_unit: Positive,
    ) -> None:
        super().__init__()
        self.particles, self.momentum_unit = particles, momentum_unit
        self.invariants = Invariants(particles) if inputs == "invariants" else None
        channels = 4 * particles if self.invariants is None else self.invariants.channels
        self.layers = perceptron(channels, [hidden_channels] * num_layers, spec.num_outputs)

    def forward(self, batch: EventBatch) -> Tensor:
        """Map a batch to outputs ``(B, outputs)``."""
        p = by_event(batch, self.particles) / self.momentum_unit
        x = p.flatten(1) if self.invariants is None else self.invariants(p)
        outputs: Tensor = self.layers(x.to(dtype_of(self)))
        return outputs
