"""Which jets a run was begun with, so that it never goes on with others unnoticed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data.atomic import write_text
from experiments.errors import UserError
from experiments.saved_runs.saved_config import read_json

IDENTITY = "data_identity.json"

Identity = Mapping[str, str]
"""Digests by split."""


def identity_of(datamodule: Any) -> Identity | None:
    """The jets of a data module, or None of a module that cannot tell."""
    if not hasattr(datamodule, "identity"):
        return None
    found: Identity = datamodule.identity()
    return found


def write_identity(directory: Path, identity: Identity | None) -> None:
    """Note which jets a run begins with."""
    if identity is not None:
        write_text(directory / IDENTITY, json.dumps(dict(identity), indent=1) + "\n")


def check_identity(directory: Path, identity: Identity | None, source: str) -> None:
    """Check that a run goes on with the jets it began with.

    Parameters
    ----------
    directory
        Run directory. Runs of earlier versions noted nothing, and are not checked.
    identity
        The jets as they are now.
    source
        Where they come from, for the message.

    Raises
    ------
    UserError
        If any split differs, or what was noted cannot be read.
    """
    file = directory / IDENTITY
    if identity is None or not file.is_file():
        return
    noted = read_json(file)
    names = list(dict.fromkeys((*noted, *identity)))
    changed = [name for name in names if noted.get(name) != identity.get(name)]
    if not changed:
        return
    raise UserError(
        f"{source}: holds other jets for {' and '.join(changed)} than when the run began; put the "
        f"former ones back, start a new run, or, to go on with these, remove {file}"
    )
