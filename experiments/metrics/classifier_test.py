"""A classifier that tells generated events from those of the data (arXiv:2305.16774).

Its AUC is 0.5 for a perfect generator, and its output gives each event the weight
p(data) / p(generated), which is 1 then. It is trained on folds: each event is scored by a
classifier that has not seen it.

Legend: N events of each kind, F features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics.functional.classification import binary_auroc

from data.events.final_state import FloatArray
from experiments.options.markers import Count, Dropout, Positive, Range

_LARGEST_LOGIT = 10.0


@dataclass(frozen=True)
class ClassifierTest:
    """How the classifier is built and trained.

    Parameters
    ----------
    folds
        Parts of the events; each is scored by a classifier that is trained on the others.
    hidden_channels, num_layers, dropout
        Of a multilayer perceptron.
    lr, batch_size
        Of Adam, and events in a batch.
    epochs, patience
        Most epochs, and how many without a better loss on a tenth of the training events end it.
    """

    folds: Annotated[int, Range(2)] = 5
    hidden_channels: Count = 256
    num_layers: Count = 3
    dropout: Dropout = 0.1
    lr: Positive = 3e-4
    batch_size: Count = 1024
    epochs: Count = 500
    patience: Count = 10

    def logits(self, truth: FloatArray, made: FloatArray) -> tuple[Tensor, Tensor]:
        """Logits of all events, above zero for the data, and their labels: ``(2 N,)``.

        Parameters
        ----------
        truth, made
            Features ``(N, F)``.
        """
        x = torch.from_numpy(np.concatenate([truth, made])).float()
        labels = torch.cat([torch.ones(len(truth)), torch.zeros(len(made))])
        x = torch.nan_to_num((x - x.mean(0)) / x.std(0).clamp_min(1e-6))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            fold = torch.randperm(len(x)) % self.folds
            found = torch.zeros(len(x))
            for number in range(self.folds):
                mine = fold == number
                found[mine] = self._trained(x[~mine], labels[~mine], x[mine])
        return found.clamp(-_LARGEST_LOGIT, _LARGEST_LOGIT), labels

    def _trained(self, x: Tensor, labels: Tensor, others: Tensor) -> Tensor:
        layers: list[nn.Module] = []
        channels = x.shape[1]
        for _ in range(self.num_layers):
            layers += [
                nn.Linear(channels, self.hidden_channels), nn.LeakyReLU(), nn.Dropout(self.dropout),
            ]  # fmt: skip
            channels = self.hidden_channels
        net = nn.Sequential(*layers, nn.Linear(channels, 1))
        optimizer = torch.optim.Adam(net.parameters(), lr=self.lr)
        order = torch.randperm(len(x))
        held, used = order[: max(1, len(x) // 10)], order[max(1, len(x) // 10) :]
        best, waited, kept = float("inf"), 0, {k: v.clone() for k, v in net.state_dict().items()}
        for _ in range(self.epochs):
            net.train()
            for rows in used[torch.randperm(len(used))].split(self.batch_size):
                loss = F.binary_cross_entropy_with_logits(net(x[rows])[:, 0], labels[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            net.eval()
            with torch.no_grad():
                value = float(F.binary_cross_entropy_with_logits(net(x[held])[:, 0], labels[held]))
            if value < best:
                best, waited, kept = value, 0, {k: v.clone() for k, v in net.state_dict().items()}
            elif (waited := waited + 1) >= self.patience:
                break
        net.load_state_dict(kept)
        net.eval()
        with torch.no_grad():
            logits: Tensor = net(others)[:, 0]
        return logits


def auc_with_error(logits: Tensor, labels: Tensor) -> tuple[float, float]:
    """Area under the ROC curve, and its statistical error (Hanley and McNeil, 1982)."""
    auc = float(binary_auroc(logits, labels.long()))
    positive, negative = float(labels.sum()), float((1 - labels).sum())
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = auc * (1 - auc) + (positive - 1) * (q1 - auc**2) + (negative - 1) * (q2 - auc**2)
    return auc, float(np.sqrt(max(variance, 0.0) / (positive * negative)))
