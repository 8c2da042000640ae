"""Generate events with the weights of a trained run, and write them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from numpy.lib import format as npy
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from data.atomic import atomic_path
from data.events.export import WRITERS, write_events
from data.events.final_state import FinalState
from experiments.errors import UserError
from experiments.flows import sampling
from experiments.saved_runs import run_directory
from experiments.saved_runs.checkpoints import check_fits, load_best
from experiments.saved_runs.saved_config import load_config
from experiments.tasks.building import build_task
from experiments.tasks.generation import Generation

_CHUNK = 10_000


def suffixes() -> list[str]:
    """Endings of files that can be written."""
    return [".h5", ".npy", *WRITERS]


def sample(
    run: Path,
    events: int,
    out: Path,
    seed: int,
    batch: int,
    cuts: bool,
    trust: Sequence[str] = (),
) -> str:
    """Generate events and write them to a file; returns one line about it.

    Parameters
    ----------
    run
        Run directory.
    events, seed, batch
        How many events, from which seed, and how many at once.
    out
        The file; its suffix chooses the format.
    cuts
        Whether events that fail the cuts are generated again.
    trust
        Packages besides our own that the run's configuration may call.

    Raises
    ------
    UserError
        If the folder is none of a trained flow, or events need conditions.
    """
    task, weights = _load(run, trust)
    state = task.state
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    task.to(device).eval()

    def generate(numbers: Sequence[int]) -> torch.Tensor:
        return task.generate(numbers, seed)

    solver = getattr(task, "solver", None)
    identity = {"weights": weights, "seed": seed, "cuts": cuts, "solver": repr(solver)}
    there = sampling.Progress(out, identity, len(state.names))
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns) as progress:
        bar = progress.add_task("Generating events", total=events, completed=len(there))
        while len(there) < events:
            numbers = range(len(there), min(len(there) + batch, events))
            if cuts:
                there.append(sampling.passing(generate, numbers, state))
            else:
                there.append(generate(numbers).numpy(force=True))
            progress.update(bar, completed=len(there))
    count = _write(out, there, state, events)
    there.remove()
    return f"{out}: {count:,} events, {out.stat().st_size / 1e6:.1f} MB"


def _load(run: Path, trust: Sequence[str]) -> tuple[Generation, str]:
    """The task of a run with its best weights, and a digest of them."""
    if not (run / run_directory.CONFIG).is_file():
        raise UserError(f"{run}: no trained run; it lacks {run_directory.CONFIG}")
    cfg = load_config(run, ("data", "task", "model", "optimizer", "scheduler"), trust)
    spec = run_directory.read_spec(run)
    if spec.final_state is None:
        raise UserError(f"{run}: predicts {spec.described}; only generators make events")
    if spec.conditional:
        raise UserError(
            f"{run}: generates events from others; test it on those by "
            f"python -m experiments.evaluate {run} --data FILE"
        )
    task, _ = build_task(cfg, spec)
    if not isinstance(task, Generation):
        raise UserError(f"{run}: its task is {type(task).__name__}; only generators make events")
    path, checkpoint = load_best(run)
    check_fits(task, {**checkpoint, "optimizer_states": []}, path)
    task.load_state_dict(checkpoint["state_dict"])
    digest = hashlib.sha256()
    for name, tensor in sorted(checkpoint["state_dict"].items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return task, digest.hexdigest()[:16]


def _write(out: Path, there: sampling.Progress, state: FinalState, events: int) -> int:
    """Write the first events; the others are of an earlier, longer wish."""

    def chunks() -> Any:
        left = events
        for chunk in there.chunks(_CHUNK):
            yield chunk[:left]
            left -= len(chunk)
            if left <= 0:
                return

    shape = (events, len(state.names), 4)
    with atomic_path(out) as temporary:
        if out.suffix in WRITERS:
            write_events(temporary, state, chunks())
        elif out.suffix == ".npy":
            with open(temporary, "wb") as file:
                header = {"descr": "<f8", "fortran_order": False, "shape": (events, 4 * shape[1])}
                npy.write_array_header_1_0(file, header)
                for chunk in chunks():
                    file.write(np.ascontiguousarray(chunk).tobytes())
        else:
            with h5py.File(temporary, "w") as file:
                momenta = file.create_dataset("momenta", shape, "f8")
                momenta.attrs.update({"columns": "E,px,py,pz", "unit": "GeV"})
                file.attrs["particles"] = ",".join(state.names)
                first = 0
                for chunk in chunks():
                    momenta[first : first + len(chunk)] = chunk
                    first += len(chunk)
    return events
