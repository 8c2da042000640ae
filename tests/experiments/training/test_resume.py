"""A run that goes on is the same run: its state, its options, its files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import lightning
import pytest
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, EMAWeightAveraging, ModelCheckpoint

from experiments.cli import ROOT
from experiments.errors import UserError
from experiments.saved_runs import run_directory
from experiments.saved_runs.checkpoints import AtomicCheckpointIO
from experiments.saved_runs.curves import read_curves
from experiments.training import resume
from experiments.training.callbacks.last_checkpoint import LastCheckpoint
from experiments.training.run_log import CurveLog
from support.commands import run
from support.runs import files
from support.slow import every


class Numbers:
    """A loader of numbers that goes on where it stopped."""

    def __init__(self, count: int) -> None:
        self.count, self.epoch, self.start = count, 0, 0
        self.place = (0, 0)

    def __len__(self) -> int:
        return self.count

    def __iter__(self):
        epoch, start = self.epoch, self.start
        self.epoch, self.start = epoch + 1, 0
        for number in range(start, self.count):
            self.place = (epoch, number + 1)
            yield torch.tensor([100.0 * epoch + number])

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self.place[0], "position": self.place[1]}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.epoch, self.start = state["epoch"], state["position"]
        if self.start >= self.count:
            self.epoch, self.start = self.epoch + 1, 0


class Follower(LightningModule):
    """One weight that runs after the numbers; its score goes up and down."""

    def __init__(self, batches: int) -> None:
        super().__init__()
        self.weight, self.batches = torch.nn.Parameter(torch.zeros(1)), batches

    def training_step(self, batch, index):
        loss = (self.weight - 0.01 * batch).square().sum()
        self.log("loss", loss)
        return loss

    def validation_step(self, batch, index):
        self.log("score", torch.sin(7 * self.weight.sum()))

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=0.1)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 100)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def train_dataloader(self):
        return Numbers(self.batches)

    def val_dataloader(self):
        return Numbers(2)


class Killed(Exception):
    pass


class Killer(Callback):
    """Ends a training at its n-th event, before what other callbacks do then."""

    def __init__(self, number: int) -> None:
        self.left = number

    def tick(self, *_: object) -> None:
        self.left -= 1
        if self.left == 0:
            raise Killed

    on_train_start = on_train_epoch_start = on_train_batch_start = on_train_batch_end = tick
    on_validation_start = on_validation_batch_end = on_validation_end = tick
    on_train_epoch_end = on_train_end = tick


def train(
    folder: Path, setup: SimpleNamespace, kill: int = 0, checkpoint: Path | None = None
) -> bool:
    """Whether it ended by itself."""
    log = CurveLog(str(folder))
    step = torch.load(checkpoint, weights_only=True)["global_step"] if checkpoint else 0
    log.go_on_from(step)
    best = ModelCheckpoint(folder, "best", "score", mode="max", enable_version_counter=False)
    stop = EarlyStopping("score", patience=setup.patience, mode="max")
    last = LastCheckpoint(
        folder, "last", every_n_train_steps=setup.every, enable_version_counter=False
    )
    trainer = Trainer(
        accelerator="cpu", max_steps=setup.steps, val_check_interval=setup.validate,
        check_val_every_n_epoch=None, accumulate_grad_batches=setup.accumulate, logger=log,
        callbacks=[Killer(kill), EMAWeightAveraging(decay=0.9), stop, best, last],
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
        log_every_n_steps=2, plugins=[AtomicCheckpointIO()],
    )  # fmt: skip
    try:
        trainer.fit(Follower(setup.batches), ckpt_path=checkpoint, weights_only=True)
    except Killed:
        return False
    return True


def outcome(folder: Path) -> dict:
    found: dict = {"curves": read_curves(folder / "csv")}
    for name in ("best", "last"):
        if (folder / f"{name}.ckpt").exists():
            saved = torch.load(folder / f"{name}.ckpt", weights_only=True)
            found[name] = saved["global_step"], saved["state_dict"]["weight"].item()
            state = next(s for n, s in saved["callbacks"].items() if n.startswith("ModelCh"))
            found[f"{name} score"] = state["best_model_score"]
    return found


SETUPS = {
    "early stopping": (7, 3, 3, 60, 1, 2),
    "other intervals": (6, 4, 3, 25, 1, 50),
    "at the end of a pass": (5, 5, 5, 20, 1, 50),
    "accumulated gradients": (7, 6, 2, 15, 3, 50),
    "in the midst of a gradient": (7, 7, 2, 12, 2, 50),
    "no validation": (5, 100, 4, 13, 1, 50),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", every(3, SETUPS))
def test_state_after_any_event(name, tmp_path, monkeypatch):
    """Killed at an event, a training goes on to the curves, weights and choices of a whole one."""
    keys = ("batches", "validate", "every", "steps", "accumulate", "patience")
    setup = SimpleNamespace(**dict(zip(keys, SETUPS[name], strict=True)))
    monkeypatch.chdir(tmp_path)
    assert train(tmp_path / "whole", setup)
    whole = outcome(tmp_path / "whole")
    for number in range(1, 1000, 17):
        folder = tmp_path / str(number)
        if train(folder, setup, kill=number):
            assert number > setup.steps
            break
        last = folder / "last.ckpt"
        assert train(folder, setup, checkpoint=last if last.exists() else None)
        assert outcome(folder) == whole, number


def test_a_log_of_several_parts_goes_on_as_one(tmp_path):
    """Earlier versions began a new part at each resumption."""
    for part, text in enumerate(("step,a\n1,0.1\n3,0.3\n5,0.5\n7,0.", "a,b,step\n0.4,1,4\n,2,6\n")):
        (tmp_path / f"csv/version_{part}").mkdir(parents=True)
        (tmp_path / f"csv/version_{part}/metrics.csv").write_text(text)
    log = CurveLog(str(tmp_path))
    log.go_on_from(6)
    log.log_metrics({"c": 6.5}, 6)
    log.log_metrics({"c": 6.5}, 6)
    log.log_metrics({"a": 0.7}, 7)
    expected = {"a": {1: 0.1, 3: 0.3, 4: 0.4, 7: 0.7}, "b": {4: 1.0}, "c": {6: 6.5}}
    assert read_curves(tmp_path / "csv") == expected
    (file,) = tmp_path.glob("csv/*/*")
    assert len(file.read_text().splitlines()) == 6


def test_a_finished_run_is_left_alone(copy):
    before = files(copy)
    done = run(f"resume={copy}")
    assert (done.returncode, done.stderr) == (0, "")
    assert "is finished, after 2 steps" in done.stdout and "trainer.max_steps=" in done.stdout
    assert files(copy) == before


@pytest.mark.slow
def test_training_longer(copy):
    """In a folder that was moved since; the earlier results stay."""
    before = files(copy)
    done = run(f"resume={copy}", "trainer.max_steps=3")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads((copy / "metrics.json").read_text())["steps"] == 3
    after = files(copy)
    assert after[Path("metrics_2_steps.json")] == before[Path("metrics.json")]
    for name in ("config.yaml", "command.json"):
        assert after[Path(name)] == before[Path(name)]
    (entry,) = json.loads(after[Path("resumes.json")])["resumes"]
    assert entry["changes"] == {"trainer.max_steps": 3} and entry["from_step"] == 2
    assert resume.read_config(copy).trainer.max_steps == 3
    done = run(f"resume={copy}", "trainer.max_steps=1")
    assert done.returncode == 2 and "has 3 steps already" in done.stderr


@pytest.mark.slow
def test_results_are_made_again_without_training(copy):
    """As after a kill between training and report."""
    metrics = json.loads((copy / "metrics.json").read_text())
    (copy / "metrics.json").unlink()
    done = run(f"resume={copy}")
    assert (done.returncode, done.stderr) == (0, "")
    again = json.loads((copy / "metrics.json").read_text())
    for name in ("auc", "loss", "accuracy", "best_val_auc", "steps", "flops_per_jet"):
        assert again[name] == metrics[name]


def test_a_run_without_checkpoint_starts_again(finished, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("config.yaml", "command.json", "data_spec.json", "data_identity.json"):
        shutil.copy(finished / name, folder / name)
    done = run(f"resume={folder}")
    assert (done.returncode, done.stderr) == (0, "")
    ours, theirs = (json.loads((p / "metrics.json").read_text()) for p in (folder, finished))
    assert ours["auc"] == theirs["auc"] and ours["loss"] == theirs["loss"]


def test_damaged_checkpoints_are_noticed(copy):
    """By their checksums: the file of flipped numbers loads without an error."""
    last = copy / "checkpoints/last.ckpt"
    content = bytearray(last.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 768] = bytes(b ^ 1 for b in content[middle : middle + 768])
    last.write_bytes(content)
    torch.load(last, weights_only=True)
    (copy / "metrics.json").unlink()
    before = files(copy)
    done = run(f"resume={copy}")
    assert done.returncode == 2 and "last.ckpt is damaged; best.ckpt is whole" in done.stderr
    assert files(copy) == before
    last.write_bytes(content[:5000])
    shutil.copy(last, copy / "checkpoints/best.ckpt")
    with pytest.raises(UserError, match="no other checkpoint is whole"):
        resume.read_resumed(last, {})
    (copy / "checkpoints/best.ckpt").unlink()
    last.write_bytes(before[Path("checkpoints/best.ckpt")])
    with pytest.raises(UserError, match="best.ckpt is missing"):
        resume.read_resumed(last, {})


@pytest.mark.slow
def test_two_processes_on_one_run(copy, tmp_path):
    """The second is refused, however the first ended before."""
    hold = (
        "import sys, time; from pathlib import Path\n"
        "from experiments.saved_runs import run_directory\n"
        "run_directory.lock(Path(sys.argv[1])); print('locked', flush=True); time.sleep(100)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", hold, str(copy)]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert holder.stdout is not None and holder.stdout.readline() == "locked\n"
    with pytest.raises(UserError, match=rf"another process \({holder.pid} on "):
        run_directory.lock(copy)
    holder.kill()
    holder.wait()
    holder.stdout.close()
    done = subprocess.run([*command[:-2], hold.replace("100", "0"), str(copy)], env=environment)
    assert done.returncode == 0


def test_requests():
    assert resume.is_requested(["resume=a"]) and resume.is_requested(["ckpt_path=last"])
    assert not resume.is_requested(["ckpt_path=a/last.ckpt", "run_dir=resume"])
    with pytest.raises(UserError, match="one by one"):
        resume.plan(["-m", "resume=a"])
    with pytest.raises(UserError, match="no such folder"):
        resume.plan(["resume=nowhere"])
    assert lightning.__version__  # whose loops these tests take apart
