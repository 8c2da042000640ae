"""The directory of a run: claimed once, never overwritten by another run."""

from __future__ import annotations

import json
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from data.atomic import atomic_path
from experiments import saved_config
from experiments.batch import DataSpec
from experiments.errors import UserError
from experiments.saved_config import read_json

CONFIG = saved_config.CONFIG
SPEC = "data_spec.json"
SCORES = "test_scores.h5"
SYMMETRY = "symmetry.txt"
METRICS = "metrics.json"
LAST = Path("checkpoints") / "last.ckpt"
BEST = Path("checkpoints") / "best.ckpt"


def find_last_run(parent: Path) -> Path:
    """The newest run below ``parent`` that has a checkpoint to go on from.

    Raises
    ------
    UserError
        If there is none.
    """
    runs = [c.parents[1] for c in parent.glob(f"*/{LAST}")]
    if not runs:
        raise UserError(f"ckpt_path=last: no run with a checkpoint in {parent}")
    return max(runs, key=lambda run: (run / LAST).stat().st_mtime)


def write_spec(directory: Path, spec: DataSpec) -> None:
    """Note what the model was built for, so that it can be built again without the data."""
    with atomic_path(directory / SPEC) as temporary:
        temporary.write_text(json.dumps(asdict(spec)), encoding="utf-8")


def read_spec(directory: Path) -> DataSpec:
    """What :func:`write_spec` noted.

    Raises
    ------
    UserError
        If there is no such note, or it describes no data set.
    """
    file = directory / SPEC
    if not file.is_file():
        raise UserError(f"{directory}: has no {SPEC}; it is not the folder of a run, or an old one")
    found = read_json(file)
    scalars: Any = found.get("num_scalars")
    classes: Any = found.get("classes")
    if not (isinstance(scalars, int) and not isinstance(scalars, bool) and 0 <= scalars < 10_000):
        raise UserError(f"{file}: num_scalars must be a number of features, not {scalars!r}")
    names = isinstance(classes, list) and all(isinstance(name, str) for name in classes)
    if not (names and len(classes) > 1 and len(set(classes)) == len(classes)):
        raise UserError(f"{file}: classes must be two or more different names, not {classes!r}")
    return DataSpec(scalars, tuple(classes))


def claim(directory: Path, config: str, resume: bool) -> None:
    """Make the directory and put the configuration into it.

    Parameters
    ----------
    directory
        Of the run.
    config
        The resolved configuration as YAML.
    resume
        Whether this run goes on with the one in the directory.

    Raises
    ------
    UserError
        If the directory holds something and this run does not resume it.
    """
    if directory.exists() and not directory.is_dir():
        raise UserError(f"run_dir={directory} is a file; choose a folder")
    if not resume and directory.exists() and any(directory.iterdir()):
        raise UserError(
            f"run_dir={directory} already holds results; choose another run_dir, "
            "or go on with that run by ckpt_path=last"
        )
    directory.mkdir(parents=True, exist_ok=True)
    with atomic_path(directory / CONFIG) as temporary:
        temporary.write_text(config, encoding="utf-8")


def resolve_checkpoint(choice: str, directory: Path) -> Path | None:
    """The checkpoint file to resume from, or None to start anew.

    Parameters
    ----------
    choice
        ``none``, ``last``, or a file.
    directory
        Of the run.

    Raises
    ------
    UserError
        If the file does not exist or cannot be read.
    """
    if choice == "none":
        return None
    path = directory / LAST if choice == "last" else Path(choice)
    if not path.is_file():
        raise UserError(f"ckpt_path={choice}: no checkpoint {path}")
    try:
        torch.load(path, map_location="meta", weights_only=True)
    except Exception as error:  # the unpickler meets junk with errors of any kind
        raise UserError(f"{path} is damaged or not a checkpoint of ours; choose another") from error
    return path


def git_revision(root: Path) -> str:
    """The commit of the code, with ``-dirty`` if files differ from it; ``unknown`` without git."""
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip()
