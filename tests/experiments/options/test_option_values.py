"""Values of options against their annotations, and the published settings."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import torch

from experiments.cli import quiet_libraries
from experiments.errors import OptionErrors, UserError
from experiments.options import values
from experiments.options.markers import NotEmpty, OneOf, Range, did_you_mean
from experiments.options.schema import Schema
from experiments.options.signatures import parameters
from experiments.training.checks import combinations
from support.option_values import plain
from support.options import composed


@pytest.fixture(autouse=True)
def quiet():
    quiet_libraries()


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("num_blocks", 0, "from 1"), ("num_blocks", "a", "whole number"), ("scale", 0, "above 0"),
        ("scale", None, "a number"), ("names", "a", "list"), ("names", [1], "text"),
        ("kind", "z", "one of x, y"), ("dropout", 1, "below 1"), ("dropout", "a", "a number"),
        ("inner", 5, "group of options"), ("inner", {"width": "a"}, "inner.width=a"),
        ("inner", {"width": 1, "mode": "c"}, "a, b"), ("inner", {"widht": 1}, "inner.width?"),
        ("num_block", 1, "num_blocks?"), ("spec", 1, "run itself"),
        ("num_blocks", 2, None), ("untyped", object, None), ("names", None, None),
        ("names", ["a"], None), ("inner", {"width": 1, "mode": "b"}, None), ("dropout", None, None),
    ],
)  # fmt: skip
def test_a_model_from_outside_needs_no_table(option, value, words):
    own = {"inner": {"width": 3}, "num_blocks": 1, "_partial_": True}
    own |= {"_target_": "support.outside_model.Outside", option: "?" if value is object else value}
    config = {**plain()[1], "model": own}
    found = [str(problem) for problem in Schema(config, config).problems()]
    assert len(found) == (words is not None)
    assert words is None or words in found[0]


def test_options_of_functions_without_a_signature_are_not_guessed():
    assert parameters(dict).open and parameters(torch.nn.Linear).required >= {"in_features"}


@pytest.mark.parametrize(
    ("annotation", "right", "wrong"),
    [
        (int, [0, -5], [True, 1.0, "1", None, [], 2**70]),
        (float, [0, 1.5], [True, "1", None, math.nan, math.inf]),
        (bool, [True], [1, "true", None]),
        (str, ["", "a"], [5, None, True, "a\0b"]),
        (Path, ["a"], [5]),
        (int | None, [1, None], ["a"]),
        (list[int], [[], [1]], [1, "a", ["a"], None]),
        (tuple[float, float], [[1, 2.0]], [[1], [1, 2, 3], 1]),
        (tuple[int, ...], [[], [1, 2]], [["a"]]),
        (dict[str, int], [{}], [5, []]),
        (Literal["a", 1], ["a", 1], ["b", 2, True]),
        (Annotated[int, Range(1, 3)], [1, 3], [0, 4, "a"]),
        (Annotated[float, Range(0, 1, above=True, below=True)], [0.5], [0, 1]),
        (Annotated[str, OneOf(("a", "b"))], ["a"], ["c", 1]),
        (Annotated[str, NotEmpty()], ["a"], ["", " "]),
        (list[Annotated[str, OneOf(("a", "b"))]], [["a"], []], [["c"], "a"]),
        (Annotated[int | None, Range(1)], [None, 1], [0]),
        (Any, [None, 1, "a", []], []),
    ],
)
def test_values(annotation, right, wrong):
    for value in right:
        assert values.problem(value, annotation) is None, value
    for value in wrong:
        assert values.problem(value, annotation), value


def test_did_you_mean():
    assert did_you_mean("max_step", ["max_steps", "min_steps"]) == "; did you mean max_steps?"
    assert did_you_mean("zzz", ["max_steps"]) == ""


@pytest.mark.parametrize(
    ("trainer", "gpus", "words"),
    [
        ({"devices": 2}, 1, "only 1 GPUs"), ({"devices": [0, 1]}, 1, "from 0 to 0"),
        ({"devices": [0, 0]}, 4, "different"), ({"devices": []}, 4, "different"),
        ({"devices": "0,7"}, 4, "different"), ({"devices": "5"}, 4, "only 4"),
        ({"devices": "0:2"}, 4, "must be a number"), ({"accelerator": "gpu"}, 0, "no GPU"),
        ({"devices": 4}, 4, None), ({"devices": [1, 3]}, 4, None), ({"devices": "auto"}, 4, None),
        ({"devices": -1}, 4, None), ({"devices": [0]}, 1, None), ({"devices": "0,3"}, 4, None),
        ({"devices": [0], "accelerator": "cpu"}, 4, "no numbers"), ({}, 0, None),
        ({"devices": 10_000, "accelerator": "cpu"}, 4, "cores"),
    ],
)  # fmt: skip
def test_devices_that_there_are(trainer, gpus, words, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    found = list(combinations._devices(trainer))
    assert len(found) == (words is not None) and (words or "") in "".join(found)


class TestPublishedSettings:
    """Those of the papers, as far as they say them."""

    @pytest.mark.parametrize(
        ("experiment", "optimizer", "lr", "decay", "batch", "steps"),
        [
            ("toptagging_paper", "Lion", 3e-4, 0.2, 128, 200_000),
            ("toptagging_finetune", "Lion", 3e-3, 0.01, 128, 100_000),
            ("jetclass_paper", "AdamW", 1e-3, 0.01, 512, 1_000_000),
            ("jetclass_paper_2505", "Lion", 3e-4, 0.0, 512, 1_000_000),
        ],
    )
    def test_training(self, experiment, optimizer, lr, decay, batch, steps):
        needed = ["data.path=x", *["model.backbone=y"] * (experiment == "toptagging_finetune")]
        cfg = composed(f"experiment={experiment}", *needed)
        assert cfg.optimizer._target_.endswith(optimizer)
        assert (cfg.optimizer.lr, cfg.optimizer.weight_decay) == (lr, decay)
        assert (cfg.data.batch_size, cfg.trainer.max_steps) == (batch, steps)
        assert cfg.scheduler.warmup_steps == 0 and cfg.trainer.gradient_clip_val == 5.0

    def test_learning_rates_of_backbone_and_head(self):
        cfg = composed("experiment=toptagging_finetune", "model.backbone=x", "data.path=y")
        assert (cfg.model.backbone_lr, cfg.model.head_lr) == (3e-5, 3e-3)
        assert composed("model=finetune", "optimizer.lr=0.5").model.head_lr == 0.5


def test_errors_say_all():
    error = OptionErrors(["a", "b"])
    assert isinstance(error, UserError) and str(error) == "a; b" and error.problems == ("a", "b")
