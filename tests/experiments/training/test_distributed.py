"""Two processes train what one trains."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.callbacks import WeightAveraging

from experiments.cli import ROOT
from experiments.errors import UserError
from experiments.training.failures import explained_failures
from experiments.training.sharding import ShardedStrategy
from support import commands

COMMON = (
    "plots=[]",
    "model=lgatr_small", "model.network.num_blocks=1",
    "data.limit=400", "data.eval_limit=100", "data.batch_size=16",
    "trainer.precision=64-true",
    "trainer.val_check_interval=10", "trainer.log_every_n_steps=1", "trainer.accelerator=cpu",
)  # fmt: skip
TWO = ("trainer=ddp", "trainer.devices=2")


def start(
    folder: Path, *arguments: str, experiment: str = "toptagging", own_session: bool = False
) -> subprocess.Popen:
    given = {argument.partition("=")[0] for argument in arguments}
    common = [option for option in COMMON if option.partition("=")[0] not in given]
    fixed = (f"experiment={experiment}", *common, f"run_dir={folder}")
    command = [sys.executable, str(ROOT / "run.py"), *fixed, *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        start_new_session=own_session,
    )  # fmt: skip


def finish(process: subprocess.Popen) -> None:
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors


def weights(folder: Path) -> dict[str, torch.Tensor]:
    found = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    return {name: tensor for name, tensor in found.items() if tensor.is_floating_point()}


def figures(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    options = (*COMMON, "experiment=toptagging", "trainer.max_steps=20")
    commands.run(*options, f"run_dir={one}", check=True)
    finish(start(two, "trainer.max_steps=20", *TWO))
    ours, theirs = weights(one), weights(two)
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-5, atol=1e-7, msg=name)
    a, b = figures(one), figures(two)
    for name in ("auc", "loss", "accuracy"):
        assert a[name] == pytest.approx(b[name], abs=1e-6)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one", "two"]


def assert_same(ours: Path, theirs: Path) -> None:
    a, b = weights(ours), weights(theirs)
    assert a.keys() == b.keys()
    for name, tensor in a.items():
        torch.testing.assert_close(tensor, b[name], rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.slow(minutes=1)
def test_sharded_weights_train_as_whole_ones(tmp_path, model="lgatr_slim_small"):
    """FSDP ends with the weights of DDP, and each goes on from the other's checkpoint."""
    options = (f"model={model}", "callbacks.ema=null", "trainer.precision=32-true")
    ddp, fsdp = (*options, "trainer=ddp", TWO[1]), (*options, "trainer=fsdp", TWO[1])
    whole, sharded = tmp_path / "whole", tmp_path / "sharded"
    finish(start(whole, "trainer.max_steps=20", *ddp))
    finish(start(sharded, "trainer.max_steps=20", *fsdp))
    assert_same(sharded, whole)
    a, b = figures(sharded), figures(whole)
    assert a["loss"] == pytest.approx(b["loss"], abs=1e-5)
    for name in ("parameters", "symmetry", "flops_per_jet", "attention_executed"):
        assert a[name] == b[name]
    finish(start(whole, "trainer.max_steps=25", "ckpt_path=last", *fsdp))
    finish(start(sharded, "trainer.max_steps=25", "ckpt_path=last", *ddp))
    assert figures(whole)["steps"] == figures(sharded)["steps"] == 25
    assert_same(sharded, whole)


@pytest.mark.slow
def test_an_optimizer_of_whole_matrices_refuses_sharded_ones(tmp_path):
    options = ("trainer=fsdp", TWO[1], "trainer.precision=32-true", "callbacks.ema=null")
    process = start(tmp_path / "run", *options, "optimizer=soap")
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 2
    assert "take optimizer=adamw" in errors and "Traceback" not in errors


def test_averages_of_sharded_weights_are_refused():
    task = SimpleNamespace(trainer=SimpleNamespace(callbacks=[WeightAveraging()]))
    strategy = ShardedStrategy()
    strategy._lightning_module = task
    with pytest.raises(ValueError, match="callbacks.ema=null"):
        strategy.setup_environment()


def wait_for_checkpoint(process: subprocess.Popen, folder: Path, after: float = 0.0) -> None:
    """Wait until a running process has saved one later than a point in time."""
    checkpoint = folder / "checkpoints/last.ckpt"
    deadline = time.time() + 200
    while not checkpoint.exists() or checkpoint.stat().st_mtime <= after:
        assert process.poll() is None, process.stderr.read()
        assert time.time() < deadline
        time.sleep(0.05)


