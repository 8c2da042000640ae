"""One run from its configuration to its report."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import torch
from hydra.utils import instantiate
from lightning import Trainer
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig, OmegaConf

from data.atomic import atomic_path
from experiments import rundir
from experiments.failures import explained_failures
from experiments.plots import curves, tagging
from experiments.report.html import value_with_error, write_report
from experiments.results import ROOT, gather
from experiments.sharded import assemble, load_weights
from experiments.tasks.classification import Classification
from lgatr.utils.memory import keep_freed_memory

RUN_DIR = "LGATR_RUN_DIR"


def _save(directory: Path, cfg: DictConfig, results: dict[str, Any], task: Classification) -> None:
    assert task.test_scores is not None
    task.test_scores.save(directory / rundir.SCORES, task.spec.classes)
    plots = directory / "plots"
    tagging.plot_all(task.test_scores, task.spec.classes, task.background, plots)
    history = curves.read_curves(directory / "logs" / "csv")
    curves.plot_loss(history, plots)
    curves.plot_learning_rate(history, plots)
    write_report(directory, cfg.published, results, OmegaConf.to_yaml(cfg, resolve=True))
    # Last: whoever finds metrics.json finds a complete run.
    with atomic_path(directory / "metrics.json") as temporary:
        temporary.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def run(cfg: DictConfig) -> dict[str, Any]:
    """Train, test and report; return what ``metrics.json`` holds.

    Parameters
    ----------
    cfg
        A composed configuration; it is read, never written to.
    """
    keep_freed_memory()
    directory = Path(cfg.run_dir)
    # Now: while a long training runs, other commits may come.
    revision = rundir.git_revision(ROOT)
    checkpoint = rundir.resolve_checkpoint(cfg.ckpt_path, directory)
    lightning.seed_everything(cfg.seed, workers=True, verbose=False)
    # Deterministic mode would also fill all new memory with NaN, which finds bugs but costs time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    datamodule = instantiate(cfg.data.module)
    datamodule.setup()
    spec = datamodule.spec
    make_model = partial(instantiate(cfg.model), spec=spec)
    task = instantiate(cfg.task)(
        spec=spec,
        model=make_model(),
        optimizer=instantiate(cfg.optimizer),
        scheduler=instantiate(cfg.scheduler),
    )
    if getattr(rank_zero_only, "rank", 0) == 0:
        text = OmegaConf.to_yaml(cfg, resolve=True)
        rundir.claim(directory, text, resume=checkpoint is not None)
        rundir.write_spec(directory, spec)
        print(f"Results go to {directory}")
    trainer: Trainer = instantiate(
        cfg.trainer,
        callbacks=[c for c in instantiate(cfg.callbacks).values() if c is not None],
        logger=list(instantiate(cfg.logger).values()),
    )
    with _same_directory(directory), explained_failures():
        seconds = _fit_and_test(trainer, task, datamodule, directory, checkpoint)
        assemble(task, make_model)
    results: dict[str, Any] = dict(task.test_metrics)
    if trainer.is_global_zero:
        results = gather(cfg, task, trainer, datamodule, directory, seconds, revision)
        _save(directory, cfg, results, task)
        _print_summary(directory, results)
    return results


@contextmanager
def _same_directory(directory: Path) -> Iterator[None]:
    """Tell the processes that Lightning starts, which read the configuration anew, where to go."""
    os.environ[RUN_DIR] = str(directory)
    try:
        yield
    finally:
        os.environ.pop(RUN_DIR, None)


def _fit_and_test(
    trainer: Trainer,
    task: Classification,
    datamodule: Any,
    directory: Path,
    checkpoint: Path | None,
) -> float:
    """Train, and test the best weights; returns the seconds of training."""
    start = time.perf_counter()
    # Our own checkpoints hold optimizer and loop states made of plain types and tensors.
    trainer.fit(task, datamodule, ckpt_path=checkpoint, weights_only=True)
    seconds = time.perf_counter() - start
    best = directory / rundir.BEST
    if best.is_file():
        # The averaged weights; given the file, the averaging callback would take the others.
        state = torch.load(best, map_location="cpu", weights_only=True)["state_dict"]
        load_weights(task, state)
    trainer.test(task, datamodule, verbose=False)
    return seconds


def _print_summary(directory: Path, results: dict[str, Any]) -> None:
    rejections = [n for n in results if n.startswith("rejection") and "_at_" in n]
    plain = [n for n in rejections if not n.endswith(("_error", "_lower_limit_95"))]
    for name in ("auc", "accuracy", *plain, "loss"):
        print(f"{name:>24}  {value_with_error(results, name)}")
    rate = results["jets_per_second"]
    print(f"{'jets per second':>24}  {'–' if rate is None else format(rate, '.0f')}")
    print(f"Report: {directory / 'report.html'}")
