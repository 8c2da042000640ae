"""Run an experiment from its configuration to its report."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from lightning import Trainer
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig, OmegaConf

from data import signals
from experiments.cli import ROOT
from experiments.data.batch import DataSpec
from experiments.errors import UserError
from experiments.options.command_line import RUN_DIR
from experiments.report.published import value_with_error
from experiments.report.results import save_results
from experiments.saved_runs import run_directory
from experiments.saved_runs.checkpoint_contents import check_training_state
from experiments.saved_runs.checkpoints import check_fits, read_checkpoint
from experiments.saved_runs.same_data import (
    Identity,
    check_identity,
    identity_of,
    read_identity,
)
from experiments.tasks.base import Task
from experiments.tasks.building import build_task, spec_for_model
from experiments.training import resume
from experiments.training.announcement import announcement
from experiments.training.checks.run import check_run
from experiments.training.failures import explained_after_training, explained_failures, restoring
from experiments.training.finished import finished
from experiments.training.rehearsal import rehearse
from experiments.training.results import gather
from experiments.training.sharding import assemble, load_weights
from lgatr.utils.memory import keep_freed_memory


def run(cfg: DictConfig, resumption: resume.Resumption | None = None) -> dict[str, Any]:
    """Train, test and report; return the content of ``metrics.json``.

    Parameters
    ----------
    cfg
        Composed configuration; not modified.
    resumption
        How an earlier run is resumed, or None for a new run.
    """
    check_run(cfg)
    keep_freed_memory()
    directory, first = Path(cfg.run_dir), getattr(rank_zero_only, "rank", 0) == 0
    # Now, because the repository may change during a long training.
    revision = run_directory.git_revision(ROOT)
    if resumption is None:
        checkpoint = _checkpoint_file(cfg.ckpt_path)
        if first:
            run_directory.check_free(directory)
    else:
        checkpoint = resumption.checkpoint
        if first:
            run_directory.lock(directory)
            if (results := finished(resumption)) is not None:
                return results
    lightning.seed_everything(cfg.seed, workers=True, verbose=False)
    # Deterministic mode also fills new memory with NaN, which takes time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    datamodule = instantiate(cfg.data)
    datamodule.setup()
    spec = spec_for_model(cfg, datamodule.spec)
    if resumption is not None:
        run_directory.check_spec(directory, spec)
    identity = _compared_jets(cfg, directory, datamodule, resumption) if first else None
    task, make_model = build_task(cfg, spec)
    trainer = _trainer(cfg)
    # Lightning converts after callbacks copied the weights and checkpoints were read into them,
    # which rounds those of double precision.
    trainer.precision_plugin.convert_module(task)
    step = 0
    if checkpoint is not None:
        if resumption is None:
            found = read_checkpoint(checkpoint)
        else:
            found = resume.read_resumed(checkpoint, resumption.changes)
        check_training_state(found, checkpoint)
        step = check_fits(task, found, checkpoint, trainer.max_steps)
    if first and step != trainer.max_steps:
        rehearse(cfg, task, datamodule, trainer.strategy.root_device)
    if first:
        _begin(cfg, directory, spec, identity, resumption, step, revision)
        for line in announcement(cfg, spec, task, datamodule, trainer):
            print(line)
    if resumption is not None:
        for logger in trainer.loggers:
            if hasattr(logger, "go_on_from"):
                logger.go_on_from(step)
    command = run_directory.resume_command(directory)
    with _same_directory(directory), _children_end_too(trainer), explained_failures(command):
        seconds = _fit(trainer, task, datamodule, checkpoint)
        with explained_after_training(command):
            return _test_and_report(
                cfg, trainer, task, datamodule, make_model, seconds, revision, checkpoint
            )


def _begin(
    cfg: DictConfig,
    directory: Path,
    spec: DataSpec,
    identity: Identity | None,
    resumption: resume.Resumption | None,
    step: int,
    revision: str,
) -> None:
    """Write the files of a new run directory, or record the resumption of a run."""
    if resumption is None:
        run_directory.lock(directory)
        run_directory.check_free(directory)
    with signals.deferred_signals():  # their advice depends on which files are there
        if resumption is None:
            resolved = OmegaConf.to_yaml(cfg, resolve=True)
            run_directory.claim(directory, resolved, spec, _overrides(), identity)
        else:
            resume.begin(resumption, step, revision, identity)
        signals.advise(f"go on by: {run_directory.resume_command(directory)}")
    print(f"Results go to {directory}")


def _compared_jets(
    cfg: DictConfig, directory: Path, datamodule: Any, resumption: resume.Resumption | None
) -> Identity | None:
    """Which jets these are; those of a resumed run must be the same as before."""
    if resumption is None:
        return identity_of(datamodule, None)
    found = identity_of(datamodule, read_identity(directory))
    source = f"data.path={cfg.data.get('path')}"
    if found is None and "data.path" in resumption.changes:
        raise UserError(f"{source}: these data cannot be compared with those of before")
    check_identity(directory, found, source)
    return found


def _checkpoint_file(choice: str) -> Path | None:
    """The checkpoint that a new run starts from, if any."""
    if choice == "none":
        return None
    if not Path(choice).is_file():
        raise UserError(f"ckpt_path={choice}: no such checkpoint")
    return Path(choice)


def _overrides() -> list[str]:
    """Overrides on the command line of this run."""
    if not HydraConfig.initialized():
        return []
    return [str(override) for override in HydraConfig.get().overrides.task]


def _trainer(cfg: DictConfig) -> Trainer:
    trainer: Trainer = instantiate(
        cfg.trainer,
        callbacks=[c for c in instantiate(cfg.callbacks).values() if c is not None],
        logger=[log for log in instantiate(cfg.logger).values() if log is not None],
    )
    connector = trainer._signal_connector
    register = connector.register_signal_handlers

    def register_ours() -> None:
        # Replaces Lightning's SIGTERM handler, which communicates inside the handler.
        register()
        signals.install()

    connector.register_signal_handlers = register_ours  # type: ignore[method-assign]
    return trainer


@contextmanager
def _same_directory(directory: Path) -> Iterator[None]:
    """Pass the run directory on to processes that Lightning starts, which compose anew."""
    os.environ[RUN_DIR] = str(directory)
    try:
        yield
    finally:
        os.environ.pop(RUN_DIR, None)


@contextmanager
def _children_end_too(trainer: Trainer) -> Iterator[None]:
    """Pass an interruption on to the processes that Lightning started."""
    try:
        yield
    except signals.Interrupted as error:
        if getattr(rank_zero_only, "rank", 0):
            # Lightning's watchdog kills the other processes at any other status.
            raise SystemExit(0) from None
        if trainer.strategy.launcher is not None:
            trainer.strategy.launcher.kill(error.signal)
        raise


def _fit(trainer: Trainer, task: Task[Any], datamodule: Any, checkpoint: Path | None) -> float:
    """Train; returns the seconds it took."""
    start = time.perf_counter()
    # Our checkpoints contain only tensors and plain types.
    with restoring(trainer, checkpoint):
        trainer.fit(task, datamodule, ckpt_path=checkpoint, weights_only=True)
    for callback in trainer.early_stopping_callbacks:
        if callback is not None and callback.wait_count >= callback.patience:
            print(
                f"Ended after {trainer.global_step} of {trainer.max_steps} steps by "
                f"callbacks.early_stopping: no better {callback.monitor} in {callback.patience} "
                "validations"
            )
    return time.perf_counter() - start


def _test_and_report(
    cfg: DictConfig,
    trainer: Trainer,
    task: Task[Any],
    datamodule: Any,
    make_model: Any,
    seconds: float,
    revision: str,
    checkpoint: Path | None,
) -> dict[str, Any]:
    """Test the best weights and write all results; returns the content of ``metrics.json``."""
    directory = Path(cfg.run_dir)
    best = directory / run_directory.BEST
    trained = checkpoint is None or trainer.global_step > read_checkpoint(checkpoint)["global_step"]
    if best.is_file():
        # Averaged weights; the averaging callback would load the others from this file.
        load_weights(task, read_checkpoint(best)["state_dict"])
    elif checkpoint is not None and not trained:
        # Without a further step the task holds the last weights instead of averaged ones.
        load_weights(task, read_checkpoint(checkpoint)["state_dict"])
    trainer.test(task, datamodule, verbose=False)
    assemble(task, make_model)
    results: dict[str, Any] = dict(task.test_metrics)
    if trainer.is_global_zero:
        results = gather(cfg, task, trainer, datamodule, directory, seconds, revision)
        assert task.test_results is not None
        save_results(directory, cfg, results, task, task.test_results)
        _print_summary(directory, task, results)
    return results


def _print_summary(directory: Path, task: Task[Any], results: dict[str, Any]) -> None:
    for name in task.summary():
        print(f"{name:>24}  {value_with_error(results, name)}")
    rate = results["jets_per_second"]
    what = f"{task.counted} per second"
    print(f"{what:>24}  {'–' if rate is None else format(rate, '.0f')}")
    print(f"Report: {directory / 'report.html'}")
