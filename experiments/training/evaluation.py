"""Test a finished run on another sample, and keep the results beside its own."""

from __future__ import annotations

import itertools
import json
import os
import tempfile
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from lightning import Trainer
from omegaconf import DictConfig, OmegaConf

from experiments.cli import ROOT
from experiments.errors import UserError
from experiments.options.markers import MAX_NAME, FolderName
from experiments.saved_runs import run_directory
from experiments.saved_runs.checkpoints import check_fits, load_best
from experiments.saved_runs.same_data import check_identity, identity_of, read_identity
from experiments.saved_runs.saved_config import load_config
from experiments.tasks.base import Task
from experiments.tasks.building import build_task, spec_for_model

_LIMITS = ("limit", "eval_limit")


def evaluate(run: Path, data: str, trust: Sequence[str] = ()) -> dict[str, Any]:
    """Test a finished run on the test jets of ``data``.

    Parameters
    ----------
    run
        Run directory.
    data
        Path of a sample with test jets.
    trust
        Packages besides our own that the run's configuration may call.

    Raises
    ------
    UserError
        If the folder is not one of a finished run, or the sample is of other classes.
    """
    if not (run / run_directory.CONFIG).is_file():
        raise UserError(f"{run}: no trained run; it lacks {run_directory.CONFIG}")
    if not (run / run_directory.METRICS).is_file():
        raise UserError(f"{run}: is not finished; first {run_directory.resume_command(run)}")
    needs = ("data", "task", "model", "optimizer", "scheduler")
    trained = load_config(run, needs, trust)
    changes = {"path": data, **{name: 0 for name in _LIMITS if name in trained.data}}
    cfg = OmegaConf.merge(trained, {"data": changes})
    assert isinstance(cfg, DictConfig)
    datamodule = instantiate(cfg.data)
    datamodule.setup("test")
    spec = run_directory.read_spec(run)
    if spec_for_model(cfg, datamodule.spec) != spec:
        raise UserError(
            f"{data}: {datamodule.spec.described}; the run knows "
            f"{spec.described.removeprefix('classes ')}"
        )
    task, _ = build_task(cfg, spec)
    weights: dict[str, Any] = {}
    if hasattr(task.model, "fit"):
        own = instantiate(trained.data)
        own.setup()
        identity = identity_of(own, read_identity(run))
        check_identity(run, identity, f"{trained.data.path}, which {run} trained on")
        task.model.fit(own.train_pass())
    else:
        weights = _load_weights(run, task)
    trainer = Trainer(accelerator="auto", devices=1, logger=False, enable_checkpointing=False)
    trainer.test(task, datamodule, verbose=False)
    return {
        **task.test_metrics,
        **weights,
        "data": data,
        "jets": {"test": datamodule.num_jets()["test"]},
        "seed": cfg.seed,
        "date": date.today().isoformat(),
        "git_revision": run_directory.git_revision(ROOT),
    }


def _load_weights(run: Path, task: Task[Any]) -> dict[str, Any]:
    """Load the weights that the run tested; returns name and step of the checkpoint."""
    path, checkpoint = load_best(run)
    check_fits(task, {**checkpoint, "optimizer_states": []}, path)
    task.load_state_dict(checkpoint["state_dict"])
    return {
        "checkpoint": path.relative_to(run).as_posix(),
        "step": int(checkpoint.get("global_step", 0)),
    }


def check_name(name: str) -> str:
    """Check and strip the name of a file of results.

    Raises
    ------
    UserError
        If it is empty, a path, or too long.
    """
    text = name.strip()
    if not FolderName().holds(text) or text.startswith("."):
        raise UserError(
            f"--name {name!r}: a name without slashes, of 1 to {MAX_NAME} characters, is needed"
        )
    return text


def write_results(run: Path, name: str | None, data: str, results: dict[str, Any]) -> Path:
    """Write results to a new file in the directory of a run; returns the file.

    Parameters
    ----------
    run
        Run directory.
    name
        Name of the results. Default: that of the sample.
    data
        Path of the sample.
    results
        Metrics.

    Raises
    ------
    UserError
        If there are results of this name.
    """
    base = name or _name_of(data)
    text = json.dumps(results, indent=2) + "\n"
    for number in itertools.count(1):
        target = run / f"evaluation_{base}{'' if number == 1 else f'_{number}'}.json"
        with tempfile.NamedTemporaryFile("w", dir=run, prefix=".", suffix=".partial") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            os.chmod(file.name, 0o644)
            try:
                os.link(file.name, target)  # unlike a rename, never over another file
            except FileExistsError:
                if name is not None:
                    raise UserError(f"{target}: exists; choose another --name") from None
                continue
        return target
    raise AssertionError


def _name_of(data: str) -> str:
    """Default name of results on a sample."""
    stem = Path(data).resolve().stem
    printable = "".join(c if c.isprintable() else "_" for c in stem).lstrip(".")
    return printable.encode()[:MAX_NAME].decode(errors="ignore") or "sample"
