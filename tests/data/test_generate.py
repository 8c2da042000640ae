"""Generated samples, with a simulation that takes no time."""

from __future__ import annotations

import os
import sys
from types import ModuleType

import numpy as np
import pytest

from data import generate
from data.simulation import COLUMNS, SimulatedJet


def fake_chunk(job):
    """Two particles in each jet, which follow from the job."""
    name, seed, label, number, count = job
    rng = np.random.default_rng([seed, label, number])
    tables = []
    for _ in range(count):
        table = np.zeros((2, len(COLUMNS)), np.float32)
        table[:, 1:4] = rng.normal(size=(2, 3))
        table[:, 0] = np.linalg.norm(table[:, 1:4], axis=1) + 1
        tables.append(SimulatedJet(table, 80.0))
    return label, number, tables


def dying_chunk(job):
    os._exit(9)


@pytest.fixture(autouse=True)
def installed(monkeypatch):
    for name in ("pythia8mc", "fastjet"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setattr(generate, "make_chunk", fake_chunk)


def test_same_bytes_after_a_kill(tmp_path):
    def main(folder, processes):
        out = tmp_path / folder / "jets[1].h5"
        arguments = ["toptagging", "--jets", "420", "--out", str(out)]
        generate.main([*arguments, "--processes", str(processes)])
        return out.read_bytes()

    first = main("undisturbed", 1)
    killed = tmp_path / "killed"
    killed.mkdir()
    (killed / ".jets[1].999999999.partial.h5").write_bytes(first[:1000])
    (killed / ".other.999999999.partial.h5").write_bytes(first[:1000])
    (killed / f".jets[1].{os.getppid()}.partial.h5").write_bytes(first[:1000])
    assert main("killed", 2) == first
    assert sorted(f.name for f in killed.iterdir()) == sorted(
        [f".jets[1].{os.getppid()}.partial.h5", ".other.999999999.partial.h5", "jets[1].h5"]
    )


def test_a_process_that_is_killed(tmp_path, monkeypatch):
    """It used to hang, waiting for what nobody would send."""
    monkeypatch.setattr(generate, "make_chunk", dying_chunk)
    out = tmp_path / "jets.h5"
    with pytest.raises(SystemExit, match="was killed .out of memory"):
        generate.main(["toptagging", "--jets", "200", "--processes", "2", "--out", str(out)])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--processes", "0"], "--processes must be 1 or more"),
        (["--seed", "-1"], "--seed must be 0 or more"),
        (["--jets", "3"], "--jets must be at least"),
        (["--out", "/"], "is a folder"),
    ],
)
def test_bad_options(tmp_path, capsys, arguments, message):
    given = ["toptagging", "--jets", "200", "--out", str(tmp_path / "x.h5"), *arguments]
    with pytest.raises(SystemExit):
        generate.main(given)
    assert message in capsys.readouterr().err
