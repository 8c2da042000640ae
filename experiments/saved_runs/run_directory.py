"""Files of a run directory, which belongs to one run and is never overwritten by another."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import platform
import shlex
import subprocess
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from data.atomic import write_text
from data.events.final_state import FinalState
from experiments.data.batch import DataSpec
from experiments.errors import UserError
from experiments.saved_runs import saved_config
from experiments.saved_runs.metrics_file import read_metrics
from experiments.saved_runs.same_data import IDENTITY, Identity, write_identity
from experiments.saved_runs.saved_config import read_json

CONFIG = saved_config.CONFIG
SPEC = "data_spec.json"
SCORES = "test_scores.h5"
PREDICTIONS = "test_predictions.h5"
EVENTS = "test_events.h5"
SYMMETRY = "symmetry.txt"
METRICS = "metrics.json"
REPORT = "report.html"
RESULTS = (REPORT, SCORES, PREDICTIONS, EVENTS, SYMMETRY, METRICS)
"""What a finished run leaves, the file last that says it is finished."""
RESUMES = saved_config.RESUMES
COMMAND = saved_config.COMMAND
LOCK = ".lock"
LAST = Path("checkpoints") / "last.ckpt"
BEST = Path("checkpoints") / "best.ckpt"


def find_last_run(parent: Path) -> Path:
    """Find the run below ``parent`` that was started, or saved a checkpoint, last.

    Raises
    ------
    UserError
        If there is none.
    """
    marks = [*parent.glob(f"*/{LAST}"), *parent.glob(f"*/{CONFIG}")]
    if not marks:
        raise UserError(f"ckpt_path=last: no run in {parent}")
    newest = max(marks, key=lambda mark: mark.stat().st_mtime)
    return newest.parents[1] if newest.name == LAST.name else newest.parent


def check_no_duplicates(folders: Sequence[Path]) -> None:
    """Check that no run directory is given twice.

    Raises
    ------
    UserError
        At the first that is, also under different names.
    """
    seen: set[Path] = set()
    for folder in folders:
        if (real := folder.resolve()) in seen:
            raise UserError(f"{folder}: given twice; name each run once")
        seen.add(real)


def tested_checkpoint(run: Path) -> Path:
    """The checkpoint with the weights that a run is tested with.

    That is the best of its validations, or the last one of a run that validated nothing or is not
    finished.

    Raises
    ------
    UserError
        If there is no such file.
    """
    best, last = run / BEST, run / LAST
    if best.is_file():
        return best
    figures = read_metrics(run / METRICS) if (run / METRICS).is_file() else {}
    if any(value for name, value in figures.items() if name.startswith("best_val_")):
        raise UserError(f"{run}: no trained run; it lacks {BEST}")
    if not last.is_file():
        raise UserError(f"{run}: no checkpoint yet; train it first")
    return last


def resume_command(directory: Path) -> str:
    """The command that resumes a run."""
    return f"python run.py resume={shlex.quote(str(directory))}"


def write_spec(directory: Path, spec: DataSpec) -> None:
    """Write the data specification, so that the model can be rebuilt without the data."""
    write_text(directory / SPEC, json.dumps(asdict(spec)))


def read_spec(directory: Path) -> DataSpec:
    """Read what :func:`write_spec` wrote.

    Raises
    ------
    UserError
        If there is no such file, or it describes no data set.
    """
    file = directory / SPEC
    if not file.is_file():
        raise UserError(f"{directory}: has no {SPEC}; it is not the folder of a run, or an old one")
    found = read_json(file)
    scalars: Any = found.get("num_scalars")
    classes: Any = found.get("classes")
    if not (isinstance(scalars, int) and not isinstance(scalars, bool) and 0 <= scalars < 10_000):
        raise UserError(f"{file}: num_scalars must be a number of features, not {scalars!r}")
    quantity: Any = found.get("quantity")  # which earlier versions did not know
    if not (quantity is None or isinstance(quantity, str) and quantity):
        raise UserError(f"{file}: quantity must be a name, not {quantity!r}")
    flags: list[Any] = [found.get(name, False) for name in ("uncertain", "conditional")]
    if not all(isinstance(flag, bool) for flag in flags):
        raise UserError(f"{file}: uncertain and conditional must be true or false, not {flags}")
    further: Any = found.get("further_outputs", 0)
    if not (isinstance(further, int) and not isinstance(further, bool) and 0 <= further < 10_000):
        raise UserError(f"{file}: further_outputs must be a number of outputs, not {further!r}")
    names = isinstance(classes, list) and all(isinstance(name, str) for name in classes)
    state: Any = found.get("final_state")
    try:
        final_state = None if state is None else FinalState.from_plain(state)
    except ValueError as error:
        raise UserError(f"{file}: final_state: {error}") from error
    least = 2 if quantity is None and final_state is None else 0
    if not (names and len(classes) >= least and len(set(classes)) == len(classes)):
        raise UserError(f"{file}: classes must be two or more different names, not {classes!r}")
    return DataSpec(scalars, tuple(classes), quantity, flags[0], final_state, flags[1], further)


def check_spec(directory: Path, spec: DataSpec) -> None:
    """Raise :class:`UserError` if a run was started with data of another specification."""
    if (directory / SPEC).is_file() and (noted := read_spec(directory)) != spec:
        raise UserError(
            f"{directory / SPEC}: says {noted.num_scalars} features and {noted.described}, and the "
            f"sample has {spec.num_scalars} and {spec.described}; go on with the sample that the "
            "run began with"
        )


def check_free(directory: Path) -> None:
    """Check that a new run overwrites nothing.

    Raises
    ------
    UserError
        If there is a file of this name, or the directory is not empty.
    """
    if directory.exists() and not directory.is_dir():
        raise UserError(f"run_dir={directory} is a file; choose a folder")
    if directory.exists() and not _is_free(directory):
        raise UserError(
            f"run_dir={directory} already holds results; choose another run_dir, "
            f"or go on with that run: {resume_command(directory)}"
        )


def _is_free(directory: Path) -> bool:
    """Whether nothing is there, or only what :func:`claim` had written when it was interrupted."""
    begun = () if (directory / CONFIG).exists() else (SPEC, IDENTITY, COMMAND)
    return all(p.name in begun or p.name.startswith(".") for p in directory.iterdir())


def check_places(directory: Path) -> None:
    """Check that files and directories of a run are what they should be.

    Raises
    ------
    UserError
        If a directory, or anything else, is in the place of a file, or the reverse.
    """
    for name in (LAST, BEST, CONFIG, SPEC, IDENTITY, COMMAND, RESUMES, *RESULTS):
        place = directory / name
        if place.is_symlink() or place.exists():
            if not place.is_file():
                raise UserError(f"{place}: is no file; restore it from a copy, or remove it")
    for name in (LAST.parent, "logs", "plots"):
        place = directory / name
        if (place.is_symlink() or place.exists()) and not place.is_dir():
            raise UserError(f"{place}: is no folder; restore it from a copy, or remove it")


def lock(directory: Path) -> None:
    """Lock a run directory against other processes for the life of this process.

    Raises
    ------
    UserError
        If another process has the lock.
    """
    directory.mkdir(parents=True, exist_ok=True)
    file = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        # A lock of the process, not of the open file, which forked workers would keep alive.
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.read(file, 200).decode(errors="replace").strip()
        os.close(file)
        if error.errno in (errno.EACCES, errno.EAGAIN):
            raise UserError(f"{directory}: another process ({holder}) works on this run") from error
        warnings.warn(f"{directory}: not locked, the file system cannot ({error})", stacklevel=2)
        return
    os.ftruncate(file, 0)
    os.write(file, f"{os.getpid()} on {platform.node()}".encode())


def claim(
    directory: Path,
    config: str,
    spec: DataSpec,
    overrides: list[str],
    identity: Identity | None = None,
) -> None:
    """Write the files of a new run directory that resuming the run needs.

    Parameters
    ----------
    directory
        Run directory.
    config
        Resolved configuration as YAML.
    spec
        Specification of the data set.
    overrides
        Overrides of the command line.
    identity
        Which jets these are, if known.
    """
    write_spec(directory, spec)
    write_identity(directory, identity)
    write_text(directory / COMMAND, json.dumps({"overrides": overrides, "config": config}) + "\n")
    # Last, so that a directory with a configuration has all other files.
    write_text(directory / CONFIG, config)


def git_revision(root: Path) -> str:
    """The commit of the code, with ``-dirty`` if files differ from it; ``unknown`` without git.

    Nothing is written: ``git describe --dirty`` would take a lock, and leave it in the repository
    if it were killed.
    """
    try:
        commit = _git(root, "rev-parse", "HEAD")
        changes = _git(root, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return f"{commit}-dirty" if changes else commit


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "--no-optional-locks", "-C", str(root), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()
