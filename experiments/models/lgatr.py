"""L-GATr as a tagger: particles and reference vectors in, one number per event out.

Legend: T particles, B events, N tokens of all events, G = 16 blades.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from experiments.batch import DataSpec, EventBatch
from lgatr import LGATr, embed_vector, get_spurions


@dataclass(frozen=True)
class AttentionChoice:
    """Which attention backend to use.

    Parameters
    ----------
    name
        ``auto`` or a backend.
    strict
        Whether to fail where the backend has no kernel for the device.
    compute_dtype
        Format to compute attention in, such as ``bfloat16``; None is that of the network.
    """

    name: str
    strict: bool
    compute_dtype: str | None = None

    def keywords(self) -> dict[str, Any]:
        """For a forward call of a network."""
        return {"backend": self.name, "strict": self.strict, "compute_dtype": self.compute_dtype}


@dataclass(frozen=True)
class SymmetryBreaking:
    """Reference multivectors that tell the network about beam and laboratory frame.

    Parameters
    ----------
    beam_spurion, add_time_spurion, beam_mirror
        See :func:`lgatr.get_spurions`.
    place
        ``"tokens"`` adds them to every event as tokens, ``"channels"`` to every token as
        multivector channels.
    """

    beam_spurion: str | None
    add_time_spurion: bool
    beam_mirror: bool
    place: str

    def __post_init__(self) -> None:
        if self.place not in ("tokens", "channels"):
            raise ValueError(f"place must be 'tokens' or 'channels', not {self.place!r}")

    def multivectors(self) -> Tensor:
        """The reference multivectors, ``(n, 16)``."""
        return get_spurions(self.beam_spurion, self.add_time_spurion, self.beam_mirror)


class LGATrTagger(nn.Module):
    """L-GATr with a global token whose scalar output is the logit.

    Parameters
    ----------
    spec
        Of the data set.
    network
        Makes an :class:`lgatr.LGATr` from its input and output channels.
    symmetry_breaking
        Reference multivectors.
    attention
        Attention backend.
    momentum_unit
        Four-momenta are divided by this many GeV.
    """

    spurions: Tensor

    def __init__(
        self,
        spec: DataSpec,
        network: Callable[..., LGATr],
        symmetry_breaking: SymmetryBreaking,
        attention: AttentionChoice,
        momentum_unit: float,
    ) -> None:
        super().__init__()
        self.attention, self.momentum_unit = attention, momentum_unit
        self.register_buffer("spurions", symmetry_breaking.multivectors(), persistent=False)
        self.as_channels = symmetry_breaking.place == "channels"
        channels = len(self.spurions) if self.as_channels else 0
        # One more scalar marks the global token; without it all tokens would start alike.
        self.network = network(
            in_mv_channels=1 + channels,
            in_s_channels=spec.num_scalars + 1,
            out_mv_channels=spec.num_outputs,
            out_s_channels=0,
        )

    @property
    def executed_attention(self) -> str:
        """Name of the backend that computed the last batch, or ``none`` before the first."""
        last = self.network.last_attention
        return "none" if last is None else last.backend.name

    def forward(self, batch: EventBatch) -> Tensor:
        """Logits ``(B, outputs)``."""
        particles = embed_vector(batch.fourmomenta / self.momentum_unit).to(self.spurions.dtype)
        tokens = 0 if self.as_channels else len(self.spurions)
        packing, new, old = batch.packing.prepend(1 + tokens)
        events, total = packing.num_events, packing.num_tokens

        multivectors = particles.new_zeros(total, 16).index_copy(0, old, particles)
        if tokens:
            spurions = self.spurions.expand(events, -1, -1).flatten(0, 1)
            multivectors = multivectors.index_copy(0, new[:, 1:].flatten(), spurions)
        channels = multivectors.unsqueeze(1)
        if self.as_channels:
            channels = torch.cat([channels, self.spurions.expand(total, -1, -1)], dim=1)

        marks = particles.new_zeros(total, 1).index_fill(0, new[:, 0], 1.0)
        features = particles.new_zeros(total, batch.scalars.shape[1])
        scalars = torch.cat([marks, features.index_copy(0, old, batch.scalars)], dim=1)

        outputs, _ = self.network(
            channels,
            scalars,
            packing=packing,
            **self.attention.keywords(),
        )
        logits: Tensor = outputs[new[:, 0], :, 0]
        return logits
