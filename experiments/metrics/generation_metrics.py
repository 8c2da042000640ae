"""Metrics of generated events."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from data.events.final_state import FinalState, FloatArray
from experiments.metrics.classifier_test import ClassifierTest, auc_with_error
from experiments.metrics.event_observables import (
    Resonances,
    features,
    mass,
    members,
    observables,
    resonance_momenta,
)
from experiments.metrics.generated import Generated

_FEWEST = 20
"""Events, for a classifier."""


class Told(NamedTuple):
    """What a classifier says of events.

    Parameters
    ----------
    logits
        ``(2 N,)``, above zero for the data.
    labels
        ``(2 N,)``, 1 for the data and 0 for generated events.
    """

    logits: Tensor
    labels: Tensor

    def weights(self, of_data: bool) -> Tensor:
        """p(data) / p(generated) of the events of one kind: 1 for a perfect generator."""
        return self.logits[self.labels == float(of_data)].double().exp()


def tell_apart(
    results: Generated,
    state: FinalState,
    resonances: Resonances,
    classifier: ClassifierTest | None,
) -> Told | None:
    """Train a classifier on generated events and those of the data; None if there are too few."""
    if classifier is None or min(len(results.truth), len(results.made)) < _FEWEST:
        return None
    pair = results.truth.numpy(), results.made.numpy()
    of_truth, of_made = (features(events, state, resonances) for events in pair)
    return Told(*classifier.logits(of_truth, of_made))


def generation_metrics(
    results: Generated,
    state: FinalState,
    resonances: Resonances,
    told: Told | None,
) -> dict[str, Any]:
    """Metrics of a sample.

    ``loss`` of the velocity and ``nll``, the mean negative logarithm of the density, with their
    statistical errors; ``nll_inside``, the share of those events that come from inside of the
    cuts of the base. With generated events also: ``cuts_passed``, the share of them that passes
    the cuts; ``classifier_auc`` and the standard deviation of the weights that the classifier gives
    them (``weights_std``); for each resonance the median of its mass in the data and of what is
    generated, with the widths of the central 68 %; and ``largest_distance``, of all observables
    the largest one of distributions (Kolmogorov and Smirnov), with the name of the observable.

    Parameters
    ----------
    results
        Events.
    state
        What an event is.
    resonances
        Names of what decayed, and of the particles that it decayed to.
    told
        Of :func:`tell_apart`.
    """
    loss, loss_error = _mean(results.loss)
    nll, nll_error = _mean(results.nll)
    found: dict[str, Any] = {
        "loss": loss, "loss_error": loss_error, "nll": nll, "nll_error": nll_error,
        "nll_inside": _mean(results.inside)[0],
    }  # fmt: skip
    if not len(results.made):
        return found
    truth, made = results.truth.numpy(), results.made.numpy()
    found["cuts_passed"] = float(state.passed(made).mean())
    if told is not None:
        found["classifier_auc"], found["classifier_auc_error"] = auc_with_error(*told)
        found["weights_std"] = float(told.weights(of_data=False).std())
    for name, parts in members(state, resonances).items():
        for kind, events in (("data", truth), ("generated", made)):
            masses = mass(resonance_momenta(events, parts))
            low, middle, high = np.quantile(masses, (0.16, 0.5, 0.84))
            found[f"mass_{name}_{kind}"] = float(middle)
            found[f"mass_{name}_{kind}_width"] = float(high - low)
    ours, theirs = (observables(events, state, resonances) for events in (made, truth))
    distances = {name: _distance(ours[name][0], theirs[name][0]) for name in ours}
    worst = max(distances, key=lambda name: distances[name])
    found["largest_distance"], found["largest_distance_of"] = distances[worst], worst
    return found


def _mean(values: Tensor) -> tuple[float | None, float | None]:
    count = len(values)
    if not count:
        return None, None
    error = float(values.std()) / math.sqrt(count) if count > 1 else None
    return float(values.mean()), error


def _distance(a: FloatArray, b: FloatArray) -> float:
    """Largest difference of the cumulative distributions."""
    places = np.sort(np.concatenate([a, b]))
    shares = [np.searchsorted(np.sort(x), places, side="right") / len(x) for x in (a, b)]
    return float(np.abs(shares[0] - shares[1]).max())
