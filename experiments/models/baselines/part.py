"""ParT, the Particle Transformer (arXiv 2202.03772), as weaver-core implements it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from experiments.data.batch import DataSpec, EventBatch
from experiments.data.features import SETS, compute_features
from experiments.models.baselines.layout import pad_events
from experiments.models.optional import needed


class ParticleTransformer(nn.Module):
    """A transformer whose attention is biased by invariants of pairs of particles.

    It sees the seven kinematic features of its paper and the scalars of the data set.

    Parameters
    ----------
    spec
        Specification of the data set.
    embed_dims, pair_embed_dims
        Widths of the embeddings of particles and of pairs.
    num_heads, num_layers, num_cls_layers
        Numbers of heads, of particle blocks, and of class-token blocks.
    dropout
        Dropout probability in the particle blocks.
    fc_params
        Width and dropout of each layer before the last.
    """

    executed_attention = "weaver"

    def __init__(
        self,
        spec: DataSpec,
        embed_dims: Sequence[int],
        pair_embed_dims: Sequence[int],
        num_heads: int,
        num_layers: int,
        num_cls_layers: int,
        dropout: float,
        fc_params: Sequence[tuple[int, float]],
    ) -> None:
        super().__init__()
        module = needed("weaver.nn.model.ParticleTransformer", "part")
        rates = {n: dropout for n in ("dropout", "attn_dropout", "activation_dropout")}
        self.net = module.ParticleTransformer(
            input_dim=len(SETS["kinematics"]) + spec.num_scalars,
            num_classes=spec.num_outputs,
            pair_input_dim=4,
            embed_dims=tuple(embed_dims),
            pair_embed_dims=tuple(pair_embed_dims),
            num_heads=num_heads,
            num_layers=num_layers,
            num_cls_layers=num_cls_layers,
            block_params=rates,
            cls_block_params=dict.fromkeys(rates, 0.0),
            fc_params=[(width, rate) for width, rate in fc_params],
            trim=False,
        )

    def forward(self, batch: EventBatch) -> Tensor:
        """Logits ``(B, outputs)``."""
        kinematics = compute_features(batch.fourmomenta, batch.packing, SETS["kinematics"])
        momenta = batch.fourmomenta[:, [1, 2, 3, 0]]  # weaver takes (px, py, pz, E)
        values = torch.cat([momenta, kinematics, batch.scalars.to(kinematics.dtype)], dim=1)
        padded, real = pad_events(values, batch.packing)
        vectors, features = padded.mT.split([4, values.shape[1] - 4], dim=1)
        logits: Tensor = self.net(features, v=vectors, mask=real.unsqueeze(1))
        return logits
