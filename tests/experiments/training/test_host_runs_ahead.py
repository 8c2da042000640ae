"""Nothing around a training step waits for the device, and averages are Lightning's."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from lightning import Callback, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging

from experiments.training.callbacks import progress, throughput
from experiments.training.callbacks.average import WeightAverage, blend
from experiments.training.callbacks.progress import StepProgressBar
from experiments.training.callbacks.throughput import JetsPerSecond
from support.nothing_waits import NothingWaits
from support.tagging_task import make_data, make_task

QUIET = {
    "accelerator": "cpu", "logger": False, "enable_checkpointing": False,
    "enable_model_summary": False, "enable_progress_bar": False, "check_val_every_n_epoch": None,
    "num_sanity_val_steps": 0, "use_distributed_sampler": False, "gradient_clip_val": 1.0,
}  # fmt: skip


class Watch(Callback):
    """Watches whole steps, and what lies between them, from one to another."""

    def __init__(self, first: int, last: int) -> None:
        self.first, self.last, self.steps, self.watching = first, last, 0, ExitStack()

    def on_train_batch_start(self, trainer, *_):
        if trainer.global_step == self.first:
            self.watching.enter_context(NothingWaits())

    def on_train_batch_end(self, trainer, *_):
        self.steps += self.first < trainer.global_step <= self.last
        if trainer.global_step == self.last:
            self.watching.close()

    def on_exception(self, *_):
        self.watching.close()


def fit(*callbacks, steps=12, augmented=True, **options):
    torch.manual_seed(0)
    data, task = make_data([0, 1] * 40), make_task(("background", "signal"))
    if augmented:
        data.prepare = type(data.prepare)((), 0, ("mirror",), 1)
    task._optimizer = partial(torch.optim.AdamW, lr=1e-2, fused=True)
    trainer = Trainer(**{**QUIET, "max_steps": steps, **options}, callbacks=list(callbacks))
    trainer.fit(task, data)
    return trainer, task


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
class TestWaiting:
    def test_steps_read_nothing_from_the_device(self):
        watch = Watch(3, 11)
        counter = JetsPerSecond()
        fit(counter, WeightAverage(decay=0.9), watch, limit_val_batches=0)
        assert watch.steps == 8 and counter.rate > 0

    def test_what_the_watch_would_find(self):
        """Lightning's average asks the device whether it has begun."""
        with pytest.raises(AssertionError, match="_local_scalar_dense waits"):
            fit(EMAWeightAveraging(decay=0.9), Watch(3, 11), limit_val_batches=0)


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
class TestAverage:
    @pytest.mark.parametrize(
        "options",
        [
            {}, {"use_buffers": False}, {"update_every_n_steps": 3},
            {"update_starting_at_step": 4}, {"device": "cpu"},
        ],
        ids=str,
    )  # fmt: skip
    def test_is_that_of_lightning(self, options):
        """Weights, statistics of a BatchNorm and its counter, and the state in checkpoints."""
        states = []
        for kind in (WeightAverage, EMAWeightAveraging):
            average = kind(decay=0.9, **options)
            trainer, task = fit(average, accumulate_grad_batches=2)
            saved = {"state_dict": task.state_dict()}
            average.on_save_checkpoint(trainer, task, saved)
            states.append((saved, average.state_key, average.state_dict()))
        (ours, *rest), (theirs, *others) = states
        assert rest == others and ours.keys() == theirs.keys()
        for part in ours:
            assert ours[part].keys() == theirs[part].keys()
            for name, value in ours[part].items():
                assert torch.equal(value, theirs[part][name]), name

    def test_reads_nothing(self):
        values = [torch.randn(3), torch.randn(2, 2)], [torch.randn(3), torch.randn(2, 2)]
        counters = [torch.tensor(4)], [torch.tensor(6)]
        expected = [0.9 * a + (1 - 0.9) * b for a, b in zip(*values, strict=True)]
        with NothingWaits():
            blend([values, counters], 0.9)
        assert all(map(torch.equal, values[0], expected))
        assert int(counters[0][0]) == int(0.9 * 4 + 0.1 * 6)

    def test_of_another_device_is_left_to_lightning(self):
        from experiments.training.callbacks.average import _grouped

        there = torch.zeros(2, device="meta")
        assert _grouped([(torch.zeros(2), torch.zeros(2)), (torch.zeros(2), there)]) == []


def test_time_between_steps_that_is_no_lack_of_data(monkeypatch):
    """What waits for a GPU there, such as reading a loss, belongs to the steps."""
    now = 0.0
    monkeypatch.setattr(throughput, "time", SimpleNamespace(perf_counter=lambda: now))
    feed = SimpleNamespace(waited=7.0)
    trainer = SimpleNamespace(train_dataloader=SimpleNamespace(feed=feed))
    module = SimpleNamespace(log=lambda *a, **k: None)
    counter = JetsPerSecond(skip_steps=0)
    counter.on_train_start()
    for _ in range(5):
        counter.on_train_batch_start(trainer)
        now += 2
        counter.on_train_batch_end(trainer, module, None, "jets")
        now += 1.5
        feed.waited += 0.5
    assert counter.waited == 4 * 0.5 and counter.seconds == 5 * 2 + 4 * 1.0
    assert counter.waiting == 2 / 16
    counter.on_validation_end()
    feed.waited += 100
    counter.on_train_batch_start(trainer)
    assert counter.waited == 2.0


def test_progress_is_shown_a_few_times_a_second(monkeypatch):
    now, shown = 0.0, []
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now))
    bar = StepProgressBar(refresh_rate=5)
    monkeypatch.setattr(bar, "show", lambda trainer, _: shown.append(trainer.global_step))
    for step in range(1, 101):
        now += 0.01
        bar.on_train_batch_end(SimpleNamespace(global_step=step, max_steps=100), None, {}, 0, step)
    assert len(shown) == 6 and shown[-1] == 100
    StepProgressBar(refresh_rate=0).on_train_batch_end(None, None, {}, 0, 1)


def test_what_the_progress_bar_shows():
    metrics = {"loss": torch.tensor(0.5), "val/auc": torch.tensor(0.9)}
    trainer = SimpleNamespace(
        callback_metrics=metrics, progress_bar_metrics={"val_auc": 0.9}, loggers=[]
    )
    assert StepProgressBar().get_metrics(trainer, None) == {"val_auc": 0.9, "loss": 0.5}
