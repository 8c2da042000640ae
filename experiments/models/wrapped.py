"""A model around a tagger, which it trains in its own way."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from experiments.data.batch import EventBatch


class WrappedTagger(nn.Module):
    """Logits of another tagger.

    Parameters
    ----------
    tagger
        The tagger.
    """

    def __init__(self, tagger: nn.Module) -> None:
        super().__init__()
        self.tagger: Any = tagger

    @property
    def executed_attention(self) -> str:
        """Name of the backend that computed the last batch, or ``none`` before the first."""
        name: str = self.tagger.executed_attention
        return name

    def forward(self, batch: EventBatch) -> Tensor:
        """Logits ``(B, outputs)``."""
        logits: Tensor = self.tagger(batch)
        return logits
