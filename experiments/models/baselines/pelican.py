"""PELICAN (arXiv 2211.00454, 2307.16506), as pelican-lite implements it."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from torch import Tensor, nn

from experiments.data.batch import DataSpec, EventBatch
from experiments.models.baselines.layout import pairs, with_references
from experiments.models.optional import needed
from experiments.models.symmetry import SymmetryBreaking
from experiments.options.markers import KeywordsOf

_SIZES = ("in_channels_rank2", "in_channels_rank1", "in_channels_rank0", "out_rank", "out_channels")


class Pelican(nn.Module):
    """Permutation-equivariant layers on the matrix of all invariants of pairs.

    Reference vectors join the particles of every event. Invariant under all Lorentz
    transformations of momenta and references; scalars of the data set are invariant by
    themselves or break it.

    Parameters
    ----------
    spec
        Specification of the data set.
    symmetry_breaking
        Reference vectors; pelican-lite knows them as particles only (``place: tokens``).
    momentum_unit
        Four-momenta are divided by this many GeV.
    network
        Keywords of :class:`pelican.PELICAN` besides its inputs and outputs.
    """

    executed_attention = "none"
    references: Tensor

    def __init__(
        self,
        spec: DataSpec,
        symmetry_breaking: SymmetryBreaking,
        momentum_unit: float,
        network: Annotated[dict[str, Any], KeywordsOf("pelican.PELICAN", _SIZES)],
    ) -> None:
        super().__init__()
        package = needed("pelican", "pelican")
        self.edge_features = needed("pelican.utils", "pelican").get_edge_attr
        self.momentum_unit = momentum_unit
        self.register_buffer("references", symmetry_breaking.particles(), persistent=False)
        self.net = package.PELICAN(
            in_channels_rank2=1,
            in_channels_rank1=1 + spec.num_scalars,
            in_channels_rank0=0,
            out_rank=0,
            out_channels=spec.num_outputs,
            **network,
        )

    def forward(self, batch: EventBatch) -> Tensor:
        """Logits ``(B, outputs)``."""
        momenta = batch.fourmomenta / self.momentum_unit
        vectors, scalars, packing = with_references(batch, momenta, self.references)
        edges = torch.stack(pairs(packing, loops=True))
        invariants = self.edge_features(vectors, edges)
        logits: Tensor = self.net(
            edges,
            packing.batch_index(),
            in_rank2=invariants.unsqueeze(1).to(momenta.dtype),
            in_rank1=scalars,
            num_graphs=packing.num_events,
        )
        return logits
