"""A tagger on padded jets, for runtimes that know no packing.

Legend: B jets, N places for particles in each, G = 16 blades.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from experiments.features import FEATURES, Kinematics
from experiments.models.lgatr import LGATrTagger
from lgatr import embed_vector


class PaddedTagger(nn.Module):
    """The same network and weights as a packed tagger, on zero-padded jets.

    Parameters
    ----------
    tagger
        The packed tagger.
    features
        Names of the scalar features it was trained with, in order.
    max_constituents
        Particles beyond this many leading ones are ignored; 0 uses all.
    """

    def __init__(self, tagger: LGATrTagger, features: Sequence[str], max_constituents: int) -> None:
        super().__init__()
        self.tagger, self.features = tagger, tuple(features)
        self.max_constituents = max_constituents

    def forward(self, fourmomenta: Tensor) -> Tensor:
        """Logits ``(B, outputs)``.

        Parameters
        ----------
        fourmomenta
            ``(B, N, 4)`` as (E, px, py, pz) in GeV, leading particles first; rows with E <= 0 are
            padding.
        """
        if self.max_constituents:
            fourmomenta = fourmomenta[:, : self.max_constituents]
        real = fourmomenta[..., :1] > 0
        fourmomenta = torch.where(real, fourmomenta, 0.0)
        multivectors = embed_vector(fourmomenta / self.tagger.momentum_unit)
        scalars = self._scalars(fourmomenta, real)

        spurions = self.tagger.spurions.to(multivectors.dtype)
        new = 1 if self.tagger.as_channels else 1 + len(spurions)
        front = multivectors.new_zeros(1, new, 16)
        if not self.tagger.as_channels:
            front = torch.cat([front[:, :1], spurions.unsqueeze(0)], dim=1)
        jets = fourmomenta.shape[0]
        tokens = torch.cat([front.expand(jets, -1, -1), multivectors], dim=1).unsqueeze(2)
        if self.tagger.as_channels:
            channels = spurions.expand(jets, tokens.shape[1], -1, -1)
            tokens = torch.cat([tokens, channels], dim=2)

        first = nn.functional.pad(scalars.new_ones(1, 1, 1), (0, scalars.shape[2] - 1, 0, new - 1))
        keys = torch.cat([real.new_ones(jets, new), real.squeeze(2)], dim=1)
        outputs, _ = self.tagger.network(
            tokens,
            torch.cat([first.expand(jets, -1, -1), scalars], dim=1),
            attn_mask=keys[:, None, None, :],
            backend="native",
        )
        logits: Tensor = outputs[:, 0, :, 0]
        return logits

    def _scalars(self, fourmomenta: Tensor, real: Tensor) -> Tensor:
        """The mark of the global token (none here), then the features: ``(B, N, 1 + S)``."""
        marks = torch.zeros_like(fourmomenta[..., :1])
        if not self.features:
            return marks
        # Padding stands in with a particle at rest, so that logarithms stay finite.
        at_rest = torch.tensor([1.0, 0.0, 0.0, 0.0], device=real.device, dtype=fourmomenta.dtype)
        jets = fourmomenta.sum(dim=1, keepdim=True).expand_as(fourmomenta)
        kinematics = Kinematics(
            torch.where(real, fourmomenta, at_rest).flatten(0, 1), jets.flatten(0, 1)
        )
        features = torch.stack([FEATURES[name](kinematics) for name in self.features], dim=1)
        features = torch.where(real, features.view(*real.shape[:2], -1), 0.0)
        return torch.cat([marks, features], dim=2)
