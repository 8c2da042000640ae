"""Deep sets with invariants (DSI, arXiv:2405.14806): for events of a fixed number of particles.

Legend: B events, P particles of each, S types of particles, L latent channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from experiments.data.batch import DataSpec, EventBatch
from experiments.models.invariants import Invariants, by_event, dtype_of, perceptron
from experiments.options.markers import Count, Positive


class DSI(nn.Module):
    """Sums over particles of one type, and the invariants of all pairs, to outputs.

    A network of each type maps momenta to latent channels; their sums do not depend on the order
    of particles of one type. A second one maps the sums of all types and the logarithms of the
    Minkowski products to the outputs.

    Parameters
    ----------
    spec
        Specification of the data set, whose scalars are the types of the particles.
    particles
        Particles of each event P.
    hidden_channels, num_layers
        Width and number of the hidden layers of all networks.
    latent_channels
        L.
    momentum_unit
        Four-momenta are divided by this many GeV.
    """

    def __init__(
        self,
        spec: DataSpec,
        particles: Count,
        hidden_channels: Count,
        num_layers: Count,
        latent_channels: Count,
        momentum_unit: Positive,
    ) -> None:
        super().__init__()
        self.particles, self.momentum_unit = particles, momentum_unit
        types = spec.num_scalars
        hidden = [hidden_channels] * num_layers
        self.of_types = nn.ModuleList(perceptron(4, hidden, latent_channels) for _ in range(types))
        self.invariants = Invariants(particles)
        channels = types * latent_channels + self.invariants.channels
        self.readout = perceptron(channels, hidden, spec.num_outputs)

    def forward(self, batch: EventBatch) -> Tensor:
        """Map a batch to outputs ``(B, outputs)``."""
        p = by_event(batch, self.particles) / self.momentum_unit
        dtype = dtype_of(self)
        members = batch.scalars.to(dtype).unflatten(0, (-1, self.particles))
        momenta = p.to(dtype)
        sums = [
            (net(momenta) * members[..., i : i + 1]).sum(1) for i, net in enumerate(self.of_types)
        ]
        outputs: Tensor = self.readout(torch.cat([*sums, self.invariants(p).to(dtype)], dim=1))
        return outputs
