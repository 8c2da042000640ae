"""Packages that only some models need."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from data.errors import install_hint
from experiments.errors import UserError


def needed(module: str, model: str, extra: str = "baselines") -> ModuleType:
    """Import a module of an optional package.

    Parameters
    ----------
    module
        Full name.
    model
        Name of the configuration that needs it.
    extra
        Of this project, which installs the package.

    Raises
    ------
    UserError
        If the package is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise UserError(
            f"model={model} needs the package of {module}; {install_hint(extra)}"
        ) from error
