"""Rows of a table of runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.errors import UserError
from experiments.report.comparison import Run, rows


def finished(name, seed, auc):
    return Run("toptagging, LGATrTagger", "toptagging", {}, {"auc": auc}, Path(name), seed=seed)


def test_a_copy_is_no_other_seed():
    """A spread of zero that is said to be that between seeds."""
    runs = [finished("a", 1, 0.98), finished("b", 2, 0.98), finished("backup", 1, 0.98)]
    with pytest.raises(UserError, match="^backup: a copy of a; name each run once"):
        rows(runs, ["auc"])
    assert rows(runs[:2], ["auc"])[0][1:] == ["2", "0.98±0"]


def test_other_runs_of_one_seed_are_told():
    with pytest.warns(UserWarning, match="again and a have the same seed, 1"):
        rows([finished("a", 1, 0.98), finished("again", 1, 0.97)], ["auc"])
