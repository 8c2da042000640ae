"""One run from its configuration to its report."""

from __future__ import annotations

import json
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning
import torch
from hydra.utils import instantiate
from lightning import Trainer
from omegaconf import DictConfig, OmegaConf

from data.atomic import atomic_path
from experiments import rundir
from experiments.callbacks.throughput import JetsPerSecond
from experiments.plots import curves, tagging
from experiments.report.html import value_with_error, write_report
from experiments.tasks.classification import BinaryClassification
from lgatr.utils.memory import keep_freed_memory

ROOT = Path(__file__).resolve().parents[1]
_VERSIONS = ("lgatr", "torch", "lightning", "xformers", "hydra-core", "numpy", "h5py")


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _VERSIONS:
        try:
            found[package] = version(package)
        except ModuleNotFoundError:
            found[package] = "not installed"
    return found


def _results(
    cfg: DictConfig, task: BinaryClassification, trainer: Trainer, datamodule: Any, seconds: float
) -> dict[str, Any]:
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    measured = next((c for c in callbacks if isinstance(c, JetsPerSecond)), None)
    return {
        **task.test_metrics,
        "parameters": sum(p.numel() for p in task.parameters() if p.requires_grad),
        "jets_per_second": measured and measured.rate,
        "waiting_for_data": measured and measured.waiting,
        "training_seconds": seconds,
        "steps": trainer.global_step,
        "jets": datamodule.num_jets(),
        "data": str(cfg.data.path),
        "attention_requested": cfg.attention.name,
        "attention_executed": task.model.executed_attention,
        "device": str(trainer.strategy.root_device),
        "seed": cfg.seed,
        "git_revision": rundir.git_revision(ROOT),
        "versions": _versions(),
    }


def _save(
    directory: Path, cfg: DictConfig, results: dict[str, Any], task: BinaryClassification
) -> None:
    assert task.test_scores is not None
    logits, target = task.test_scores
    tagging.plot_roc(logits, target, directory / "plots")
    tagging.plot_scores(logits, target, directory / "plots")
    history = curves.read_curves(directory / "logs" / "csv")
    curves.plot_loss(history, directory / "plots")
    curves.plot_learning_rate(history, directory / "plots")
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
    checkpoint = rundir.resolve_checkpoint(cfg.ckpt_path, directory)
    lightning.seed_everything(cfg.seed, workers=True, verbose=False)
    # Deterministic mode would also fill all new memory with NaN, which finds bugs but costs time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    datamodule = instantiate(cfg.data.module)
    datamodule.setup()
    task = instantiate(cfg.task)(
        model=instantiate(cfg.model)(spec=datamodule.spec),
        optimizer=instantiate(cfg.optimizer),
        scheduler=instantiate(cfg.scheduler),
    )
    rundir.claim(directory, OmegaConf.to_yaml(cfg, resolve=True), resume=checkpoint is not None)
    print(f"Results go to {directory}")
    trainer: Trainer = instantiate(
        cfg.trainer,
        callbacks=list(instantiate(cfg.callbacks).values()),
        logger=list(instantiate(cfg.logger).values()),
    )
    start = time.perf_counter()
    # Our own checkpoints hold optimizer and loop states made of plain types and tensors.
    trainer.fit(task, datamodule, ckpt_path=checkpoint, weights_only=True)
    seconds = time.perf_counter() - start
    best = directory / rundir.BEST
    if best.is_file():
        # The averaged weights; given the file, the averaging callback would take the others.
        state = torch.load(best, map_location="cpu", weights_only=True)["state_dict"]
        task.load_state_dict(state)
    trainer.test(task, datamodule, verbose=False)
    results = _results(cfg, task, trainer, datamodule, seconds)
    _save(directory, cfg, results, task)
    _print_summary(directory, results)
    return results


def _print_summary(directory: Path, results: dict[str, Any]) -> None:
    for name in ("auc", "accuracy", "rejection_at_0.5", "rejection_at_0.3", "loss"):
        print(f"{name:>18}  {value_with_error(results, name)}")
    rate = results["jets_per_second"]
    print(f"{'jets per second':>18}  {'–' if rate is None else format(rate, '.0f')}")
    print(f"Report: {directory / 'report.html'}")
