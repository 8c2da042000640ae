"""Metrics, checkpoints and resumptions of strangers: one line where they are read."""

from __future__ import annotations

import json
import warnings
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch

from data.errors import DataError
from experiments.errors import UserError
from experiments.metrics.scores import Scores
from experiments.options.markers import FolderName
from experiments.report import archive
from experiments.report.comparison import Run, data_efficiency
from experiments.saved_runs.checkpoint_contents import check_training_state
from experiments.saved_runs.checkpoints import AtomicCheckpointIO, is_whole, read_checkpoint
from experiments.saved_runs.metrics_file import read_metrics
from experiments.saved_runs.saved_config import load_config, read_resumes
from experiments.training.failures import restoring

RESULTS = {
    "auc": 0.98, "auc_error": None, "loss": 0.1, "rejection_at_0.5": 5, "jets": {"train": 5},
    "seed": 1, "steps": 10, "data": "x", "device": "cpu", "mine": [1, 2],
}  # fmt: skip


def one_line(error) -> str:
    text = str(error.value)
    assert len(text.splitlines()) == 1 and len(text) < 400
    return text


METRICS = [
    ("auc", "0.9"), ("auc", True), ("auc", float("nan")), ("auc", float("inf")), ("auc", [1]),
    ("auc", 10**400), ("auc", -(10**4000)), ("loss", 1e300), ("rejection_at_0.5", {}),
    ("auc_error", "x"), ("rejection_at_0.3_lower_limit_95", "x"), ("best_val_auc", "x"),
    ("jets", 5), ("jets", None), ("jets", {"train": "x"}), ("jets", {"train": -1}), ("jets", [5]),
    ("seed", float("inf")), ("seed", 1.7), ("seed", True), ("seed", "1"), ("seed", None),
    ("steps", 2**80), ("steps", -1), ("steps", None), ("parameters", "x"),
    ("training_seconds", "x"), ("data", 5), ("device", None), ("date", 5),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), METRICS)
def test_metrics_of_a_wrong_kind(name, value, tmp_path):
    file = tmp_path / "metrics.json"
    file.write_text(json.dumps(RESULTS))
    assert read_metrics(file, ("seed", "steps")) == RESULTS
    file.write_text(json.dumps({**RESULTS, name: value}))
    with pytest.raises(UserError) as caught:
        read_metrics(file)
    assert f"{file}: {name} must be" in one_line(caught)


def test_metrics_that_are_missing(tmp_path):
    (tmp_path / "metrics.json").write_text("{}")
    with pytest.raises(UserError) as caught:
        read_metrics(tmp_path / "metrics.json", ("seed", "steps"))
    assert "lacks seed, steps" in one_line(caught)


@pytest.mark.parametrize("lacking", [{"auc": None}, {"jets": {}}, {"jets": {"test": 1}}])
def test_curves_need_figures(lacking):
    with pytest.raises(UserError, match="which a curve is made of"):
        data_efficiency([Run("a", "b", {}, {**RESULTS, **lacking})])
    with pytest.raises(UserError, match="which a curve is made of"):
        data_efficiency([Run("a", "b", {}, {k: v for k, v in RESULTS.items() if k not in lacking})])
    assert data_efficiency([Run("a", "b", {}, RESULTS)])[1] == {"a": {5: [0.98]}}


def test_archived_metrics_are_read_by_the_same_rule(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "ARCHIVE", tmp_path)
    (tmp_path / "task" / "net").mkdir(parents=True)
    (tmp_path / "task" / "net" / "1.json").write_text(json.dumps({**RESULTS, "auc": "x"}))
    with pytest.raises(UserError, match="auc must be"):
        archive.archived_runs("task", "net")


STATE = {"state_dict": {"model.a": torch.ones(2), "count": torch.tensor(3)}}
TRAINING = {
    "global_step": 3, "epoch": 0, "callbacks": {"A": {}}, "loops": {},
    "optimizer_states": [{"state": {0: {}}, "param_groups": [{"lr": 1.0}]}],
    "lr_schedulers": [{}], "pytorch-lightning_version": "2.6.0",
}  # fmt: skip


def quantized() -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, and readable still
        return torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)


WEIGHTS = {
    "no tensor": 5, "text": "x", "none": None, "list": [1.0], "mapping": {"a": torch.ones(1)},
    "sparse": torch.ones(2).to_sparse(), "meta": torch.ones(2, device="meta"),
    "complex": torch.ones(2, dtype=torch.complex64),
    "quantized": quantized(),
}  # fmt: skip
PARTS = [
    {"global_step": [3]}, {"global_step": float("inf")}, {"global_step": -1},
    {"global_step": True}, {"global_step": "3"}, {"global_step": 2**70}, {"epoch": None},
    {"callbacks": []}, {"callbacks": [1, 2]}, {"callbacks": {1: {}}},
    {"callbacks": {"A": 5}}, {"loops": {"fit_loop": 3}}, {"loops": 3},
    {"optimizer_states": {}}, {"optimizer_states": [3]}, {"optimizer_states": [{}]},
    {"optimizer_states": [{"param_groups": []}]}, {"optimizer_states": [{"param_groups": [3]}]},
    {"lr_schedulers": None}, {"pytorch-lightning_version": 2}, {1: 2},
    {"state_dict": []}, {"state_dict": {1: torch.ones(2)}}, {"state_dict": {None: torch.ones(2)}},
    *({"state_dict": {"model.a": value}} for value in WEIGHTS.values()),
]  # fmt: skip


