"""Runs that generate events, and events of their weights."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest

from data.events import files
from data.events.final_state import Cuts, FinalState
from experiments.cli import ROOT
from support.commands import module, run
from support.flows import flow_events
from support.slow import every

STATE = FinalState(("b1", "q1", "q2", "b2", "q3", "q4"), (None,) * 6, Cuts(20.0, 0.2, 5.0))
FAST = (
    "trainer.max_steps=4", "trainer.val_check_interval=2", "trainer.log_every_n_steps=1",
    "attention=native", "data.batch_size=32", "task.nll_events=8", "task.test_nll_events=16",
    "task.solver.step=0.25", "task.classifier.epochs=2", "task.classifier.folds=2",
)  # fmt: skip
SLIM = ("model.network.num_blocks=1", "model.network.hidden_v_channels=4")


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    folder = tmp_path_factory.mktemp("events")
    p = flow_events(STATE, 160).numpy()
    parts = {"train": p[:100], "val": p[100:130], "test": p[130:]}
    files.write(folder / "events.h5", {n: files.Sample(x, x, STATE) for n, x in parts.items()}, {})
    return folder / "events.h5"


@pytest.fixture(scope="module")
def trained(sample, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "run"
    options = (*FAST, *SLIM, "plots=[png]", f"data.path={sample}", f"run_dir={folder}")
    done = run("experiment=ttbar", *options, cwd=folder.parent)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return folder


def test_a_run(trained):
    results = json.loads((trained / "metrics.json").read_text())
    assert results["steps"] == 4 and np.isfinite(results["nll"])
    assert results["best_val_loss"] > 0 and 0 <= results["classifier_auc"] <= 1
    assert results["mass_t1_data"] > 0 and results["flops_per_jet"] > 0
    for name in (
        "transverse_momenta",
        "masses",
        "resonances",
        "distances",
        "loss",
        "classifier_weights",
    ):
        assert (trained / "plots" / f"{name}.png").stat().st_size > 1000
    with h5py.File(trained / "test_events.h5") as file:
        assert file["generated"].shape == file["truth"].shape == (30, 6, 4)
    assert "NLL" in (trained / "report.html").read_text()


@pytest.mark.slow
def test_events_in_all_formats(trained, tmp_path):
    """The same events whatever the batch, and a sampling goes on with more events."""
    whole = tmp_path / "whole.h5"
    common = (str(trained), "--events", "30", "--seed", "7", "--all")
    done = module("experiments.sample", *common, "--out", str(whole), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with h5py.File(whole) as file:
        wanted = file["momenta"][:]
    assert wanted.shape == (30, 6, 4) and np.isfinite(wanted).all()
    rows = tmp_path / "rows.npy"
    options = ("--out", str(rows), "--batch", "7")
    few = module("experiments.sample", str(trained), "--events", "16", "--seed", "7", "--all",
                 "--out", str(rows), "--batch", "5", cwd=tmp_path)  # fmt: skip
    assert few.returncode == 0 and np.load(rows).shape == (16, 24)
    done = module("experiments.sample", *common, *options, cwd=tmp_path)
    assert done.returncode != 0 and "rows.npy" in done.stderr and "Traceback" not in done.stderr
    done = module("experiments.sample", *common, *options, "--overwrite", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(np.load(rows).reshape(30, 6, 4), wanted, rtol=1e-3, atol=1e-2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["rows.npy", "whole.h5"]


WRONG = {
    "--out x.root": "must end in .h5, .npy, .lhe, .hepmc",
    "--out x.h5 --events 0": "--events must be 1 or more",
    "--out x.h5 --seed -1": "--seed must be 0 or more",
}


@pytest.mark.parametrize("options", every(5, WRONG))
def test_options_that_cannot_be(trained, options, tmp_path):
    done = module(
        "experiments.sample", str(trained), "--events", "5", *options.split(), cwd=tmp_path
    )
    assert done.returncode != 0 and "Traceback" not in done.stderr
    assert WRONG[options] in done.stderr and not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        "experiment=ttbar model=lgatr_flow model.network.num_blocks=1",
        "experiment=ttbar model=mlp_flow task.trajectories=momenta task.trace=exact",
        "experiment=ttbar task.periodic=false task.rejects=false task.solver.method=dopri5 "
        "task.solver.tolerance=0.05",
        "experiment=ttbar task=autoregression model=autoregressive",
        "experiment=unfolding model=lgatr_unfolding model.network.num_blocks=1",
    ],
)
def test_variants(options, sample, tmp_path):
    fast = [o for o in FAST if "autoregression" not in options or "solver" not in o]
    options = options.split()
    fast += ["plots=[]", f"data.path={sample}", f"run_dir={tmp_path / 'run'}"]
    done = run(*options, *fast, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    if "task=autoregression" in options:
        out = tmp_path / "events.h5"
        make = ("--events", "8", "--all", "--out", str(out))
        done = module("experiments.sample", str(tmp_path / "run"), *make, cwd=tmp_path)
        assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_killed_sampling_goes_on(trained, tmp_path):
    out = tmp_path / "events.npy"
    command = [sys.executable, "-m", "experiments.sample", str(trained), "--events", "60", "--all",
               "--out", str(out), "--batch", "2"]  # fmt: skip
    process = subprocess.Popen(command, cwd=ROOT)
    part = tmp_path / "events.npy.part"
    for _ in range(600):
        if part.is_file() and part.stat().st_size > 5 * 192:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with open(part, "ab") as file:
        file.write(b"half an event")
    begun = part.stat().st_size // 192
    assert 0 < begun < 60
    other = subprocess.run([*command, "--seed", "3"], cwd=ROOT, capture_output=True, text=True)
    assert other.returncode != 0 and "begun with another run, seed or solver" in other.stderr
    subprocess.run(command, cwd=ROOT, check=True)
    again = tmp_path / "again.npy"
    command[command.index(str(out))] = str(again)
    subprocess.run(command, cwd=ROOT, check=True)
    np.testing.assert_allclose(np.load(out), np.load(again), rtol=1e-3, atol=1e-2)


WRONG_RUNS = {
    "task.resonances={W:[x]}": "no particle x",
    "task.solver.method=rk5": "task.solver.method",
    "task.solver.step=0": "task.solver.step",
    "data.path=none.h5": "none.h5: no such file",
    "model=lgatr_unfolding": "set data.conditional=true",
    "model=lgatr_slim": "choose one that ends in _flow",
    "model=autoregressive": "belongs to task=autoregression",
    "task=autoregression": "task",
}


@pytest.mark.parametrize("option", every(5, WRONG_RUNS))
def test_wrong_options_end_in_one_line(option, sample, tmp_path):
    path = () if "data.path" in option else (f"data.path={sample}",)
    given = ("experiment=ttbar", *FAST, *path, option)
    done = run(*given, f"run_dir={tmp_path / 'run'}", cwd=tmp_path)
    assert done.returncode != 0 and "Traceback" not in done.stderr
    assert WRONG_RUNS[option] in done.stderr, done.stderr
    assert not (tmp_path / "run").exists()
