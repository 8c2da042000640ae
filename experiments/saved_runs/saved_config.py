"""Read configuration and metrics of a run directory, without trusting its origin."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from experiments.errors import UserError
from experiments.options.renamed import current_option, upgraded
from experiments.saved_runs.edited_config import check_unedited
from experiments.saved_runs.resumable import harmless_place
from experiments.saved_runs.trust import check_targets

CONFIG = "config.yaml"
COMMAND = "command.json"
RESUMES = "resumes.json"
MAX_BYTES = 1 << 20
MAX_DEPTH = 50


def _read(path: Path, most: int = MAX_BYTES) -> str:
    """Read a small text file."""
    try:
        if path.stat().st_size > most:
            raise UserError(f"{path}: {path.stat().st_size:,} bytes are no file that a run writes")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; is {path.parent} the folder of a run?") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a text file; restore it from a copy, or run again") from error


def read_json(path: Path, most: int = MAX_BYTES) -> dict[str, Any]:
    """Read a JSON object from a file of a run directory, of so many bytes at most.

    Raises
    ------
    UserError
        If the file is missing, too large, or holds anything else.
    """
    try:
        found = json.loads(_read(path, most))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: damaged ({error}); restore it, or run again") from error
    if not isinstance(found, dict):
        raise UserError(f"{path}: damaged (holds no JSON object); restore it, or run again")
    return found


def _check_events(text: str) -> None:
    """Refuse aliases, which can expand to any size, deep nesting, and anything but a mapping."""
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
    """Read when a run was resumed, from which step and with which changes; oldest first.

    Raises
    ------
    UserError
        If the file is damaged.
    """
    path = run / RESUMES
    if not path.is_file():
        return []
    entries = read_json(path).get("resumes")
    if not isinstance(entries, list) or not all(map(_is_resumption, entries)):
        raise UserError(f"{path}: damaged; restore it from a copy, or remove it")
    return entries


def _is_resumption(entry: Any) -> bool:
    step = entry.get("from_step", 0) if isinstance(entry, dict) else None
    is_count = isinstance(step, int) and not isinstance(step, bool) and step >= 0
    return is_count and isinstance(entry.get("changes"), dict)


def changed(config: DictConfig, changes: Mapping[str, Any]) -> DictConfig:
    """Copy a configuration with new values of options, given by full names."""
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
    """Read and check the configuration of a run, with the changes of its resumptions.

    Parameters
    ----------
    run
        Run directory.
    needs
        Required sections, such as ``model``, each a mapping.
    trust
        Packages besides our own whose classes the configuration may name.
    build
        Whether parts will be built from it; if not, their classes are not checked.

    Raises
    ------
    UserError
        If the file is missing or damaged, lacks a section, contains references, was edited since
        the run began, or names code that is not a part of runs.
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
    _check_values(found, path, trust if build else None)
    if (noted := _noted(run)) is not None:
        check_unedited(path, text, noted)
    for entry in read_resumes(run):
        found = _with_changes(found, entry["changes"], run / RESUMES, build)
        _check_values(found, run / RESUMES, trust if build else None)
    for name in needs:
        if not isinstance(OmegaConf.select(found, name, throw_on_missing=False), DictConfig):
            raise UserError(f"{path}: lacks the section {name}; restore it, or run again")
    return found


def _noted(run: Path) -> str | None:
    """The configuration when a run began; None for runs of earlier versions."""
    file = run / COMMAND
    noted = read_json(file).get("config") if file.is_file() else None
    if noted is None:
        return None
    try:
        if not isinstance(noted, str):
            raise ValueError("the configuration is no text")
        _check_events(noted)
        if not isinstance(yaml.safe_load(noted), dict):
            raise ValueError("no options with their names")
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{file}: damaged ({reason}); restore it from a copy, or remove it"
        ) from error
    return noted


def _check_values(config: DictConfig, path: Path, trust: Sequence[str] | None) -> None:
    """Refuse references and, unless ``trust`` is None, names of code that is not part of runs."""
    plain = OmegaConf.to_container(config, resolve=False)
    if _interpolations(plain):
        # Runs store resolved values; a reference could read, for example, environment variables.
        raise UserError(f"{path}: holds a reference ${{...}}, which runs never write; remove it")
    if trust is not None:
        check_targets(plain, str(path), trust)


def _with_changes(
    config: DictConfig, changes: Mapping[str, Any], path: Path, build: bool
) -> DictConfig:
    """The same as it went on after a resumption, which the command line would have allowed."""
    data = config.get("data") if build else None
    datamodule = data.get("_target_") if isinstance(data, DictConfig) else None
    current = {current_option(name): value for name, value in changes.items()}
    for name in current:
        if harmless_place(name, datamodule) is None:
            raise UserError(
                f"{path}: changes {name}, on which results depend; restore it from a copy, or "
                "remove it"
            )
    try:
        return _upgraded(changed(config, current))
    except (ValueError, TypeError, OmegaConfBaseException) as error:
        raise UserError(f"{path}: damaged; restore it from a copy") from error