@pytest.mark.parametrize("change", PARTS, ids=lambda change: str(change)[:60])
@pytest.mark.filterwarnings("ignore")
def test_checkpoints_of_a_wrong_kind(change, tmp_path):
    path = tmp_path / "a.ckpt"
    AtomicCheckpointIO().save_checkpoint({**STATE, **TRAINING}, path)
    check_training_state(read_checkpoint(path), path)
    assert is_whole(path)
    AtomicCheckpointIO().save_checkpoint({**STATE, **TRAINING, **change}, path)
    with pytest.raises(UserError) as caught:
        read_checkpoint(path)
    assert str(path) in one_line(caught)


def test_weights_alone_cannot_be_gone_on_from(tmp_path):
    path = tmp_path / "a.ckpt"
    AtomicCheckpointIO().save_checkpoint(STATE, path)
    with pytest.raises(UserError) as caught:
        check_training_state(read_checkpoint(path), path)
    assert "lacks global_step, epoch" in one_line(caught)


@pytest.mark.parametrize(
    ("error", "message"),
    [(KeyError("x"), "a.ckpt: cannot be restored"), (TypeError("a\nb"), "TypeError: a b"),
     (UserError("own"), "own"), (RuntimeError("Connection closed"), "Connection closed")],
)  # fmt: skip
def test_errors_while_a_checkpoint_is_restored(error, message, tmp_path):
    class Connector:
        def _restore_modules_and_callbacks(self, path: str) -> None:
            raise error

        def restore_training_state(self) -> None: ...

    trainer = SimpleNamespace(_checkpoint_connector=Connector())
    with (
        pytest.raises((UserError, RuntimeError)) as caught,
        restoring(trainer, tmp_path / "a.ckpt"),
    ):
        trainer._checkpoint_connector._restore_modules_and_callbacks("a.ckpt")
    assert message in one_line(caught)
    assert not vars(trainer._checkpoint_connector)


def resumes(folder, **entry) -> None:
    (folder / "config.yaml").write_text("data: {num_workers: 1}\ntrainer: {max_steps: 1}\n")
    (folder / "resumes.json").write_text(json.dumps({"resumes": [{"changes": {}, **entry}]}))


@pytest.mark.parametrize("step", [[1], "x", None, -1, True, 1.5, float("inf")])
def test_steps_of_resumptions(step, tmp_path):
    resumes(tmp_path, from_step=step)
    with pytest.raises(UserError) as caught:
        read_resumes(tmp_path)
    assert "resumes.json" in one_line(caught)
    resumes(tmp_path, from_step=3)
    assert len(read_resumes(tmp_path)) == 1


@pytest.mark.parametrize("option", ["data.limit", "model", "trainer.max_stepsx", "seed", "run_dir"])
@pytest.mark.parametrize("build", [True, False])
def test_resumptions_change_what_the_command_line_may(option, build, tmp_path):
    resumes(tmp_path, changes={"trainer.max_steps": 5, "data.num_workers": 2})
    assert load_config(tmp_path, build=build).trainer.max_steps == 5
    resumes(tmp_path, changes={option: 5})
    with pytest.raises(UserError, match=f"changes {option}, on which results depend") as caught:
        load_config(tmp_path, build=build)
    one_line(caught)


@pytest.mark.parametrize(
    "name", ["", " ", ".", "..", " ..", "a/b", "/", "a\\b", "a\0", "a\nb", "\udce9", "x" * 151]
)
def test_names_that_no_folder_has(name, tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "ARCHIVE", tmp_path / "archive")
    assert not FolderName().holds(name)
    (tmp_path / "metrics.json").write_text(json.dumps(RESULTS))
    (tmp_path / "config.yaml").write_text(json.dumps({"name": name}))
    for given in ((name, "data", "task"), ("net", "data", name), ("net", "data", None)):
        with pytest.raises(UserError, match="must be the name of a folder"):
            archive.archive(tmp_path, *given)
    assert not (tmp_path / "archive").exists()
    assert FolderName().holds("lgatr, 6 blocks é")


SCORES = [
    ("logits", None), ("target", None), ("mass", None), ("classes", None), ("classes", 5),
    ("logits", np.zeros((3, 2))), ("target", np.zeros((4, 2))), ("mass", np.array(1.0)),
    ("mass", np.array([b"a"] * 4)), ("classes", ["a"]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), SCORES)
def test_scores_of_a_wrong_kind(name, value, tmp_path):
    path = tmp_path / "test_scores.h5"
    Scores(torch.zeros(4), torch.zeros(4).long(), torch.ones(4), torch.ones(4)).save(
        path, ("a", "b")
    )
    assert Scores.load(path)[1] == ("a", "b")
    with h5py.File(path, "r+") as file:
        place = file.attrs if name == "classes" else file
        del place[name]
        if value is not None:
            place[name] = value
    with pytest.raises(DataError) as caught:
        Scores.load(path)
    assert str(path) in one_line(caught)
