"""LorentzNet (arXiv 2201.08187), written from its paper, which came without a package.

Legend: N particles and references, E pairs, H hidden channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from experiments.data.batch import DataSpec, EventBatch
from experiments.models.baselines.layout import event_mean, pairs, with_references
from experiments.models.symmetry import SymmetryBreaking


def signed_log(x: Tensor) -> Tensor:
    """ψ(x) = sgn(x) log(|x| + 1), which compresses the range of invariants."""
    return x.sign() * x.abs().log1p()


def minkowski_product(x: Tensor, y: Tensor) -> Tensor:
    """Minkowski product of vectors ``(..., 4)``, as ``(..., 1)``."""
    z = x * y
    return z[..., :1] - z[..., 1:].sum(dim=-1, keepdim=True)


class LorentzGroupBlock(nn.Module):
    r"""A Lorentz group equivariant block: messages, then coordinates and scalars.

    .. math::

        m_{ij} = \phi_e(h_i, h_j, \psi(|x_i - x_j|^2), \psi(\langle x_i, x_j \rangle)), \quad
        x_i' = x_i + c \sum_j \phi_x(m_{ij}) (x_i - x_j), \quad
        h_i' = h_i + \phi_h(h_i, \textstyle\sum_j \phi_m(m_{ij}) m_{ij}, s_i)

    with the mean for the first sum, and the input scalars s.

    Parameters
    ----------
    hidden
        Hidden channels.
    inputs
        Number of input scalars, which every block takes again.
    coordinate_factor
        Step size of coordinates, c in the paper.
    dropout
        Dropout probability in the update of scalars.
    updates_coordinates
        Whether coordinates are updated; those of the last block are not used.
    """

    def __init__(
        self,
        hidden: int,
        inputs: int,
        coordinate_factor: float,
        dropout: float,
        updates_coordinates: bool,
    ) -> None:
        super().__init__()
        self.coordinate_factor = coordinate_factor
        self.message = nn.Sequential(
            nn.Linear(2 * hidden + 2, hidden, bias=False),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
        )
        self.gate = nn.Sequential(nn.Linear(hidden, 1), nn.Sigmoid())
        self.update = nn.Sequential(
            nn.Linear(2 * hidden + inputs, hidden),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.Dropout(dropout),
        )
        self.step = None
        if updates_coordinates:
            last = nn.Linear(hidden, 1, bias=False)
            nn.init.xavier_uniform_(last.weight, gain=0.001)
            self.step = nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(), last)

    def forward(
        self, h: Tensor, x: Tensor, inputs: Tensor, edges: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Map scalars ``(N, H)`` and coordinates ``(N, 4)`` to updated ones."""
        i, j = edges
        difference = x[i] - x[j]
        invariants = [minkowski_product(difference, difference), minkowski_product(x[i], x[j])]
        message = self.message(torch.cat([h[i], h[j], *map(signed_log, invariants)], dim=1))
        message = message * self.gate(message)
        received = torch.zeros_like(h).index_add(0, i, message)
        h = h + self.update(torch.cat([h, received, inputs], dim=1))
        if self.step is not None:
            # Clipped, so that one huge step does not make training diverge.
            steps = (difference * self.step(message)).clamp(-100.0, 100.0)
            partners = torch.zeros_like(x[:, :1]).index_add(0, i, torch.ones_like(steps[:, :1]))
            total = torch.zeros_like(x).index_add(0, i, steps)
            x = x + self.coordinate_factor * total / partners.clamp(min=1.0)
        return h, x


class LorentzNet(nn.Module):
    """Message passing over all pairs with Minkowski norms and products.

    Parameters
    ----------
    spec
        Specification of the data set.
    symmetry_breaking
        Reference vectors, as further particles (``place: tokens``).
    momentum_unit
        Four-momenta are divided by this many GeV.
    hidden_channels, num_blocks
        Width and depth.
    coordinate_factor, dropout
        As of :class:`LorentzGroupBlock`.
    """

    executed_attention = "none"
    references: Tensor

    def __init__(
        self,
        spec: DataSpec,
        symmetry_breaking: SymmetryBreaking,
        momentum_unit: float,
        hidden_channels: int,
        num_blocks: int,
        coordinate_factor: float,
        dropout: float,
    ) -> None:
        super().__init__()
        self.momentum_unit = momentum_unit
        self.register_buffer("references", symmetry_breaking.particles(), persistent=False)
        inputs = 2 + spec.num_scalars
        self.embedding = nn.Linear(inputs, hidden_channels)
        self.blocks = nn.ModuleList(
            LorentzGroupBlock(
                hidden_channels,
                inputs,
                coordinate_factor,
                dropout,
                updates_coordinates=k + 1 < num_blocks,
            )
            for k in range(num_blocks)
        )
        self.head = nn.Sequential(
            nn.Linear(hidden_channels, hidden_channels),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden_channels, spec.num_outputs),
        )

    def forward(self, batch: EventBatch) -> Tensor:
        """Logits ``(B, outputs)``."""
        momenta = batch.fourmomenta.to(self.references.dtype) / self.momentum_unit
        x, scalars, packing = with_references(batch, momenta, self.references)
        inputs = torch.cat([signed_log(minkowski_product(x, x)), scalars], dim=1)
        edges = pairs(packing, loops=False)
        h = self.embedding(inputs)
        for block in self.blocks:
            h, x = block(h, x, inputs, edges)
        logits: Tensor = self.head(event_mean(h, packing))
        return logits
