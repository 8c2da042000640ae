"""Configurations of installed packages, found by entry points.

The entry point ``NAME = "package.folder"`` in the group ``lgatr.configs`` adds a directory of YAML
files that is laid out like ``config/``. A model needs only a file in ``model/`` with its class;
attention backends and data formats have entry points of their own.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin

from data.formats.registry import ENTRY_POINT_GROUP as FORMATS
from experiments.errors import UserError
from lgatr.attention.registry import ENTRY_POINT_GROUP as BACKENDS

CONFIGS = "lgatr.configs"


@cache
def config_folders() -> dict[str, Path]:
    """Configuration directories of installed packages, by name of the entry point.

    Raises
    ------
    UserError
        If an entry point does not name a directory.
    """
    found: dict[str, Path] = {}
    for point in entry_points(group=CONFIGS):
        try:
            spec = importlib.util.find_spec(point.value)
        except ImportError:
            spec = None
        places = list(spec.submodule_search_locations or ()) if spec else []
        if not places:
            raise UserError(
                f"entry point {point.name} of {CONFIGS}: {point.value} is no folder of an "
                "installed package; add its YAML files to package-data, or uninstall the package"
            )
        found[point.name] = Path(places[0])
    return found


def installed_packages() -> set[str]:
    """Top-level packages with entry points of ours."""
    return {
        point.value.partition(":")[0].partition(".")[0]
        for group in (CONFIGS, FORMATS, BACKENDS)
        for point in entry_points(group=group)
    }


def given_config_dir(arguments: Sequence[str]) -> list[Path]:
    """The directory given by Hydra's ``--config-dir`` (``-cd``), if any."""
    for number, argument in enumerate(arguments):
        flag, equals, value = argument.partition("=")
        if flag in ("--config-dir", "-cd"):
            return [Path(value)] if equals else [Path(a) for a in arguments[number + 1 :][:1]]
    return []


def choices(group: str, folders: Iterable[Path]) -> list[str]:
    """Names of the configurations of a group in all directories."""
    return sorted({file.stem for folder in folders for file in (folder / group).glob("*.yaml")})


class PluginConfigs(SearchPathPlugin):
    """Add :func:`config_folders` to Hydra's search path, after ours."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append the directories."""
        for name, folder in config_folders().items():
            search_path.append(provider=name, path=f"file://{folder}")


def register() -> None:
    """Register with Hydra, once per process and before anything is composed."""
    Plugins.instance().register(PluginConfigs)
