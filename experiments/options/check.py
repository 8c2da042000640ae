"""Check a run's options: as soon as they are known, and again on the machine that runs it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from omegaconf import DictConfig

from experiments.errors import OptionErrors
from experiments.options.schema import Schema


def check_options(cfg: DictConfig) -> None:
    """Names, types and ranges of all options.

    Raises
    ------
    OptionErrors
        With a line for each option that is wrong.
    """
    raise_all([str(problem) for problem in Schema.of(cfg).problems()])


def check_run(cfg: DictConfig) -> None:
    """All that can be known of a run before it reads data or writes anything.

    Raises
    ------
    OptionErrors
        With a line for each option that is wrong.
    UserError, ValueError
        If a part cannot be built.
    """
    from experiments.options import together, trial_build

    check_options(cfg)
    for remark in together.remarks(cfg):
        warnings.warn(remark, stacklevel=2)
    raise_all(together.problems(cfg))
    trial_build.build(cfg)


def raise_all(problems: Sequence[str]) -> None:
    """Raise :class:`OptionErrors` if there are any."""
    if problems:
        raise OptionErrors(problems)
