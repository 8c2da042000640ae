"""The trial step is Lightning's own: what no training could do shows in it, and leaves no trace."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir

from data.formats import packed
from data.jets import Jets
from experiments.cli import CONFIG_DIR
from experiments.data.streaming_datamodule import StreamedData
from experiments.errors import UserError
from experiments.training.rehearsal import rehearse
from support.jetfiles import random_jets
from support.tagging_task import CPU, Sums, make_data, make_task


def composed(*overrides: str):
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return compose("run", overrides=list(overrides))


class RefusesValues(torch.optim.SGD):
    """An optimizer whose first step fails."""

    def step(self, closure=None):
        super().step(closure)
        raise RuntimeError("no such step")


@pytest.mark.parametrize(
    ("overrides", "optimizer", "words"),
    [
        (
            ["trainer.precision=bf16-mixed"],
            partial(torch.optim.AdamW, fused=True),
            "optimizer.fused",
        ),
        (["trainer.precision=bf16-mixed"], partial(torch.optim.AdamW, fused=False), None),
        pytest.param(
            ["trainer.precision=64-true"],
            partial(torch.optim.AdamW, fused=True),
            None,
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["trainer.precision=bf16-true"], torch.optim.AdamW, None, marks=pytest.mark.slow
        ),
        (["trainer.gradient_clip_val=null"], RefusesValues, "no such step"),
        pytest.param(
            ["+trainer.gradient_clip_algorithm=value"],
            torch.optim.SGD,
            None,
            marks=pytest.mark.slow,
        ),
        (["trainer.accumulate_grad_batches=4", "trainer=ddp"], torch.optim.Adam, None),
    ],
)
def test_step_and_options_of_the_trainer(overrides, optimizer, words):
    task, data = make_task(("background", "signal"), Weights(1)), make_data([0, 1] * 10)
    task._optimizer = partial(optimizer, lr=1e-2)
    before = {name: value.clone() for name, value in task.state_dict().items()}
    generator = torch.get_rng_state()
    cfg = composed(*overrides)
    if words is None:
        rehearse(cfg, task, data, CPU)
    else:
        with pytest.raises(UserError, match=words) as caught:
            rehearse(cfg, task, data, CPU)
        assert "a training step on a few jets failed before training" in str(caught.value)
    assert torch.equal(torch.get_rng_state(), generator)
    for name, value in task.state_dict().items():
        assert torch.equal(value, before[name]) and value.dtype == before[name].dtype


class Weights(Sums):
    """Takes momenta in the type of its weights, as the networks here do."""

    def forward(self, batch):
        dtype = self.out.weight.dtype
        particles = self.norm(batch.fourmomenta.to(dtype))
        jets = particles.new_zeros(len(batch), 4)
        return self.out(jets.index_add(0, batch.packing.batch_index(), particles))


@pytest.mark.parametrize(
    ("labels", "split"),
    [
        ({"train": 3, "val": 3, "test": 3}, None),
        ({"train": 2, "val": 3, "test": 3}, "training"),
        ({"train": 3, "val": 2, "test": 3}, "validation"),
    ],
)
def test_a_streamed_sample_that_lacks_a_class(labels, split, tmp_path):
    """Read in chunks of a few jets: the class that comes last is found all the same."""
    padded, _ = random_jets(30, 1)
    real = padded[..., 0] > 0
    offsets = np.concatenate([[0], real.sum(axis=1).cumsum()]).astype(np.int64)
    splits = {
        name: Jets(padded[real], offsets, np.sort(np.arange(30) % count), "test", ("a", "b", "c"))
        for name, count in labels.items()
    }
    file = tmp_path / "jets.h5"
    packed.write(file, splits, {})
    data = StreamedData(file, 4, 4, [], 10, [], 0, 0, 4, 2, 0, False, 1)
    data.setup()
    task = make_task(("a", "b", "c"), background="a", efficiencies={"b": 0.5, "c": 0.5})
    if split is None:
        rehearse(composed(), task, data, CPU)
    else:
        with pytest.raises(UserError, match=rf"{file}: the {split} sample has no jets of c,"):
            rehearse(composed(), task, data, CPU)
