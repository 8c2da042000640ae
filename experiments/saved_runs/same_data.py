"""Which jets a run was begun with, so that it never goes on with others unnoticed."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data.atomic import write_text
from data.identity import DAMAGED
from experiments.errors import UserError
from experiments.saved_runs.saved_config import read_json

IDENTITY = "data_identity.json"
Identity = Mapping[str, str]
"""Digests by what they are of: a split that is in memory, or a file."""

_MOST_BYTES = 1 << 26  # of some hundred thousand files
_SHOWN = 3


def identity_of(datamodule: Any, noted: Identity | None) -> Identity | None:
    """The jets of a data module, or None of a module that cannot tell.

    Parameters
    ----------
    datamodule
        Set up for all splits.
    noted
        What was noted when the run began, if anything: large files are compared in the way noted.
    """
    if not hasattr(datamodule, "identity"):
        return None
    found: Identity = datamodule.identity(noted or {})
    return found


def write_identity(directory: Path, identity: Identity | None) -> None:
    """Note which jets a run begins with."""
    if identity is not None:
        write_text(directory / IDENTITY, json.dumps(dict(identity), indent=1) + "\n")


def read_identity(directory: Path) -> Identity | None:
    """What :func:`write_identity` wrote; None if it was not called, as in earlier versions.

    Raises
    ------
    UserError
        If the file is damaged.
    """
    file = directory / IDENTITY
    if not file.is_file():
        return None
    found = read_json(file, _MOST_BYTES)
    if not found or not all(name and isinstance(text, str) for name, text in found.items()):
        raise UserError(
            f"{file}: damaged; restore it from a copy, or remove it, and see yourself that the "
            "jets are those of before"
        )
    return found


def check_identity(directory: Path, identity: Identity | None, source: str) -> None:
    """Check that a run goes on with the jets it began with.

    Parameters
    ----------
    directory
        Run directory. If nothing was noted there, nothing is compared.
    identity
        The jets as they are now.
    source
        Where they come from, for the message.

    Raises
    ------
    UserError
        If any of them differ.
    """
    noted = read_identity(directory)
    if identity is None or noted is None:
        return
    names = dict.fromkeys((*noted, *identity))
    changed = [name for name in names if noted.get(name) != identity.get(name)]
    left_out = [n for n in changed if DAMAGED in (noted.get(n), identity.get(n))]
    if others := [name for name in changed if name not in left_out]:
        raise UserError(
            f"{source}: holds other jets than when the run began ({_listed(others)}); put the "
            "former ones back, start a new run, or, to go on with these, remove "
            f"{directory / IDENTITY}"
        )
    if left_out:
        warnings.warn(
            f"{source}: files that are damaged are others than when the run began "
            f"({_listed(left_out)}); batches are no longer those of a run without interruption",
            stacklevel=2,
        )


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
