"""LLoCa-Transformer (arXiv 2505.20280, 2508.14898), as lloca implements it, on our attention."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Annotated, Any

import torch
from torch import Tensor

from experiments.data.batch import DataSpec, EventBatch
from experiments.data.features import SETS, Particles, features_of
from experiments.models.baselines.layout import event_mean, with_references
from experiments.models.optional import needed
from experiments.models.symmetry import SymmetryBreaking
from experiments.models.token_tagger import TokenTagger
from experiments.options.attention_choice import AttentionChoice
from experiments.options.markers import KeywordsOf
from lgatr.attention import Attention, prepare_attention

BACKEND = "lgatr"
"""Name under which lloca finds :func:`attention`: an entry point in pyproject.toml."""


def attention(query: Tensor, key: Tensor, value: Tensor, attend: Attention) -> Tensor:
    """Attention as lloca calls it: query, key, value ``(H, N, C)`` to the same shape."""
    q, k, v = (x.reshape(-1, *x.shape[-2:]).transpose(0, 1) for x in (query, key, value))
    return attend(q, k, v).transpose(0, 1).reshape(query.shape)


class LLoCaTransformer(TokenTagger):
    """A transformer in local frames that a small network predicts equivariantly.

    Every particle enters with its momentum and seven kinematic features in its own frame; messages
    are transformed from frame to frame.

    Parameters
    ----------
    spec
        Specification of the data set.
    symmetry_breaking
        Reference vectors, as further particles (``place: tokens``).
    momentum_unit
        Four-momenta are divided by this many GeV.
    frames
        Keywords of :class:`lloca.equivectors.mlp.MLPVectors`, the network that predicts frames.
    network
        Keywords of :class:`lloca.backbone.transformer.Transformer` beside inputs and outputs.
    attention
        Attention backend.
    """

    def __init__(
        self,
        spec: DataSpec,
        symmetry_breaking: SymmetryBreaking,
        momentum_unit: float,
        frames: Annotated[
            dict[str, Any], KeywordsOf("lloca.equivectors.mlp.MLPVectors", ("num_scalars",))
        ],
        network: Annotated[
            dict[str, Any],
            KeywordsOf("lloca.backbone.transformer.Transformer", ("in_channels", "out_channels")),
        ],
        attention: AttentionChoice,
    ) -> None:
        attention.check_plain("lloca")
        super().__init__(symmetry_breaking.particles(), False, attention, momentum_unit)
        with warnings.catch_warnings():
            # torch_geometric, which lloca imports, still calls torch.jit.script.
            warnings.simplefilter("ignore", DeprecationWarning)
            backbone = needed("lloca.backbone.transformer", "lloca")
            equivectors = needed("lloca.equivectors.mlp", "lloca")
            framesnet = needed("lloca.framesnet.equi_frames", "lloca")
        scalars = 1 + spec.num_scalars
        predictor = partial(equivectors.MLPVectors, num_scalars=scalars, **frames)
        self.frames = framesnet.LearnedPDFrames(equivectors=predictor)
        self.net = backbone.Transformer(
            in_channels=4 + len(SETS["kinematics"]) + scalars,
            out_channels=spec.num_outputs,
            **network,
        )

    def forward(self, batch: EventBatch) -> Tensor:
        """Logits ``(B, outputs)``."""
        momenta = batch.fourmomenta.to(self.references.dtype) / self.momentum_unit
        p, scalars, packing = with_references(batch, momenta, self.references)
        ptr = packing.ptr.long()
        # Standardises the invariants of pairs by those of the first batch.
        self.frames.equivectors.init_standardization(p, ptr)
        frames = self.frames(p, scalars, ptr=ptr)
        index = packing.batch_index()
        particles = 1.0 - scalars[:, :1]  # references are no part of the jet
        jets = p.new_zeros(packing.num_events, 4).index_add(0, index, p * particles)
        local, jet = (torch.einsum("nij,nj->ni", frames.matrices, x) for x in (p, jets[index]))
        there = Particles(local * self.momentum_unit, jet * self.momentum_unit)
        features = features_of(there, SETS["kinematics"])
        attend = prepare_attention(p.device, p.dtype, packing=packing, **self.attention.keywords)
        self.last_attention = attend
        outputs = self.net(
            torch.cat([local, features, scalars], dim=1),
            frames,
            p_ref=jets,
            ptr=ptr,
            backend=BACKEND,
            attend=attend,
        )
        return event_mean(outputs, packing)
