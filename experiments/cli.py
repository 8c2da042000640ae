"""What stands between the command line and a run: choices checked, errors in one line."""

from __future__ import annotations

import argparse
import importlib.util
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, InstantiationException
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from data.errors import describe, install_hint
from experiments import plugins
from experiments.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
CONFIG_DIR = ROOT / "config"
plugins.register()

OmegaConf.register_new_resolver("project_root", lambda: str(ROOT), replace=True)


def _job_suffix() -> str:
    """Tells runs apart that were started together: ``_3`` is the fourth of them."""
    if not HydraConfig.initialized() or HydraConfig.get().mode is not RunMode.MULTIRUN:
        return ""
    return f"_{HydraConfig.get().job.num}"


OmegaConf.register_new_resolver("job_suffix", _job_suffix, replace=True)


_PLUGINS = {
    "search=optuna": ("hydra_optuna_sweeper", "sweeps"),
    "trainer=slurm": ("hydra_submitit_launcher", "slurm"),
}
"""Choices that need a plugin of Hydra: its module, and the extra that installs it."""


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
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    raise SystemExit(2)


def check_command_line(arguments: list[str]) -> list[str]:
    """Find mistakes in the overrides before Hydra does, and answer in one line.

    Returns
    -------
    The arguments, in an order that Hydra takes.
    """
    # Hydra takes this flag before or after all overrides, not among them.
    several = [a for a in arguments if a in ("-m", "--multirun")]
    arguments = [*several, *(a for a in arguments if a not in several)]
    overrides = [a for a in arguments if not a.startswith("-") and "=" in a]
    with one_line_errors():
        folders = [
            CONFIG_DIR, *plugins.config_folders().values(), *plugins.given_config_dir(arguments),
        ]  # fmt: skip
    for override in overrides:
        _check_plugin(override)
        group, _, choice = override.lstrip("+~").partition("=")
        known = plugins.choices(group, folders)
        if not known or not choice:
            continue
        for name in choice.split(","):
            if name not in known:
                fail(f"{group}={name}: unknown; choose from {', '.join(known)}")
    if any(a.startswith("-") for a in arguments) or any("," in o for o in overrides):
        return arguments
    with one_line_errors(), initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        compose("run", overrides=overrides)
    return arguments


def add_trust(parser: argparse.ArgumentParser) -> None:
    """The option that extends what :mod:`experiments.trust` allows."""
    parser.add_argument(
        "--trust", action="append", default=[], metavar="PACKAGE",
        help="a package, beside ours, that the run's configuration may call; can be repeated",
    )  # fmt: skip


def quiet_libraries() -> None:
    """Silence remarks of libraries that ask nothing of the user."""
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in ("lightning.pytorch", "xformers"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # Batches are cut from memory in a millisecond; workers would only cost start-up time.
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    warnings.filterwarnings("ignore", ".*Checkpoint directory .* exists and is not empty.*")
    # Endless streams have a length for the sake of exact resumption; see StreamLoader.
    warnings.filterwarnings("ignore", ".*IterableDataset. has .__len__. defined.*")
    # Metrics are of all processes' jets already.
    warnings.filterwarnings("ignore", ".*recommended to use .self.log.*sync_dist=True.*")
    # Models that learn in one go, such as trees, have no optimizer.
    warnings.filterwarnings("ignore", ".*this fit will run with no optimizer.*")
    warnings.filterwarnings("ignore", ".*LeafSpec.* is deprecated.*", module="lightning.*")


_shown: set[str] = set()


def _show_warning(message: Warning | str, category: type[Warning], *_: object) -> None:
    if str(message) in _shown:
        return
    _shown.add(str(message))
    print(f"warning: {' '.join(str(message).split())}", file=sys.stderr)


def one_line_warnings() -> None:
    """Print each warning as one line, once, without the source line it came from."""
    warnings.showwarning = _show_warning  # type: ignore[assignment]


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn errors that the user can mend into one line and exit status 2.

    ``ValueError`` is what all our code raises for wrong options. With ``HYDRA_FULL_ERROR=1`` the
    whole stack trace is shown instead.
    """
    if os.environ.get("HYDRA_FULL_ERROR"):
        yield
        return
    try:
        yield
    except InstantiationException as error:
        fail(str(error.__cause__ or error).splitlines()[0])
    except (HydraException, OmegaConfBaseException) as error:
        fail(str(error.__cause__ or error))
    except (ValueError, UserError) as error:
        fail(str(error))
    except OSError as error:
        fail(f"{describe(error)}; nothing half-written was kept")
