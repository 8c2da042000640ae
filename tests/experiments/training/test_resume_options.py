"""Which options a resumed run may change, and which not."""

from __future__ import annotations

import json

import pytest

from experiments.errors import UserError
from experiments.training import resume
from support.runs import files
from support.slow import every

OPTIONS = {
    "model=lgatr_small": "model._target_",
    "experiment=quarkgluon": "callbacks|data|model|name|optimizer|published|trainer",
    "optimizer.lr=0.1": "optimizer.lr",
    "optimizer=lion": "optimizer",
    "seed=2": "data.seed",
    "trainer.val_check_interval=2": "callbacks.last.every_n_train_steps",
    "callbacks.ema=null": "callbacks.ema",
    "~callbacks.ema": "callbacks.ema",
    "model.num_blocks=2": "model.num_blocks",
    "data.batch_size=4": "data.batch_size",
    "debug=none": "callbacks|data|trainer",
    "attention=xformers": "attention.name",
    "trainer.precision=64-true": "trainer.precision",
    "task.background=signal": "task.background",
    "callbacks.early_stopping.patience=3": "callbacks.early_stopping.patience",
}


@pytest.mark.parametrize("override", every(4, OPTIONS))
def test_options_of_the_results_are_refused(finished, override):
    option = OPTIONS[override]
    before = files(finished)
    with pytest.raises(UserError, match=rf"would change ({option})") as caught:
        resume.plan([f"resume={finished}", override])
    assert str(caught.value).startswith(override) and "\n" not in str(caught.value)
    assert files(finished) == before


@pytest.mark.parametrize(
    ("overrides", "cause"),
    every(
        3,
        [
            (
                ("trainer.max_steps=40", "trainer.val_check_interval=2"),
                "trainer.val_check_interval=2",
            ),
            (
                ("trainer.val_check_interval=2", "trainer.max_steps=40"),
                "trainer.val_check_interval=2",
            ),
            (("trainer.max_steps=40", "seed=2"), "seed=2"),
        ],
    ),
)
def test_the_option_that_is_to_blame(finished, overrides, cause):
    """Advice to leave out another option than the one that changes the results."""
    with pytest.raises(UserError, match=f"^{cause} would change"):
        resume.plan([f"resume={finished}", *overrides])


@pytest.mark.parametrize(
    ("overrides", "changes"),
    every(
        3,
        [
            ((), {}),
            # The command that the run was started with, once more.
            (("model=transformer_small", "debug=fast", "optimizer.lr=2e-3"), {}),
            (("trainer.max_steps=1700",), {"trainer.max_steps": 1700}),
            (("data.num_workers=1",), {"data.num_workers": 1}),
            (
                ("trainer=ddp", "trainer.devices=2"),
                {"trainer.devices": 2, "trainer.strategy": "ddp"},
            ),
            (("callbacks.progress.refresh_rate=7",), {"callbacks.progress"}),
            (("logger.tensorboard=null",), {"logger"}),
            (("plots=[svg]",), {"plots": ["svg"]}),
        ],
    ),
)
def test_options_that_leave_the_results_alone(finished, overrides, changes):
    cfg, resumption = resume.plan([f"resume={finished}", *overrides])
    found = dict(resumption.changes)
    json.dumps(found)  # the run notes them
    assert found == changes if isinstance(changes, dict) else set(found) == changes
    assert cfg.optimizer.lr == 2e-3 and cfg.data.limit == 64
    assert cfg.logger.csv.save_dir == f"{finished}/logs"
    if overrides[:1] == ("logger.tensorboard=null",):
        assert cfg.logger.tensorboard is None
