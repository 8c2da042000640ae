"""Read what a run folder says about itself, wherever the folder comes from."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from experiments.errors import UserError
from experiments.options.renamed import current_option, upgraded
from experiments.saved_runs.trust import check_targets

CONFIG = "config.yaml"
RESUMES = "resumes.json"
_FIGURES = {"accuracy", "accuracy_error", "auc", "auc_error", "loss", "calibration_error"}
MAX_BYTES = 1 << 20
MAX_DEPTH = 50


def _read(path: Path) -> str:
    """The text of a small file."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f"{path}: {path.stat().st_size:,} bytes are no file that a run writes")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; is {path.parent} the folder of a run?") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a text file; restore it from a copy, or run again") from error


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file of a run folder.

    Raises
    ------
    UserError
        If the file is missing, too large, or holds anything else.
    """
    try:
        found = json.loads(_read(path))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: damaged ({error}); restore it, or run again") from error
    if not isinstance(found, dict):
        raise UserError(f"{path}: damaged (holds no JSON object); restore it, or run again")
    return found


def read_metrics(path: Path) -> dict[str, Any]:
    """The figures of a finished run; null is a figure that is undefined.

    Raises
    ------
    UserError
        If the file is missing or damaged, or a figure is anything but a finite number.
    """
    found = read_json(path)
    for name, value in found.items():
        if name in _FIGURES or name.startswith("rejection_"):
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if value is not None and not (number and math.isfinite(value)):
                raise UserError(
                    f"{path}: {name} is {value!r}, no finite number; restore it, or run again"
                )
    return found


def _check_events(text: str) -> None:
    """Refuse aliases, which can unfold to any size, nesting without end, and all but a mapping."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if depth == 0 and isinstance(
            event, (yaml.events.ScalarEvent, yaml.events.SequenceStartEvent)
        ):
            raise ValueError("options with their names are wanted")
        if isinstance(event, yaml.events.AliasEvent):
            raise ValueError("aliases (*name) are not written by runs")
        depth += isinstance(event, yaml.events.CollectionStartEvent)
        depth -= isinstance(event, yaml.events.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise ValueError(f"more than {MAX_DEPTH} levels")


def read_resumes(run: Path) -> list[dict[str, Any]]:
    """When a run was resumed, from which step, and with which changes; oldest first.

    Raises
    ------
    UserError
        If the run's list of these is damaged.
    """
    path = run / RESUMES
    if not path.is_file():
        return []
    entries = read_json(path).get("resumes")
    if not isinstance(entries, list) or not all(
        isinstance(entry, dict) and isinstance(entry.get("changes"), dict) for entry in entries
    ):
        raise UserError(f"{path}: damaged; restore it from a copy, or remove it")
    return entries


def changed(config: DictConfig, changes: Mapping[str, Any]) -> DictConfig:
    """A copy with other values of some options, by their full names."""
    copy = OmegaConf.create(OmegaConf.to_container(config))
    assert isinstance(copy, DictConfig)
    for name, value in changes.items():
        OmegaConf.update(copy, name, value, merge=False, force_add=True)
    return copy


def _upgraded(config: DictConfig) -> DictConfig:
    """The same with the names that this version has."""
    plain: Any = OmegaConf.to_container(config, resolve=False)
    found = OmegaConf.create(upgraded(plain))
    assert isinstance(found, DictConfig)
    return found


def _interpolations(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_interpolations(v) or _interpolations(k) for k, v in value.items())
    if isinstance(value, list):
        return any(map(_interpolations, value))
    return isinstance(value, str) and "${" in value


def load_config(
    run: Path, needs: Sequence[str] = (), trust: Sequence[str] = (), build: bool = True
) -> DictConfig:
    """The configuration of a run folder, checked; with what was changed when it was resumed.

    Parameters
    ----------
    run
        The folder.
    needs
        Sections that must be there, such as ``model``, each a mapping.
    trust
        Packages beside our own whose classes the configuration may name.
    build
        Whether anything will be built from it; if not, nothing is asked of its classes.

    Raises
    ------
    UserError
        If the file is missing or damaged, lacks a section, refers to anything outside itself, or
        names code that is not a part of runs.
    """
    path = run / CONFIG
    text = _read(path)
    try:
        _check_events(text)
        found = OmegaConf.create(text)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError, OmegaConfBaseException) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: damaged ({reason}); restore it, or run again") from error
    if not isinstance(found, DictConfig):
        raise UserError(f"{path}: must hold options with their names; restore it, or run again")
    found = _upgraded(found)
    for entry in read_resumes(run):
        try:
            changes = {current_option(name): value for name, value in entry["changes"].items()}
            found = _upgraded(changed(found, changes))
        except (ValueError, TypeError, OmegaConfBaseException) as error:
            raise UserError(f"{run / RESUMES}: damaged; restore it from a copy") from error
    plain = OmegaConf.to_container(found, resolve=False)
    if _interpolations(plain):
        # Runs store resolved values; a reference here could only read what is not theirs to read.
        raise UserError(f"{path}: holds a reference ${{...}}, which runs never write; remove it")
    for name in needs:
        if not isinstance(OmegaConf.select(found, name, throw_on_missing=False), DictConfig):
            raise UserError(f"{path}: lacks the section {name}; restore it, or run again")
    if build:
        check_targets(plain, str(path), trust)
    return found
