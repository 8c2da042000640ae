"""Kill runs at random moments, resume them, and compare with runs that nobody killed.

    python tests/support/kill_script.py FOLDER TRIALS SEED

prints one JSON object for each trial. Every run is a process of its own, forked from this one after
all imports, so that a trial takes seconds.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
import time
import traceback
from pathlib import Path

import h5py
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import hydra  # noqa: F401

import run as program
from data.events import files
from data.events.final_state import Cuts, FinalState
from data.signals import one_line_interrupts
from experiments.saved_runs.curves import read_rows
from experiments.tasks.base import Task
from experiments.tasks.generation import Generation
from experiments.training import resume, runner  # noqa: F401
from support.flows import flow_events

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
PHASES = {"training": 0.03, "validation": 0.02, "test": 0.05, "report": 2.0, "start": 3.0}
"""Longest time between an event of a phase and the kill, in seconds."""
OF_THIS_MACHINE = (
    "training_seconds", "jets_per_second", "waiting_for_data", "peak_memory_gb", "date",
    "git_revision", "versions",
)  # fmt: skip
COMMON = (
    "trainer.max_steps=64", "trainer.val_check_interval=10", "trainer.log_every_n_steps=3",
    "callbacks.progress=null", "optimizer.lr=3e-3",
)  # fmt: skip
TAGGER = ("model=transformer_small", "model.num_blocks=1", "model.dropout=0.1")
EVENTS = "events.h5"
SETUPS = {
    "in memory": (
        *TAGGER, "experiment=toptagging", "data.limit=500", "data.eval_limit=300",
        "data.batch_size=32",
        "data.eval_token_budget=1000", "plots=[png]",
    ),
    "workers": (
        *TAGGER, "experiment=toptagging", "data.limit=200", "data.eval_limit=200",
        "data.batch_size=16",
        "data.num_workers=1", "callbacks.early_stopping.patience=1", "plots=[]",
    ),
    "streamed": (
        *TAGGER, "experiment=quarkgluon", "data.limit=400", "data.eval_limit=200",
        "data.batch_size=16",
        "data.chunk_size=50", "data.mix=2", "plots=[]",
    ),
    "amplitudes": (
        "experiment=amplitudes", "data.process=zg", "data.events=500", "data.eval_events=200",
        "data.batch_size=32", "data.eval_batch_size=50", "model=transformer_amplitudes",
        "model.num_blocks=1", "model.dropout=0.1", "task.uncertainty=true", "scheduler=plateau",
        "scheduler.patience=1", "plots=[]",
    ),
    "generation": (
        "experiment=ttbar", f"data.path={EVENTS}", "data.batch_size=32", "data.eval_batch_size=10",
        "model=mlp_flow", "model.hidden_channels=16", "task.solver.step=0.25",
        "task.nll_events=15", "task.test_nll_events=15", "task.classifier.epochs=2", "plots=[png]",
    ),
}  # fmt: skip


RESULTS = {
    "test_scores.h5": "logits", "test_predictions.h5": "predicted", "test_events.h5": "generated",
}  # fmt: skip
"""What a test leaves of each event, by the kind of task."""


def arm(phase: str, count: int, delay: float, signum: int) -> None:
    """Have a signal sent some time after the ``count``-th event of a phase."""
    left = count

    def event(*_: object) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            timer = threading.Timer(delay, os.kill, (os.getpid(), signum))
            timer.daemon = True
            timer.start()

    def before(owner: object, name: str, wanted: object = lambda *_: True) -> None:
        inner = getattr(owner, name)

        def outer(*args: object, **options: object) -> object:
            if wanted(*args):
                event()
            return inner(*args, **options)

        setattr(owner, name, outer)

    if phase == "training":
        before(Task, "training_step")
    elif phase == "validation":
        before(Task, "validation_step", lambda task, *_: task.trainer.validating)
    elif phase == "test":
        before(Task, "test_step")
        before(Generation, "test_step")
    elif phase == "report":
        before(runner, "gather")
    else:
        event()


def execute(arguments: list[str], log: Path, kill: tuple | None = None) -> int:
    """One run in a process of its own; returns its exit status, negative for a signal."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.setsid()
            file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            os.dup2(file, 1)
            os.dup2(file, 2)
            sys.argv = [str(Path(program.__file__)), *arguments]
            with one_line_interrupts():
                if kill is not None:
                    arm(*kill)
                program.main(arguments)
            status = 0
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def outcome(folder: Path) -> dict:
    """All that may not depend on interruptions."""
    metrics = json.loads((folder / "metrics.json").read_text())
    found: dict = {k: v for k, v in metrics.items() if k not in OF_THIS_MACHINE}
    found["curves"] = [
        {k: v for k, v in row.items() if k != "jets/s"} for row in read_rows(folder / "logs/csv")
    ]
    for name in ("best", "last"):
        saved = torch.load(folder / f"checkpoints/{name}.ckpt", weights_only=True)
        found[name] = {k: v.double().sum().item() for k, v in saved["state_dict"].items()}
        found[name]["step"] = saved["global_step"]
    for name in RESULTS:
        if (folder / name).is_file():
            with h5py.File(folder / name) as file:
                found["results"] = file[RESULTS[name]][:].tolist()
    return found


