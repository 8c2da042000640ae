"""Many runs by one command: in turn, by a search, as jobs of a cluster."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path

import pytest
import yaml

from experiments.cli import check_command_line
from run import start
from support import commands
from support.slow import every

COMMON = ("experiment=toptagging", "model=transformer_small", "debug=fast", "plots=[]")


def run(*arguments, cwd, **options):
    return commands.run(*COMMON, f"paths.runs={cwd / 'runs'}", *arguments, cwd=cwd, **options)


def figures(cwd):
    files = sorted((cwd / "runs" / "toptagging").glob("*/metrics.json"))
    return [json.loads(file.read_text()) for file in files]


@pytest.mark.slow
def test_seeds_in_turn(tmp_path):
    done = run("--multirun", "seed=3,4", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [found["seed"] for found in figures(tmp_path)] == [3, 4]
    assert [p.name for p in tmp_path.iterdir()] == ["runs"]


@pytest.mark.slow
def test_search(tmp_path):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    done = run("search=optuna", "hydra.sweeper.n_trials=3", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = figures(tmp_path)
    assert len(found) == 3
    (summary,) = (tmp_path / "runs" / "toptagging").glob("together_*/optimization_results.yaml")
    best = yaml.safe_load(summary.read_text())
    # The search never sees the test jets.
    assert best["best_value"] == pytest.approx(max(f["best_val_auc"] for f in found))
    assert set(best["best_params"]) == {
        "optimizer.lr", "optimizer.weight_decay", "data.batch_size",
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    every(
        3,
        ["callbacks.best=null", "trainer.val_check_interval=9", "callbacks.best.monitor=val/loss"],
    ),
)
def test_a_search_without_validation_is_refused(tmp_path, options):
    """Before the first trial, instead of 20 failed ones."""
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    done = run("search=optuna", options, cwd=tmp_path)
    assert done.returncode == 2 and "Return value" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "a search maximises the validation AUC" in errors[0]
    assert not list((tmp_path / "runs" / "toptagging").glob("*/config.yaml"))


@pytest.mark.parametrize("searching", [False, True])
def test_a_trial_without_validation_ends_a_search(searching, monkeypatch, capsys):
    """Whatever the reason, as with models that are not trained by steps."""
    monkeypatch.setattr("experiments.training.runner.run", lambda *_: {"best_val_auc": None})
    monkeypatch.setattr("experiments.options.search.is_search", lambda: searching)
    # These change warnings of the whole process.
    monkeypatch.setattr("experiments.cli.quiet_libraries", lambda: None)
    monkeypatch.setattr("experiments.cli.one_line_warnings", lambda: None)
    if not searching:
        assert start(None) is None
        return
    with pytest.raises(SystemExit) as caught:
        start(None)
    assert caught.value.code == 2
    assert "a search maximises the validation AUC" in capsys.readouterr().err


STAND_INS = {
    "sbatch": """
        script="${@: -1}"
        cp "$script" "$HERE/script"
        echo "Submitted batch job 4711"
        export SLURM_JOB_ID=4711 SLURM_NTASKS=1 SLURM_PROCID=0 SLURM_LOCALID=0 SLURM_NODEID=0
        export SLURM_JOB_NODELIST=localhost
        (bash "$script" > "$HERE/out" 2>&1; touch "$HERE/done") > /dev/null 2>&1 &
        """,
    "srun": """
        while [[ $1 == -* ]]; do
            case $1 in --output | --error) shift 2 ;; *) shift ;; esac
        done
        exec "$@"
        """,
    "sacct": """
        echo "JobID|State|NodeList"
        [ -e "$HERE/done" ] && state=COMPLETED || state=RUNNING
        echo "4711|$state|localhost"
        """,
}
"""What SLURM's commands do, on this machine."""


@pytest.mark.slow
def test_slurm(tmp_path):
    pytest.importorskip("submitit")
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, text in STAND_INS.items():
        lines = "\n".join(line.strip() for line in text.strip().splitlines())
        Path(programs / name).write_text(f"#!/bin/bash\nHERE={programs}\n{lines}\n")
        (programs / name).chmod(0o755)
    path = os.pathsep.join([str(programs), os.environ["PATH"]])
    done = run(
        "trainer=slurm", "hydra.launcher.partition=short", "hydra.launcher.timeout_min=7",
        cwd=tmp_path, env={**os.environ, "PATH": path}, fresh=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(figures(tmp_path)) == 1, (programs / "out").read_text()
    script = (programs / "script").read_text()
    for line in ("--partition=short", "--time=7", "--nodes=1", "--gpus-per-node=1"):
        assert f"#SBATCH {line}\n" in script


@pytest.mark.parametrize("spec", [None, ModuleNotFoundError("no plugins at all")])
@pytest.mark.parametrize(
    ("choice", "extra"), [("search=optuna", "sweeps"), ("trainer=slurm", "slurm")]
)
def test_a_missing_plugin_ends_in_one_line(choice, extra, spec, monkeypatch, capsys):
    def find_spec(name):
        if spec is not None:
            raise spec
        return None

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    with pytest.raises(SystemExit) as caught:
        check_command_line([choice])
    assert caught.value.code == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and f"pip install -e '.[{extra}]'" in message
