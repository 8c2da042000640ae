"""Arithmetic of descriptions: what NumPy makes of it, and nothing but arithmetic."""

from __future__ import annotations

import time

import numpy as np
import pytest

from data.described.expressions import Expression

ak = pytest.importorskip("awkward")
PT, ETA = np.array([1.0, 20.0, 300.0]), np.array([-1.0, 0.5, 2.5])
VALUES = {
    "pt": PT,
    "eta": ETA,
    "Jet.PT": 2 * PT,
    "odd name": PT,
    "x": np.arange(12.0).reshape(3, 4),
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pt", PT),
        ("log(pt) - 1.7", np.log(PT) - 1.7),
        ("-pt ** 2 / 3", -(PT**2) / 3),
        ("pt * cosh(eta)", PT * np.cosh(ETA)),
        ("Jet.PT > 30", 2 * PT > 30),
        ("1 < pt <= 20", (PT > 1) & (PT <= 20)),
        ("pt > 10 and abs(eta) < 1", (PT > 10) & (abs(ETA) < 1)),
        ("pt > 10 or not eta < 0", (PT > 10) | (ETA >= 0)),
        ("(pt > 10) & (eta > 1) | (pt < 2)", (PT > 10) & (ETA > 1) | (PT < 2)),
        ('field("odd name") + 1', PT + 1),
        ("x[1] + x[3]", VALUES["x"][:, 1] + VALUES["x"][:, 3]),
        ("arctan2(pt, eta) % 1", np.arctan2(PT, ETA) % 1),
        ("minimum(pt, 100)", np.minimum(PT, 100)),
    ],
)
def test_values(text, expected):
    np.testing.assert_array_equal(Expression(text)(VALUES), expected)


def test_fields():
    assert Expression('log(pt) + Jet.PT * x[2] - field("odd name") + pt').fields == (
        "pt", "Jet.PT", "x", "odd name",
    )  # fmt: skip


def test_lists_of_different_lengths():
    """Numbers of jets are used for each of their particles."""
    particles, jets = ak.Array([[1.0, 2.0], [], [3.0]]), np.array([1.0, 2.0, 3.0])
    found = Expression("log(part / jet) > -0.5")({"part": particles, "jet": ak.Array(jets)})
    assert found.to_list() == [[True, True], [], [True]]


@pytest.mark.parametrize(
    "text",
    [
        "", "pt +", "import os", "__import__('os')", "pt.__class__()", "(lambda: 1)()", "open('x')",
        "[x for x in pt]", "pt if eta else 1", "pt[eta]", "pt[0:1]", "'text'", "f'{pt}'", "pt := 1",
        "log(pt, out=pt)", "pt @ eta", "pt << 3", "pt is eta", "1j", "pt\n+eta;x", "x" * 2000,
        "(" * 500 + "pt" + ")" * 500, "field(pt)", "{1: 2}", "eval('1')", "pt.sum()", "...",
    ],
)  # fmt: skip
def test_nothing_else_is_run(text):
    with pytest.raises(ValueError, match=r"no expression|calls|arithmetic|characters"):
        Expression(text)


@pytest.mark.parametrize("text", ["9 ** 9 ** 9 ** 9", "2 ** 1000000000", "pt ** 9999 ** 99"])
def test_powers_end(text):
    start = time.monotonic()
    Expression(text)(VALUES)
    assert time.monotonic() - start < 1


def test_fields_that_are_missing_or_do_not_fit():
    with pytest.raises(ValueError, match=r"no field 'mass'; there are Jet.PT, eta, odd name"):
        Expression("mass + 1")(VALUES)
    with pytest.raises(ValueError, match=r"'a \+ b' cannot be computed"):
        Expression("a + b")({"a": np.ones(3), "b": np.ones(4)})
    with pytest.raises(ValueError, match="cannot be computed"):
        Expression("x[7]")(VALUES)