def differences(ours: dict, theirs: dict) -> list[str]:
    return [
        f"{name}: {str(ours.get(name))[:200]} instead of {str(theirs.get(name))[:200]}"
        for name in sorted({*ours, *theirs})
        if ours.get(name) != theirs.get(name)
    ]


def trial(number: int, folder: Path, whole: dict, draw: random.Random) -> dict:
    """Kill a run once or twice, let it end, and compare."""
    # Each setup meets each phase in turn.
    name = list(SETUPS)[(number + number // len(PHASES)) % len(SETUPS)]
    phase = list(PHASES)[number % len(PHASES)]
    killed, log = folder / f"killed_{number}", folder / f"log_{number}"
    kills, problems, statuses = [], [], []
    for attempt in range(4):
        kill = None
        if attempt == 0 or (attempt == 1 and number % 3 == 0):
            phase = phase if attempt == 0 else draw.choice(list(PHASES))
            count = draw.randint(1, {"training": 60, "validation": 8}.get(phase, 1))
            signum = SIGNALS[draw.randrange(4) if attempt else number % 4]
            kill = (phase, count, draw.random() * PHASES[phase], signum)
            kills.append([phase, count, round(kill[2], 4), signal.Signals(signum).name])
        go_on = (killed / "config.yaml").is_file()
        options = [f"resume={killed}"] if go_on else [*COMMON, *SETUPS[name], f"run_dir={killed}"]
        status = execute(options, log, kill)
        statuses.append(status)
        text = log.read_text(errors="replace")
        if "Traceback" in text or "Exception" in text or (status not in (0, -9) and kill is None):
            problems.append(text[-1500:])
        if kill is not None and status not in (0, -9):
            stopped = [line for line in text.splitlines() if line.startswith("stopped by")]
            if status != 128 + kill[3] or len(stopped) != 1:
                problems.append(f"status {status}: {text[-500:]}")
        if status == 0:
            break
    if (killed / "metrics.json").is_file():
        problems += differences(outcome(killed), whole[name])
    else:
        problems.append("not finished: " + log.read_text(errors="replace")[-1500:])
    return {"trial": number, "setup": name, "kills": kills, "statuses": statuses,
            "problems": problems}  # fmt: skip


def write_events(path: Path) -> None:
    """Whole events of independent particles."""
    state = FinalState(("b1", "q1", "q2", "b2", "q3", "q4"), (None,) * 6, Cuts(20.0, 0.2, 5.0))
    torch.manual_seed(0)
    p = flow_events(state, 300).numpy()
    parts = {"train": p[:240], "val": p[240:270], "test": p[270:]}
    files.write(path, {name: files.Sample(x, None, state) for name, x in parts.items()}, {})


def main(folder: Path, trials: int, seed: int) -> None:
    torch.set_num_threads(1)
    for signum in SIGNALS[1:]:  # under nohup, or in the background, some would be ignored
        signal.signal(signum, signal.SIG_DFL)
    whole = {}
    write_events(folder / EVENTS)
    os.chdir(folder)
    for name, options in SETUPS.items():
        target = folder / name.replace(" ", "_")
        log = folder / "log"
        if execute([*COMMON, *options, f"run_dir={target}"], log) != 0:
            sys.exit(log.read_text())
        whole[name] = outcome(target)
    draw = random.Random(seed)
    for number in range(trials):
        begin = time.time()
        found = trial(number, folder, whole, draw)
        print(json.dumps({**found, "seconds": round(time.time() - begin, 1)}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
