"""Whether a run that is to be resumed has anything left to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from experiments.errors import UserError
from experiments.saved_runs import run_directory
from experiments.saved_runs.metrics_file import read_metrics
from experiments.saved_runs.resumable import LENGTHS
from experiments.training.resume import Resumption


def finished(resumption: Resumption) -> dict[str, Any] | None:
    """Read ``metrics.json`` of a run that is finished and is not to train longer, else None.

    Raises
    ------
    UserError
        If it is to train longer, and early stopping has ended it.
    """
    file = resumption.directory / run_directory.METRICS
    if not file.is_file():
        return None
    results = read_metrics(file, ("steps",))
    longer = any(name in resumption.changes for name in LENGTHS)
    if (patience := _stopped_early(resumption.directory)) is not None:
        text = (
            f"{resumption.directory} was ended by callbacks.early_stopping after "
            f"{results['steps']} steps, {patience} validations without a better one"
        )
        if longer:
            raise UserError(
                f"{text}, and more steps do not lengthen it; start a new run with a larger "
                "callbacks.early_stopping.patience"
            )
        print(f"{text}; nothing to do")
        return results
    if longer:
        return None
    command = run_directory.resume_command(resumption.directory)
    print(
        f"{resumption.directory} is finished, after {results['steps']} steps; nothing to do. "
        f"Train longer: {command} trainer.max_steps=NUMBER"
    )
    return results


def _stopped_early(directory: Path) -> int | None:
    """The patience of the early stopping that ended a run, if one did."""
    from experiments.saved_runs.checkpoints import read_checkpoint

    if not (directory / run_directory.LAST).is_file():
        return None
    states = read_checkpoint(directory / run_directory.LAST).get("callbacks", {})
    for name, state in states.items():
        if str(name).startswith("EarlyStopping") and isinstance(state, dict):
            waited, patience = state.get("wait_count"), state.get("patience")
            if isinstance(waited, int) and isinstance(patience, int) and waited >= patience:
                return patience
    return None
