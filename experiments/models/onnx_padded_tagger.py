"""Taggers on padded jets, for ONNX, which has no packed sequences.

Each function computes the same logits as the packed tagger with its weights.

Legend: B jets, N places for particles in each, M tokens or particles with references, S scalars,
W numbers of a channel (16, 4), C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from experiments.data.features import SETS, Particles, columns_of, features_of
from experiments.errors import UserError
from experiments.models.baselines.lorentznet import LorentzNet, minkowski_product, signed_log
from experiments.models.baselines.part import ParticleTransformer
from experiments.models.baselines.particlenet import NEIGHBOR_FEATURES, PLANE, ParticleNet
from experiments.models.lgatr import LGATrTagger
from experiments.models.lgatr_slim import SlimTagger
from experiments.models.transformer import Transformer
from experiments.models.wrapped import WrappedTagger
from lgatr import embed_vector
from lgatr.attention import Attention, prepare_attention
from lgatr.attention.linear_cost import Linformer

Inputs = tuple[Tensor, Tensor, Tensor]
"""Four-momenta ``(B, N, 4)``, zero where there is none; scalars ``(B, N, S)``; real ``(B, N)``."""


def kinematics_of(fourmomenta: Tensor, real: Tensor, names: Sequence[str]) -> Tensor:
    """Features that need no columns, zero in padding: ``(B, N, features)``."""
    return features_of_padded(fourmomenta, real, names, ())


def features_of_padded(
    fourmomenta: Tensor, real: Tensor, names: Sequence[str], columns: Sequence[Tensor]
) -> Tensor:
    """The named features, zero in padding: ``(B, N, features)``.

    Parameters
    ----------
    fourmomenta, real
        As in :data:`Inputs`.
    names
        Names of the features.
    columns
        Those of :func:`~experiments.data.features.columns_of`, ``(B, N)`` each.
    """
    if not names:
        return fourmomenta[..., :0]
    # A particle at rest in place of padding keeps logarithms finite.
    at_rest = torch.tensor([1.0, 0.0, 0.0, 0.0], device=real.device, dtype=fourmomenta.dtype)
    jets = fourmomenta.sum(dim=1, keepdim=True).expand_as(fourmomenta)
    particles = Particles(
        torch.where(real.unsqueeze(-1), fourmomenta, at_rest).flatten(0, 1),
        jets.flatten(0, 1),
        {name: column.flatten() for name, column in zip(columns_of(names), columns, strict=True)},
    )
    found = features_of(particles, names)
    return torch.where(real.unsqueeze(-1), found.unflatten(0, real.shape), 0.0)


def _tokens(
    vectors: Tensor, references: Tensor, as_channels: bool, inputs: Inputs
) -> tuple[Tensor, Tensor, Tensor]:
    """Put a global token before each jet, and references beside it or into every token.

    Returns channels ``(B, M, C, W)``, scalars ``(B, M, 1 + S)`` and real ``(B, M)``.
    """
    _, scalars, real = inputs
    jets, new = real.shape[0], 1 if as_channels else 1 + len(references)
    front = vectors.new_zeros(1, new, vectors.shape[-1])
    if not as_channels:
        front = torch.cat([front[:, :1], references.unsqueeze(0)], dim=1)
    channels = torch.cat([front.expand(jets, -1, -1), vectors], dim=1).unsqueeze(2)
    if as_channels:
        repeated = references.expand(jets, channels.shape[1], -1, -1)
        channels = torch.cat([channels, repeated], dim=2)
    scalars = nn.functional.pad(scalars, (1, 0))
    marks = nn.functional.pad(scalars.new_ones(1, 1, 1), (0, scalars.shape[2] - 1, 0, new - 1))
    return (
        channels,
        torch.cat([marks.expand(jets, -1, -1), scalars], dim=1),
        torch.cat([real.new_ones(jets, new), real], dim=1),
    )


def _lgatr(tagger: LGATrTagger, inputs: Inputs) -> Tensor:
    vectors = embed_vector(inputs[0] / tagger.momentum_unit)
    references = tagger.references.to(vectors.dtype)
    channels, scalars, real = _tokens(vectors, references, tagger.as_channels, inputs)
    outputs, _ = tagger.network(
        channels, scalars, attn_mask=real[:, None, None, :], backend="native"
    )
    return outputs[:, 0, :, 0]


def _slim(tagger: SlimTagger, inputs: Inputs) -> Tensor:
    vectors = inputs[0] / tagger.momentum_unit
    references = tagger.references.to(vectors.dtype)
    channels, scalars, real = _tokens(vectors, references, tagger.as_channels, inputs)
    _, outputs = tagger.network(
        channels, scalars, attn_mask=real[:, None, None, :], backend="native"
    )
    return outputs[:, 0]


def _transformer(tagger: Transformer, inputs: Inputs) -> Tensor:
    vectors = inputs[0] / tagger.momentum_unit
    channels, scalars, real = _tokens(vectors, vectors.new_zeros(0, 4), True, inputs)
    x = tagger.embedding(torch.cat([channels.flatten(2), scalars], dim=2))
    mask = real[:, None, None, :]
    attend = prepare_attention(x.device, x.dtype, attn_mask=mask, backend="native")
    for block in tagger.blocks:
        x = _transformer_block(block, x, attend, real)
    return tagger.head(tagger.norm(x[:, 0]))


def _transformer_block(block: Any, x: Tensor, attend: Attention, real: Tensor) -> Tensor:
    if block.linear_cost is None:
        return block(x, attend)
    q, k, v = block.qkv(block.norm1(x)).unflatten(-1, (3, block.heads, -1)).unbind(-3)
    q, k, v = (y.transpose(1, 2) for y in (q, k, v))
    keep = real[:, None, :, None].to(x.dtype)
    if isinstance(block.linear_cost, Linformer):
        heads = block.linear_cost.attend(q, k * keep, v * keep)
    else:
        # The last channel becomes the sum of the attention weights of particles.
        weighted = block.linear_cost.attend(
            q, k, torch.cat([v * keep, keep.expand_as(v[..., :1])], -1)
        )
        heads = weighted[..., :-1] / weighted[..., -1:].clamp(min=1e-20)
    x = x + block.out(heads.transpose(1, 2).flatten(-2))
    return x + block.mlp(block.norm2(x))


def _with_all_pairs(tagger: ParticleTransformer) -> None:
    """Make weaver embed all pairs of places: the number of real pairs is unknown when exporting."""
    embeddings: list[Any] = [m for m in tagger.net.modules() if hasattr(m, "sparse_eval")]
    for embedding in embeddings:
        embedding.is_symmetric, embedding.sparse_eval = False, (False, False)


def _part(tagger: ParticleTransformer, inputs: Inputs) -> Tensor:
    fourmomenta, scalars, real = inputs
    kinematics = kinematics_of(fourmomenta, real, SETS["kinematics"])
    vectors = fourmomenta[..., [1, 2, 3, 0]]  # (px, py, pz, E) over there
    features = torch.cat([kinematics, scalars], dim=2)
    return tagger.net(features.mT, v=vectors.mT, mask=real.unsqueeze(1))


def _particlenet(tagger: ParticleNet, inputs: Inputs) -> Tensor:
    fourmomenta, scalars, real = inputs
    kinematics = kinematics_of(fourmomenta, real, (*PLANE, *NEIGHBOR_FEATURES))
    # There must be more places than neighbors.
    room = (0, tagger.min_places)
    channels = nn.functional.pad(torch.cat([kinematics, scalars], dim=2).mT, room)
    mask = nn.functional.pad(real.unsqueeze(1).to(channels.dtype), room)
    return tagger.net(channels[:, :2], channels, mask)


def _lorentznet(tagger: LorentzNet, inputs: Inputs) -> Tensor:
    fourmomenta, scalars, real = inputs
    jets, count = real.shape[0], len(tagger.references)
    references = tagger.references.to(fourmomenta.dtype).expand(jets, -1, -1)
    x = torch.cat([references, fourmomenta / tagger.momentum_unit], dim=1)
    marks = nn.functional.pad(scalars.new_ones(1, count, 1), (0, scalars.shape[2]))
    scalars = torch.cat([marks.expand(jets, -1, -1), nn.functional.pad(scalars, (1, 0))], dim=1)
    real = torch.cat([real.new_ones(jets, count), real], dim=1)
    inputs_ = torch.cat([signed_log(minkowski_product(x, x)), scalars], dim=2)
    keep = real.unsqueeze(2).to(x.dtype)
    others = 1.0 - torch.eye(x.shape[1], device=x.device, dtype=x.dtype)
    edges = (keep * keep.mT * others).unsqueeze(3)  # (B, M, M, 1)
    h = tagger.embedding(inputs_)
    for block in tagger.blocks:
        h, x = _lorentznet_block(block, h, x, inputs_, edges)
    mean = (h * keep).sum(dim=1) / keep.sum(dim=1)
    return tagger.head(mean)


def _lorentznet_block(
    block: Any, h: Tensor, x: Tensor, inputs: Tensor, edges: Tensor
) -> tuple[Tensor, Tensor]:
    difference = x.unsqueeze(2) - x.unsqueeze(1)
    invariants = (
        minkowski_product(difference, difference),
        minkowski_product(x.unsqueeze(2), x.unsqueeze(1)),
    )
    size = (-1, h.shape[1], h.shape[1], -1)
    pairs = [h.unsqueeze(2).expand(size), h.unsqueeze(1).expand(size), *map(signed_log, invariants)]
    # Batch norms take rows of channels only.
    message = block.message(torch.cat(pairs, dim=3).flatten(0, 2))
    message = (message * block.gate(message)).unflatten(0, difference.shape[:3]) * edges
    update = torch.cat([h, message.sum(dim=2), inputs], dim=2)
    h = h + block.update(update.flatten(0, 1)).unflatten(0, h.shape[:2])
    if block.step is not None:
        steps = (difference * block.step(message)).clamp(-100.0, 100.0) * edges
        x = x + block.coordinate_factor * steps.sum(dim=2) / edges.sum(dim=2).clamp(min=1.0)
    return h, x


_NETWORKS: dict[type[nn.Module], Callable[[Any, Inputs], Tensor]] = {
    LGATrTagger: _lgatr,
    SlimTagger: _slim,
    Transformer: _transformer,
    ParticleTransformer: _part,
    ParticleNet: _particlenet,
    LorentzNet: _lorentznet,
}
_REASONS = {
    "BoostedTrees": "trees are no network; take them from scikit-learn by skl2onnx",
    "Pelican": "pelican-lite sums over lists of pairs whose length ONNX cannot know",
    "LLoCaTransformer": "lloca draws frames at random where particles lie in a plane",
}


class PaddedTagger(nn.Module):
    """A tagger on zero-padded jets with the network and weights of a packed one.

    Parameters
    ----------
    tagger
        The packed tagger.
    features
        Names of the scalar features it was trained with, in order.
    max_constituents
        Particles beyond this many leading ones are ignored; 0 uses all.
    smallest_component
        Particles with any component up to this, in GeV, are ignored; 0 uses all.

    Raises
    ------
    UserError
        If the tagger has no padded form; the message says why.
    """

    def __init__(
        self,
        tagger: nn.Module,
        features: Sequence[str],
        max_constituents: int,
        smallest_component: float = 0.0,
    ) -> None:
        super().__init__()
        if isinstance(tagger, WrappedTagger):
            tagger = tagger.tagger
        kinds = type(tagger).__mro__
        known = next((kind for kind in kinds if kind in _NETWORKS), None)
        if known is None:
            reasons = [_REASONS[kind.__name__] for kind in kinds if kind.__name__ in _REASONS]
            reason = reasons[0] if reasons else "it has no form for padded jets"
            raise UserError(f"{kinds[0].__name__} does not export to ONNX: {reason}")
        if (attention := getattr(tagger, "attention", None)) is not None:
            attention.check_plain("the form for padded jets, which is exported,")
        if smallest_component and any(isinstance(m, Linformer) for m in tagger.modules()):
            raise UserError(
                "Linformer with data.smallest_component does not export to ONNX: it "
                "depends on places of particles, and there would be gaps"
            )
        self.tagger, self.features = tagger, tuple(features)
        self._logits = _NETWORKS[known]
        if isinstance(tagger, ParticleTransformer):
            _with_all_pairs(tagger)
        self.max_constituents, self.smallest_component = max_constituents, smallest_component

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of particles that the features need; see :mod:`data.columns`."""
        return columns_of(self.features)

    @property
    def max_particles(self) -> int | None:
        """Maximum number of particles in a jet; None for any number."""
        for module in self.tagger.modules():
            if isinstance(module, Linformer):
                return module.key_projection.shape[1] - 1
        return None

    def forward(self, fourmomenta: Tensor, *columns: Tensor) -> Tensor:
        """Logits ``(B, outputs)``.

        Parameters
        ----------
        fourmomenta
            ``(B, N, 4)`` as (E, px, py, pz) in GeV, leading particles first; rows with E <= 0 are
            padding.
        *columns
            Those of :attr:`columns`, ``(B, N)`` each.
        """
        if self.max_constituents and not self.smallest_component:
            fourmomenta = fourmomenta[:, : self.max_constituents]
            columns = tuple(column[:, : self.max_constituents] for column in columns)
        real = fourmomenta[..., 0] > 0
        if self.smallest_component:
            large = real & (fourmomenta.abs() > self.smallest_component).all(dim=-1)
            # A jet of nothing else keeps its first particle, as in the sample.
            first = real & (real.cumsum(dim=1) == 1) & ~large.any(dim=1, keepdim=True)
            real = large | first
            if self.max_constituents:
                real = real & (real.cumsum(dim=1) <= self.max_constituents)
        fourmomenta = torch.where(real.unsqueeze(-1), fourmomenta, 0.0)
        scalars = features_of_padded(fourmomenta, real, self.features, columns)
        return self._logits(self.tagger, (fourmomenta, scalars, real))
