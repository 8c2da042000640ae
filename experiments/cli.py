"""Frame of all commands: checked command lines, one-line errors and warnings, Hydra resolvers."""

from __future__ import annotations

import argparse
import importlib.util
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, InstantiationException
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from data.errors import describe, install_hint
from data.signals import failures_after_a_signal
from experiments.errors import OptionErrors, UserError
from experiments.options import plugins
from experiments.options.command_line import checked

ROOT = Path(__file__).resolve().parents[1]
CONFIG_DIR = ROOT / "config"
plugins.register()

OmegaConf.register_new_resolver("project_root", lambda: str(ROOT), replace=True)


def _job_suffix() -> str:
    """Suffix of the run directory in a multirun: ``_3`` for the fourth run."""
    if not HydraConfig.initialized() or HydraConfig.get().mode is not RunMode.MULTIRUN:
        return ""
    return f"_{HydraConfig.get().job.num}"


OmegaConf.register_new_resolver("job_suffix", _job_suffix, replace=True)


def _halved(base: float, size: float) -> float:
    """A number for models of size 0, halved by each step up; see experiments/models/sized.py."""
    return float(base) * 2.0 ** -float(size)


OmegaConf.register_new_resolver("halved", _halved, replace=True)


def _required(what: str) -> str:
    """Resolver of options without a default; :mod:`experiments.options.schema` names the option."""
    raise UserError(f"an option must be given: {what}")


OmegaConf.register_new_resolver("required", _required, replace=True)


_PLUGINS = {
    "search=optuna": ("hydra_optuna_sweeper", "sweeps"),
    "trainer=slurm": ("hydra_submitit_launcher", "slurm"),
}
"""Choices that need a Hydra plugin: its module, and the extra that installs it."""


def _check_plugin(override: str) -> None:
    module, extra = _PLUGINS.get(override, ("", ""))
    if not module:
        return
    try:
        found = importlib.util.find_spec(f"hydra_plugins.{module}")
    except ModuleNotFoundError:
        found = None
    if found is None:
        fail(f"{override} needs a plugin of Hydra: {install_hint(extra)}")


def fail(message: str) -> None:
    """Print one line and exit with status 2."""
    _print_error(message)
    raise SystemExit(2)


def _print_error(message: str) -> None:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)


def check_command_line(arguments: Sequence[str]) -> list[str]:
    """Check all options before Hydra does, with one line for each mistake.

    Returns
    -------
    The arguments in the form that Hydra takes.
    """
    for argument in arguments:
        _check_plugin(argument)
    with one_line_errors():
        arguments = checked(arguments, CONFIG_DIR)
    return list(arguments)


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Add the option ``--trust``, which extends :mod:`experiments.saved_runs.trust`."""
    parser.add_argument(
        "--trust", action="append", default=[], metavar="PACKAGE",
        help="a package, beside ours, that the run's configuration may call; can be repeated",
    )  # fmt: skip


def quiet_libraries() -> None:
    """Silence messages of libraries that require no action by the user."""
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in ("lightning.pytorch", "xformers"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # Batches are made in a millisecond; workers would only take time to start.
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    warnings.filterwarnings("ignore", ".*Checkpoint directory .* exists and is not empty.*")
    # Endless streams have a length for exact resumption; see StreamLoader.
    warnings.filterwarnings("ignore", ".*IterableDataset. has .__len__. defined.*")
    # Metrics are computed from the jets of all processes.
    warnings.filterwarnings("ignore", ".*recommended to use .self.log.*sync_dist=True.*")
    # Short trainings log at validations only.
    warnings.filterwarnings("ignore", ".*smaller than the logging interval.*")
    # Models with a method fit, such as trees, have no optimizer.
    warnings.filterwarnings("ignore", ".*this fit will run with no optimizer.*")
    warnings.filterwarnings("ignore", ".*LeafSpec.* is deprecated.*", module="lightning.*")


_shown: set[str] = set()


def _show_warning(message: Warning | str, category: type[Warning], *_: object) -> None:
    if str(message) in _shown:
        return
    _shown.add(str(message))
    print(f"warning: {' '.join(str(message).split())}", file=sys.stderr)


def one_line_warnings() -> None:
    """Print each warning once, in one line, without its source line."""
    warnings.showwarning = _show_warning  # type: ignore[assignment]


_ADVICE = ("See https", "Set the environment variable HYDRA_FULL_ERROR", "object_type=")


def _first_line(error: BaseException) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), repr(error))


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Print errors that the user can correct in one line, with exit status 2.

    With ``HYDRA_FULL_ERROR=1`` the stack trace is shown instead.
    """
    if os.environ.get("HYDRA_FULL_ERROR"):
        yield
        return
    try:
        with failures_after_a_signal():
            yield
    except OptionErrors as error:
        for problem in error.problems:
            _print_error(problem)
        raise SystemExit(2) from error
    except InstantiationException as error:
        fail(_first_line(error.__cause__ or error))
    except (HydraException, OmegaConfBaseException) as error:
        lines = [line.strip() for line in str(error).splitlines()]
        fail("; ".join(x for x in lines if x and not x.startswith(_ADVICE)))
    except YAMLError as error:
        fail(f"a YAML file is damaged: {error}")
    except (ValueError, UserError) as error:
        fail(str(error))
    except OSError as error:
        fail(f"{describe(error)}; nothing half-written was kept")
    except Exception as error:
        # Lightning's error for options that conflict; importing it would take seconds.
        if "MisconfigurationException" not in [base.__name__ for base in type(error).__mro__]:
            raise
        fail(_first_line(error))
