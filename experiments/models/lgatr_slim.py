"""L-GATr-slim as a tagger.

Legend: T particles, B events.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from torch import Tensor, nn

from experiments.data.batch import DataSpec, EventBatch
from experiments.models.symmetry import SymmetryBreaking
from experiments.models.token_tagger import event_tokens
from experiments.options.attention_choice import AttentionChoice
from experiments.options.markers import Supplied
from lgatr import LGATrSlim


class SlimTagger(nn.Module):
    """L-GATr-slim with a global token whose scalars are the logits.

    Parameters
    ----------
    spec, symmetry_breaking, attention, momentum_unit
        See :class:`~experiments.models.lgatr.LGATrTagger`; the xy plane is no vector and not
        available.
    network
        Makes an :class:`lgatr.LGATrSlim` from its input and output channels.
    """

    spurions: Tensor

    def __init__(
        self,
        spec: DataSpec,
        network: Annotated[
            Callable[..., LGATrSlim],
            Supplied("in_v_channels", "in_s_channels", "out_v_channels", "out_s_channels"),
        ],
        symmetry_breaking: SymmetryBreaking,
        attention: AttentionChoice,
        momentum_unit: float,
    ) -> None:
        super().__init__()
        self.attention, self.momentum_unit = attention, momentum_unit
        self.register_buffer("spurions", symmetry_breaking.vectors(), persistent=False)
        self.as_channels = symmetry_breaking.place == "channels"
        channels = len(self.spurions) if self.as_channels else 0
        self.network = network(
            in_v_channels=1 + channels,
            in_s_channels=spec.num_scalars + 1,
            out_v_channels=0,
            out_s_channels=spec.num_outputs,
        )

    @property
    def executed_attention(self) -> str:
        """Name of the backend that computed the last batch, or ``none`` before the first."""
        last = self.network.last_attention
        return "none" if last is None else last.backend.name

    @property
    def recordable(self) -> bool:
        """Whether a CUDA graph can hold the forward pass."""
        return not (self.network.checkpoint_blocks or self.network.compiles_blocks)

    def forward(self, batch: EventBatch) -> Tensor:
        """Logits ``(B, outputs)``."""
        particles = (batch.fourmomenta / self.momentum_unit).to(self.spurions.dtype)
        tokens = event_tokens(batch, particles, self.spurions, self.as_channels)
        _, outputs = self.network(
            tokens.channels, tokens.scalars, packing=tokens.packing, **self.attention.keywords()
        )
        logits: Tensor = outputs[tokens.first]
        return logits
