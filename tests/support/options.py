"""Configurations, and what the check of a command line answers."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir

from experiments.cli import CONFIG_DIR, one_line_errors
from experiments.options.command_line import checked
from experiments.training.checks.run import check_run


def composed(*overrides: str) -> Any:
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return compose("run", overrides=list(overrides))


def refused(*arguments: str) -> list[str]:
    """The lines that a command would answer with; none if it would run."""
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors), one_line_errors():
            cfg = composed(*checked(arguments, CONFIG_DIR))
            check_run(cfg)
    except SystemExit as error:
        assert error.code == 2
        assert not Path("run").exists()
        lines = errors.getvalue().splitlines()
        assert lines and all(line.startswith("error: ") for line in lines)
        return lines
    assert not errors.getvalue()
    return []
