"""The figure of merit of a run, also of tasks and files of somebody else."""

from __future__ import annotations

import json

import pytest

from experiments.metrics.headline import AUC, HEADLINES, Headline, headline

OWN = Headline(
    "spread", "spread", "spread", "spread $x^2$", small=True, logarithmic=False, span=0.5,
    columns=("spread", "bias"),
)  # fmt: skip


def written(figure: Headline, **more):
    """``metrics.json`` of a run, as it is read."""
    return json.loads(json.dumps({"spread": 0.1, "bias": None, "headline": figure.noted(), **more}))


def test_a_task_of_another_package_needs_no_entry_here():
    found = headline(written(OWN))
    assert found == OWN._replace(label=r"spread \$x^2\$")  # no formula of a stranger is set
    assert headline(written(OWN, auc=0.9)) == found  # a metric among others


@pytest.mark.parametrize("figure", HEADLINES, ids=lambda figure: figure.name)
def test_runs_of_earlier_versions(figure):
    assert headline({figure.name: 1.0}) == figure
    assert headline({figure.name: 1.0, "headline": figure.noted()}) == figure
    assert headline({}) == AUC


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("label", 5), ("label", ""), ("small", 1), ("span", -1.0), ("span", float("nan")),
        ("columns", "auc"), ("columns", [1]), ("more", 1), ("logged", None),
    ],
)  # fmt: skip
def test_what_is_none_does_not_count(name, value):
    assert headline({"headline": {**OWN.noted(), name: value}}) == AUC
    assert headline({"headline": [name, value]}) == AUC


def test_columns_are_figures():
    assert headline(written(OWN, bias={"a": 1})).columns == ("spread",)
