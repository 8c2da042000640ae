"""Refuse trainer options that would skip a part of a run: training, validation, test, saving.

The length of a run is given in steps, which its learning-rate schedule needs; samples are limited
by ``data``; validation is every so many steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from lightning.pytorch.callbacks import Timer

from experiments.options.signatures import find
from experiments.saved_runs.checkpoints import AtomicCheckpointIO

_NEUTRAL: dict[str, tuple[tuple[Any, ...], str]] = {
    "limit_train_batches": ((None, 1.0), "give data.limit, in jets"),
    "limit_val_batches": ((None, 1.0), "give data.eval_limit, in jets"),
    "limit_test_batches": ((None, 1.0), "give data.eval_limit, in jets"),
    "limit_predict_batches": ((None, 1.0), "runs predict nothing"),
    "overfit_batches": ((0.0,), "give data.limit, in jets"),
    "max_epochs": ((None, -1), "give trainer.max_steps, which the learning-rate schedule needs"),
    "min_epochs": ((None,), "give trainer.max_steps"),
    "min_steps": ((None,), "give trainer.max_steps"),
    "check_val_every_n_epoch": ((None,), "give trainer.val_check_interval, in steps"),
    "num_sanity_val_steps": ((0,), "a step and a report are tried before training anyway"),
    "reload_dataloaders_every_n_epochs": ((0,), "runs go on exactly where they stopped"),
    "use_distributed_sampler": ((False,), "batches are cut for all processes already"),
}
"""Allowed values by option, and what to use instead of others."""


def problems(trainer: dict[str, Any]) -> Iterator[str]:
    """One line for each option with which a run would be incomplete."""
    for name, (neutral, instead) in _NEUTRAL.items():
        value = trainer.get(name, neutral[0])
        # 1 is one batch, and 1.0 is all of them.
        one_batch = isinstance(value, int) and not isinstance(value, bool) and value == 1
        if value not in neutral or one_batch:
            yield f"trainer.{name}={value}: would cut a part of the run; leave it out: {instead}"
    yield from _time(trainer.get("max_time"))
    yield from _checkpoint_writer(trainer.get("plugins"))


def _time(max_time: Any) -> Iterator[str]:
    if max_time is None:
        return
    wanted = "must be a time above zero, such as 00:12:00:00 (days, hours, minutes, seconds)"
    try:
        timer = Timer(timedelta(**max_time) if isinstance(max_time, dict) else max_time)
    except Exception:  # Lightning's, of several kinds
        yield f"trainer.max_time={max_time}: {wanted}"
        return
    if (timer.time_remaining() or 0) <= 0:
        yield f"trainer.max_time={max_time}: {wanted}"


def _checkpoint_writer(plugins: Any) -> Iterator[str]:
    """A checkpoint writer that can leave truncated files, as Lightning's own."""
    for plugin in plugins if isinstance(plugins, list) else [plugins]:
        target = find(plugin["_target_"]) if isinstance(plugin, dict) else None
        if isinstance(target, type) and issubclass(target, AtomicCheckpointIO):
            return
    yield (
        "trainer.plugins: must keep experiments.saved_runs.checkpoints.AtomicCheckpointIO, which "
        "writes checkpoints whole or not at all; add others beside it"
    )
