"""Check names, types and ranges of the options of a composed configuration."""

from __future__ import annotations

from collections.abc import Sequence

from omegaconf import DictConfig

from experiments.errors import OptionErrors
from experiments.options.schema import Schema


def check_options(cfg: DictConfig) -> None:
    """Check names, types and ranges of all options.

    Raises
    ------
    OptionErrors
        With a line for each option that is wrong.
    """
    raise_all([str(problem) for problem in Schema.of(cfg).problems()])


def raise_all(problems: Sequence[str]) -> None:
    """Raise :class:`OptionErrors` if there are any problems."""
    if problems:
        raise OptionErrors(problems)
