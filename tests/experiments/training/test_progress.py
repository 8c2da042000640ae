"""What a run shows: one line for the bar, one for each validation, and what is trained."""

from __future__ import annotations

import io
from types import SimpleNamespace

import torch
from rich.console import Console

from experiments.training.callbacks.progress import StepProgressBar


def trainer(step, steps=400, **changed):
    metrics = {"loss": torch.tensor(0.123456), "jets/s": torch.tensor(12345.6)}
    metrics |= {"val/auc": torch.tensor(0.9876), "val/loss": torch.tensor(0.25)}
    return SimpleNamespace(
        global_step=step, max_steps=steps, callback_metrics=metrics, sanity_checking=False,
        progress_bar_metrics={"val_auc": torch.tensor(0.98765)}, num_test_batches=[3], **changed,
    )  # fmt: skip


def bar_on(terminal, **options):
    bar, out = StepProgressBar(**options), io.StringIO()
    bar.console = Console(file=out, force_terminal=terminal, width=80, color_system=None)
    return bar, out


TASK = SimpleNamespace(validation_metrics=("auc", "loss"))


def test_a_bar_takes_one_line_of_80_columns():
    bar, out = bar_on(True)
    bar.on_train_start(trainer(100), TASK)
    bar.on_train_batch_end(trainer(300), TASK, {}, None, 0)
    bar._bar.refresh()
    bar.on_validation_end(trainer(300), TASK)
    bar.on_train_end(trainer(400), TASK)
    shown = [line for line in out.getvalue().replace("\r", "\n").split("\n") if "300/400" in line]
    assert shown and all("loss 0.1235" in line and "left" in line for line in shown)
    for line in shown:
        text = "".join(c for c in line if c.isprintable()).replace("[2K", "").replace("[?25l", "")
        assert len(text.replace("[1A", "").rstrip()) <= 80


def test_validations_leave_lines_without_a_terminal():
    bar, out = bar_on(False)
    bar.on_train_start(trainer(0), TASK)
    bar.on_train_batch_end(trainer(100), TASK, {}, None, 0)
    bar.on_validation_end(trainer(100), TASK)
    bar.on_train_end(trainer(400), TASK)
    assert out.getvalue() == "step     100   auc 0.9876   loss 0.25   0:00:00\n"


def test_nothing_is_shown_of_other_processes():
    bar, out = bar_on(True)
    bar.disable()
    bar.on_train_start(trainer(0), TASK)
    bar.on_train_batch_end(trainer(100), TASK, {}, None, 0)
    bar.on_validation_end(trainer(100), TASK)
    bar.on_test_start(trainer(400), TASK)
    assert out.getvalue() == ""


def test_a_resumed_run_begins_where_it_was():
    bar, _ = bar_on(True)
    bar.on_train_start(trainer(300), TASK)
    assert bar._bar.tasks[0].completed == 300 and bar._bar.tasks[0].total == 400
    bar.close()
