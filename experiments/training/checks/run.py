"""All checks of a run, on the machine that runs it."""

from __future__ import annotations

import warnings

from omegaconf import DictConfig

from experiments.options.check import check_options, raise_all
from experiments.training.checks import combinations, trial_build


def check_run(cfg: DictConfig) -> None:
    """Check everything about a run that can be known before it reads data or writes files.

    Raises
    ------
    OptionErrors
        With a line for each option that is wrong.
    UserError, ValueError
        If a part cannot be built.
    """
    check_options(cfg)
    for remark in combinations.remarks(cfg):
        warnings.warn(remark, stacklevel=2)
    raise_all(combinations.problems(cfg))
    trial_build.build(cfg)
