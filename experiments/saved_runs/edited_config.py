"""Notice a configuration that was edited after its run began."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from experiments.errors import UserError
from experiments.saved_runs.resumable import harmless_place

PLACES = ("run_dir", "ckpt_path", "paths")
"""Options that say where files are."""

_SHOWN = 3


def options_of(config: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """All options of a configuration by full names."""
    if isinstance(config, dict) and config:
        for key, value in config.items():
            yield from options_of(value, f"{name}.{key}" if name else str(key))
    else:
        yield name, config


def check_unedited(path: Path, text: str, noted: str) -> None:
    """Check that a configuration is the one with which its run began.

    What results do not depend on may be others: where files are, and what a resumption may change.

    Parameters
    ----------
    path
        Its file, for the message.
    text
        The configuration as it is now, read and found valid.
    noted
        The configuration when the run began.

    Raises
    ------
    UserError
        If an option differs; the message names it.
    """
    if text == noted:
        return
    now, before = (dict(_inside(yaml.safe_load(t))) for t in (text, noted))
    changed = [
        name
        for name in dict.fromkeys((*before, *now))
        if repr(before.get(name, "nothing")) != repr(now.get(name, "nothing"))
        and name.partition(".")[0] not in PLACES
        and harmless_place(name, None) is None
    ]
    if not changed:
        return
    shown = [
        f"{name} from {before.get(name, 'nothing')} to {now.get(name, 'nothing')}"
        for name in changed[:_SHOWN]
    ]
    more = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
    raise UserError(
        f"{path}: was edited since the run began ({', '.join(shown)}{more}), and results would be "
        "of neither; put it back, or start a new run"
    )


def _inside(config: Any) -> Iterator[tuple[str, Any]]:
    """All options, with paths inside the run directory told from others."""
    folder = str(config.get("run_dir")) if isinstance(config, dict) else ""
    for name, value in options_of(config):
        if isinstance(value, str) and (value == folder or value.startswith(folder + "/")):
            value = "RUN_DIR" + value[len(folder) :]
        yield name, value