def step_of(folder: Path) -> int:
    return torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["global_step"]


def assert_exactly_equal(folder: Path, whole: Path) -> None:
    ours, theirs = weights(folder), weights(whole)
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, rtol=1e-9, atol=1e-12, msg=name)


def kill_a_rank(process: subprocess.Popen) -> None:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert children
    os.kill(int(children[0]), signal.SIGKILL)
    _, errors = process.communicate(timeout=200)
    assert process.returncode != 0
    # Whoever is first: Lightning's watchdog, or we, over the broken connection.
    words = ("[rank: 1] Child process with PID", "error: another process of this run ended")
    assert sum(line.startswith(words) for line in errors.splitlines()) == 1, errors
    assert "Traceback" not in errors


def ask_one_process(process: subprocess.Popen) -> None:
    """As batch systems do."""
    process.send_signal(signal.SIGTERM)
    assert_ended_by(process, signal.SIGTERM)


def ask_all_processes(process: subprocess.Popen) -> None:
    """As terminals do."""
    os.killpg(process.pid, signal.SIGINT)
    assert_ended_by(process, signal.SIGINT)


def assert_ended_by(process: subprocess.Popen, how: signal.Signals) -> None:
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 128 + how
    assert "Traceback" not in errors
    # Libraries of the other process may end with an empty line.
    last = [line for line in errors.splitlines() if line.strip()][-1]
    assert last.startswith(f"stopped by {how.name}; go on by: python run.py")


@pytest.mark.slow(minutes=2)
def test_two_processes_are_interrupted_in_every_way(tmp_path):
    """Each time both end, and in the end the weights are those of two that never stopped."""
    folder, whole = tmp_path / "run", tmp_path / "whole"
    options = ("scheduler.warmup_steps=0", "scheduler.final_fraction=1", *TWO)
    begun = 0.0
    for interrupt in (kill_a_rank, ask_one_process, ask_all_processes):
        resumed = ("ckpt_path=last",) if begun else ()
        process = start(folder, "trainer.max_steps=100000", *resumed, *options, own_session=True)
        wait_for_checkpoint(process, folder, begun)
        interrupt(process)
        begun = time.time()
    steps = f"trainer.max_steps={step_of(folder) + 3}"
    command = [sys.executable, str(ROOT / "run.py"), f"resume={folder}", steps]
    subprocess.run(command, check=True, capture_output=True)
    finish(start(whole, steps, *options))
    assert figures(folder)["steps"] == figures(whole)["steps"] > 30
    assert_exactly_equal(folder, whole)


@pytest.mark.slow(minutes=1)
def test_each_rank_goes_on_at_the_exact_sample_of_a_stream(tmp_path):
    options = ("trainer.max_steps=60", "data.chunk_size=50", "data.mix=2", *TWO)
    finish(start(tmp_path / "whole", *options, experiment="quarkgluon"))
    folder = tmp_path / "killed"
    process = start(folder, *options, experiment="quarkgluon")
    wait_for_checkpoint(process, folder)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=200)
    assert 10 <= step_of(folder) < 60
    finish(start(folder, "ckpt_path=last", *options, experiment="quarkgluon"))
    assert_exactly_equal(folder, tmp_path / "whole")


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("DataLoader worker (pid 7) is killed by signal: Killed.", "prepares batches was killed"),
        ("DataLoader worker (pid(s) 7) exited unexpectedly", "prepares batches was killed"),
        ("Set slist failed (file write failed: ... message = 'File too large'", "no room left"),
        ("[gloo/transport] Connection closed by peer [127.0.0.1]:3", "another process"),
        ("CUDA out of memory. Tried to allocate 2.00 GiB", "lower data.batch_size"),
        ("aten.lerp_.Scalar got mixed torch.Tensor and DTensor, need to", "optimizer=adamw"),
    ],
)
def test_explanations(message, words):
    with pytest.raises(UserError, match=f"{words}.*go on by: COMMAND"):
        with explained_failures("COMMAND"):
            raise RuntimeError(message)
    full = OSError(errno.ENOSPC, "essay", "last.ckpt")
    with pytest.raises(UserError, match="last.ckpt: No space left on device; go on by: COMMAND"):
        with explained_failures("COMMAND"):
            raise full
    with pytest.raises(RuntimeError, match="something else"), explained_failures("COMMAND"):
        raise RuntimeError("something else")
