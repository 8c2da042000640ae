"""Options with which a run would not be whole, and words of libraries, each with its option."""

from __future__ import annotations

from pathlib import Path

import pytest

from data.errors import DataError
from experiments.cli import ROOT
from experiments.data.datamodule import JetData
from experiments.training.checks import trainer_options
from experiments.training.checks.combinations import _run_dir
from support.options import composed, refused
from support.slow import every

PLUGINS = [{"_target_": "experiments.saved_runs.checkpoints.AtomicCheckpointIO"}]
CUTTING = {
    "limit_train_batches": [0, 0.1, 1, 5], "limit_val_batches": [0, 0.0, 1],
    "limit_test_batches": [0, 1, 0.5], "limit_predict_batches": [0], "overfit_batches": [0.1, 1],
    "max_epochs": [0, 1, 100], "min_epochs": [1], "min_steps": [1000],
    "check_val_every_n_epoch": [1, 2], "num_sanity_val_steps": [-1, 1, 2],
    "reload_dataloaders_every_n_epochs": [1], "use_distributed_sampler": [True],
    "max_time": ["00:00:00:00", "5", {"seconds": 0}, {"day": 1}, {"days": -1}],
    "plugins": [None, [], [{"_target_": "torch.nn.Identity"}]],
}  # fmt: skip


@pytest.mark.parametrize("name", CUTTING)
def test_options_that_cut_out_a_part(name):
    for value in CUTTING[name]:
        (line,) = trainer_options.problems({"plugins": PLUGINS, name: value})
        assert line.startswith(f"trainer.{name}") and len(line.splitlines()) == 1


@pytest.mark.parametrize(
    "options",
    [
        {"limit_val_batches": 1.0, "limit_test_batches": None, "overfit_batches": 0.0},
        {"max_epochs": -1, "check_val_every_n_epoch": None, "num_sanity_val_steps": 0},
        {"max_time": "00:01:00:00"}, {"max_time": {"hours": 2}},
        {"plugins": [{"_target_": "lightning.pytorch.plugins.DoublePrecision"}, *PLUGINS]},
    ],
)  # fmt: skip
def test_options_that_leave_it_whole(options):
    assert not list(trainer_options.problems({"plugins": PLUGINS, **options}))


LINES = """
+trainer.limit_test_batches=0|trainer.limit_test_batches=0: would cut
trainer.plugins=[]|trainer.plugins: must keep
trainer.accelerator=tpu|trainer.accelerator=tpu: 
+trainer.strategy=foo|trainer.strategy=foo: 
+trainer.max_time=foo|trainer.max_time=foo: must be a time
data.features={a:1}|data.features={a:1}: does not fit
data.features=[log_pt,log_pt]|'log_pt' is given twice
data.augmentations=[mirror,mirror]|'mirror' is given twice
run_dir=/proc/x/y|run_dir=/proc/x/y: /proc takes no folder
--config-name foo|--config-name foo: the configuration is
--config-path=foo|--config-path foo: the configuration is
--package x|--package x: the configuration is
hydra.run.dir=/tmp/zz|hydra.run.dir=/tmp/zz: the folder of a run
hydra.output_subdir=a|the folder of a run
hydra.job.chdir=true|the folder of a run
""".strip().splitlines()


@pytest.mark.parametrize("line", every(2, LINES))
def test_one_line_that_names_the_option(line):
    arguments, _, answer = line.partition("|")
    (found,) = refused(*arguments.split(" "))
    assert answer in found and "++" not in found


def test_a_folder_is_tried_without_trace(tmp_path):
    assert not list(_run_dir(str(tmp_path / "a" / "b"))) and not list(Path(tmp_path).iterdir())
    assert composed().trainer.plugins[0]._target_ == PLUGINS[0]["_target_"]


def test_a_cut_that_drops_all_particles():
    file = ROOT / "data" / "toptagging_mini.h5"
    data = JetData(str(file), 8, 0, 1000, [], 0, [], 20, 0, 1, smallest_component=1e30)
    with pytest.raises(DataError, match=r"data.smallest_component=1e\+30: leaves one particle"):
        data.setup()
