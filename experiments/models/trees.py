"""Gradient-boosted decision trees on substructure observables: a sanity check for networks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor, nn

from experiments.data.batch import DataSpec, EventBatch
from experiments.models.observables import observables
from experiments.models.optional import needed
from experiments.options.markers import KeywordsOf


class BoostedTrees(nn.Module):
    """Scikit-learn's gradient boosting on the sixteen observables, trained by ``fit``.

    Parameters
    ----------
    spec
        Specification of the data set.
    **options
        Options of :class:`sklearn.ensemble.HistGradientBoostingClassifier`.
    """

    executed_attention = "none"

    def __init__(
        self,
        spec: DataSpec,
        **options: Annotated[Any, KeywordsOf("sklearn.ensemble.HistGradientBoostingClassifier")],
    ) -> None:
        super().__init__()
        self.outputs = spec.num_outputs
        self.trees = needed("sklearn.ensemble", "bdt", "trees").HistGradientBoostingClassifier(
            **options
        )
        self.trained = False

    def fit(self, batches: Iterable[EventBatch]) -> None:
        """Train on all jets of the batches."""
        pairs = [(observables(b).numpy(), b.target.numpy()) for b in batches]
        inputs, targets = (np.concatenate(column) for column in zip(*pairs, strict=True))
        self.trees.fit(inputs, targets)
        self.trained = True

    def forward(self, batch: EventBatch) -> Tensor:
        """Logits ``(B, outputs)``; zeros before training."""
        if not self.trained:
            return torch.zeros(len(batch), self.outputs)
        logits = self.trees.decision_function(observables(batch).numpy())
        return torch.from_numpy(np.asarray(logits)).float().view(len(batch), self.outputs)
