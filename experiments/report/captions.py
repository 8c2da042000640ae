"""What the plots of a report are called and say, in the order in which they stand there."""

from __future__ import annotations

from collections.abc import Iterable

CAPTIONS: dict[str, tuple[str, str]] = {
    "roc": (
        "Rejection against efficiency",
        "How many background jets there are for one that passes, where a share of the signal "
        "passes. Bands are statistical errors of the background; dots are usual working points.",
    ),
    "scores": (
        "Scores",
        "Distributions of the predicted probability of signal, for both classes.",
    ),
    "efficiency_pt": (
        "Efficiency against transverse momentum",
        "Shares of both classes that pass the cut which half of all signal passes. Flat lines are "
        "what one wants; a slope of the background shapes its spectrum.",
    ),
    "efficiency_mass": (
        "Efficiency against mass",
        "The same against the invariant mass of all particles of the jet.",
    ),
    "mass_sculpting": (
        "Background mass before and after cuts",
        "The mass of all background jets, and of those that look most like signal. A peak that the "
        "cut makes out of nothing could be taken for a signal.",
    ),
    "confusion": (
        "Confusion",
        "Of the jets of each true class (rows), the percentage that is taken for each class.",
    ),
    "relative_errors": (
        "Relative errors",
        "Of the predicted amplitude, not of its logarithm.",
    ),
    "predicted": ("Predicted against true", "In standard units of the logarithm."),
    "residuals": (
        "Residuals",
        "Against the amplitude, and against the distance from soft and collinear limits.",
    ),
    "pulls": (
        "Pulls",
        "Errors over predicted uncertainties: normal with width one if these are right.",
    ),
    "resonances": (
        "Masses of what decayed",
        "Of generated events over those of the test; the lower panels are ratios.",
    ),
    "transverse_momenta": ("Transverse momenta", "Of generated events over those of the test."),
    "classifier_weights": (
        "Weights of a classifier",
        "p(data) / p(generated) by a classifier that tells them apart: one everywhere for a "
        "perfect generator.",
    ),
    "response": ("Predicted over true values", "Of a quantity beside the class, for each class."),
    "calibration": (
        "Calibration",
        "Observed frequency where a probability is predicted; on the diagonal, probabilities can "
        "be taken at their word.",
    ),
    "learning": (
        "Learning",
        "Loss of steps (thin: each; thick: averages) and of validations, and the figure that is "
        "followed. A validation loss that rises while that of training falls is overfitting.",
    ),
    "most_wrong": (
        "Jets that were most wrong",
        "Particles around the axis of the jet, with areas as their transverse momenta; above, the "
        "true class and the probability that it was given.",
    ),
    "learning_rate": ("Learning rate", "In each step."),
    "loss": ("Loss", "Of all logged steps and validations."),
}
"""Title and text by the name of a plot, or by how it begins."""
_REPLACED = {"loss": "learning"}
"""Plots that a report leaves out if there is another."""


def _key(stem: str) -> str | None:
    if stem in CAPTIONS:
        return stem
    starts = [name for name in CAPTIONS if stem.startswith(f"{name}_")]
    return max(starts, key=len, default=None)


def ordered(stems: Iterable[str]) -> list[str]:
    """Names of plots in the order of a report; those without a caption come last."""
    order, found = list(CAPTIONS), set(stems)
    kept = [stem for stem in found if _REPLACED.get(stem) not in found]

    def place(stem: str) -> tuple[int, str]:
        key = _key(stem)
        return (len(order) if key is None else order.index(key)), stem

    return sorted(kept, key=place)


def caption(stem: str) -> tuple[str, str]:
    """Title and text of a plot."""
    key = _key(stem)
    if key is None:
        return stem.replace("_", " ").capitalize(), ""
    title, text = CAPTIONS[key]
    rest = stem.removeprefix(key).strip("_").replace("_", " ")
    return (f"{title}: {rest}" if rest else title), text
