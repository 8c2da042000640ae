"""Check the command line of a run: Hydra flags, overrides, and the composed configuration."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.errors import ConfigCompositionException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from experiments.errors import OptionErrors, UserError
from experiments.options import plugins
from experiments.options.overrides import Given, check_repeated, check_sweeps, read, single_runs

HELP = ("help", "hydra_help", "shell_completion")
SHOW = ("cfg", "info")
"""Flags that print something instead of running."""
RUN_DIR = "LGATR_RUN_DIR"
"""Environment variable with the run directory, for all processes of a run."""
_OF_OTHER_PROGRAMS = ("config_name", "config_path", "package", "experimental_rerun")
_HYDRA_FOLDERS = ("hydra.run", "hydra.output_subdir", "hydra.job.chdir", "hydra.runtime")


def _refuse(message: str) -> None:
    raise UserError(f"{message}; see python run.py --help")


def _check_hydra(parsed: Any, overrides: Sequence[str]) -> None:
    """Refuse flags and overrides that change the configuration file or Hydra's directories."""
    for name in _OF_OTHER_PROGRAMS:
        if getattr(parsed, name) is not None:
            flag = name.replace("_", "-")
            _refuse(f"--{flag} {getattr(parsed, name)}: the configuration is config/run.yaml")
    if RUN_DIR in os.environ:
        return  # Lightning passes these to the processes that it starts
    for override in overrides:
        name = override.lstrip("+~").partition("=")[0]
        if any(name == n or name.startswith(f"{n}.") for n in _HYDRA_FOLDERS):
            _refuse(f"{override}: the folder of a run is given by run_dir=FOLDER")


def _split(arguments: Sequence[str]) -> tuple[list[str], list[str], set[str]]:
    """Split arguments into Hydra flags and overrides; returns these and the names of the flags."""
    parser = get_args_parser()
    parser.error = _refuse  # type: ignore[assignment,method-assign]
    parsed = parser.parse_intermixed_args(list(arguments))
    overrides = list(parsed.overrides)
    _check_hydra(parsed, overrides)
    remaining, flags = list(overrides), []
    for argument in arguments:
        if argument in remaining:
            remaining.remove(argument)
        else:
            flags.append(argument)
    return flags, overrides, {name for name, value in vars(parsed).items() if value}


def _read(overrides: Sequence[str], folders: Sequence[Path]) -> list[Given]:
    """Parse overrides, and find the group of each.

    Raises
    ------
    OptionErrors
        With one line for each that cannot be parsed.
    """
    inner = [
        place.relative_to(folder).as_posix()
        for folder in folders
        for place in folder.rglob("*")
        if place.is_dir()
    ]
    groups = {name: plugins.choices(name, folders) for name in sorted(set(inner))}
    groups = {name: choices for name, choices in groups.items() if choices}
    options = [str(key) for key in OmegaConf.load(folders[0] / "run.yaml") if key != "defaults"]
    given, problems = [], []
    for text in overrides:
        try:
            given.append(read(text, groups, options))
        except UserError as error:
            problems.append(str(error))
    if problems:
        raise OptionErrors(problems)
    check_repeated(given)
    return given


def _composed(overrides: Sequence[str]) -> DictConfig:
    """Compose a configuration; an error names the override that does not fit."""
    try:
        return compose("run", overrides=list(overrides), return_hydra_config=True)
    except ConfigCompositionException as error:
        for override in overrides:
            if f"Error merging override {override}" in str(error):
                reason = next(iter(str(error.__cause__ or "").splitlines()), "")
                raise UserError(
                    f"{override.lstrip('+')}: does not fit in its place ({reason}); a list is "
                    "written [a, b], and a group of options needs the names that it has"
                ) from error
        raise


def checked(arguments: Sequence[str], config_dir: Path) -> list[str]:
    """Check all options; returns the arguments in the form that Hydra takes.

    Raises
    ------
    UserError
        If options are wrong; other mistakes raise Hydra's errors.
    """
    flags, overrides, named = _split(arguments)
    if not named.isdisjoint(HELP):
        return [*flags, *overrides]
    given_folders = plugins.given_config_dir(arguments)
    for folder in given_folders:
        if not folder.is_dir():
            raise UserError(f"--config-dir {folder}: no such folder")
    given = _read(overrides, [config_dir, *plugins.config_folders().values(), *given_folders])
    searched = [f"hydra.searchpath=[file://{folder.absolute()}]" for folder in given_folders]
    overrides = [override.text for override in given]
    for number, single in enumerate(single_runs(given)):
        with initialize_config_dir(str(config_dir), version_base="1.3"):
            cfg = _composed([*single, *searched])
        if number == 0 and "multirun" not in named and cfg.hydra.mode is not RunMode.MULTIRUN:
            check_sweeps(given)
        cfg = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
        if named.isdisjoint(SHOW):
            # Imported here, because it takes seconds and wrong names are found before.
            from experiments.options.check import check_options

            check_options(cfg)
    return [*flags, *overrides]
