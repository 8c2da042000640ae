"""Check output paths of commands before anything is computed."""

from __future__ import annotations

import os
from pathlib import Path

from data.atomic import as_utf8, check_new
from experiments.errors import UserError

FIGURES = (".pdf", ".png", ".svg")


def encoding_problem(folder: Path | str) -> str | None:
    """Why libraries that want UTF-8 (TensorBoard, safetensors) cannot write there, if so."""
    if as_utf8(str(folder)) == str(folder):
        return None
    return f"{as_utf8(str(folder))}: holds bytes that are no UTF-8; choose another name"


def check_folder(folder: Path, option: str) -> None:
    """Check that a directory can be written to, or created in an existing one.

    Parameters
    ----------
    folder
        Output directory.
    option
        Name of the option, for the error message.

    Raises
    ------
    UserError
        If the name is empty, it is a file or not writable, or its parent does not exist.
    """
    # ``Path("")`` is the working directory, which an empty name does not mean.
    if str(folder) in ("", "."):
        raise UserError(f"{option} needs the name of a folder")
    place = folder if folder.exists() else folder.absolute().parent
    if not place.exists():
        raise UserError(f"{option} {folder}: {place} does not exist; make it, or choose another")
    if not place.is_dir():
        raise UserError(f"{option} {folder}: {place} is a file; choose a folder")
    if not _can_write(place):
        raise UserError(f"{option} {folder}: {place} cannot be written to; choose another folder")
    if problem := encoding_problem(folder):
        raise UserError(f"{option} {problem}")


def check_figure(file: Path, option: str) -> None:
    """Check that a figure can be written.

    Raises
    ------
    UserError
        If its suffix is not one of :data:`FIGURES`, or its folder does not exist.
    DataError
        If it exists.
    """
    if file.suffix.lower() not in FIGURES:
        raise UserError(f"{option} {file}: must end in {', '.join(FIGURES)}")
    if file.is_dir():
        raise UserError(f"{option} {file}: is a folder; name a file in it")
    parent = file.absolute().parent
    if not parent.is_dir():
        raise UserError(f"{option} {file}: {parent} is no folder; make it, or choose another")
    if not _can_write(parent):
        raise UserError(f"{option} {file}: {parent} cannot be written to; choose another folder")
    check_new(file)


def _can_write(folder: Path) -> bool:
    """Whether a file can be created; permissions are not sufficient, for example in ``/proc``."""
    probe = folder / f".{os.getpid()}.probe"
    try:
        probe.touch()
        probe.unlink()
    except OSError:
        return False
    return True
