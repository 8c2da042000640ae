"""Pictures of single jets: those of which a tagger was most wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from data.jets import FloatArray
from experiments.data.batch import EventBatch
from experiments.metrics.scores import Scores
from experiments.plots.style import COLOURS, new_figure, save

MOST = 6
"""Jets that are shown."""
_RADIUS = 0.8


@dataclass(frozen=True)
class Display:
    """A jet and what was said of it.

    Parameters
    ----------
    momenta
        ``(n, 4)`` of its particles in GeV.
    target
        Its class.
    logits
        Its scores: one for two classes.
    loss
        Cross entropy.
    """

    momenta: FloatArray
    target: int
    logits: Tensor
    loss: float

    def title(self, classes: Sequence[str]) -> str:
        """True class, and the probability of it."""
        return f"{classes[self.target]}, given {np.exp(-self.loss):.1g}"


def worst_of(scores: Scores, batch: EventBatch) -> list[Display]:
    """The jets of a batch with the largest loss."""
    if scores.logits.dim() == 1:
        losses = F.binary_cross_entropy_with_logits(
            scores.logits, scores.target.to(scores.logits.dtype), reduction="none"
        )
    else:
        losses = F.cross_entropy(scores.logits, scores.target, reduction="none")
    values, jets = losses.topk(min(MOST, len(losses)))
    ptr, momenta = batch.packing.ptr.tolist(), batch.fourmomenta
    return [
        Display(
            momenta[ptr[jet] : ptr[jet + 1]].float().cpu().numpy(), int(scores.target[jet]),
            scores.logits[jet].cpu(), value,
        )
        for value, jet in zip(values.tolist(), jets.tolist(), strict=True)
    ]  # fmt: skip


def plot_displays(worst: Sequence[Display], classes: Sequence[str], directory: Path) -> None:
    """Draw jets as their particles around the axis, with areas as their transverse momenta."""
    if not worst:
        return
    columns = 3
    rows = -(-len(worst) // columns)
    figure, axes = new_figure(nrows=rows, ncols=columns, squeeze=False, figsize=(9, 3.2 * rows))
    for place, panel in enumerate(axes.flat):
        panel.set(xticks=[-0.5, 0, 0.5], yticks=[-0.5, 0, 0.5])
        panel.set(xlim=(-_RADIUS, _RADIUS), ylim=(-_RADIUS, _RADIUS), aspect="equal")
        if place >= len(worst):
            panel.set_visible(False)
            continue
        display = worst[place]
        eta, phi, pt = around_axis(display.momenta)
        panel.scatter(eta, phi, s=600 * pt / pt.sum(), c=COLOURS[display.target], alpha=0.6)
        panel.set_title(display.title(classes), fontsize=10)
        panel.tick_params(labelsize=9)
    figure.supxlabel(r"$\Delta\eta$", fontsize=12)
    figure.supylabel(r"$\Delta\phi$", fontsize=12)
    save(figure, directory, "most_wrong")


def around_axis(momenta: FloatArray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pseudorapidities and azimuths of particles from their jet's axis, and pT in GeV."""
    p = momenta.astype(np.float64)
    jet = p.sum(axis=0)
    pt = np.maximum(np.hypot(p[:, 1], p[:, 2]), 1e-9)
    eta = np.arcsinh(p[:, 3] / pt) - np.arcsinh(jet[3] / max(np.hypot(jet[1], jet[2]), 1e-9))
    phi = np.arctan2(p[:, 2], p[:, 1]) - np.arctan2(jet[2], jet[1])
    return eta, (phi + np.pi) % (2 * np.pi) - np.pi, pt


def joined(parts: Sequence[Display]) -> list[Display]:
    """The worst of several."""
    return sorted(parts, key=lambda display: -display.loss)[:MOST]
