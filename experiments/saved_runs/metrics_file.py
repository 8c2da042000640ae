"""Read ``metrics.json``, the figures of a finished run, wherever it comes from."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from experiments.errors import UserError
from experiments.saved_runs.saved_config import read_json

_LARGEST = 1e100  # no figure of merit comes near it, and sums of squares stay finite


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _is_figure(value: Any) -> bool:
    """Whether a value is a number, or null for a figure that is undefined; NaN is neither."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return value is None or (is_number and abs(value) < _LARGEST)


def _are_counts(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_count, value.values()))


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


_Kind = tuple[Callable[[Any], bool], str]
_FIGURE: _Kind = (_is_figure, "a finite number, or null where it is undefined")
_COUNT: _Kind = (_is_count, "a whole number")
_TEXT: _Kind = (_is_text, "text")
_KINDS: dict[str, _Kind] = {
    **dict.fromkeys(("steps", "seed", "parameters"), _COUNT),
    **dict.fromkeys(("data", "device", "date"), _TEXT),
    "jets": (_are_counts, "numbers of jets by split"),
    **dict.fromkeys(("accuracy", "auc", "loss", "calibration_error"), _FIGURE),
    **dict.fromkeys(("mse", "mse_times_1e5", "median_relative_error", "nll"), _FIGURE),
    **dict.fromkeys(("classifier_auc", "largest_distance", "cuts_passed"), _FIGURE),
    **dict.fromkeys(("training_seconds", "jets_per_second", "waiting_for_data"), _FIGURE),
}
_SUFFIXES = ("_error", "_lower_limit_95")


def _kind_of(name: str) -> _Kind | None:
    is_figure = name.startswith(("rejection_", "best_val_")) or name.endswith(_SUFFIXES)
    return _FIGURE if is_figure else _KINDS.get(name)


def read_metrics(path: Path, needs: Sequence[str] = ()) -> dict[str, Any]:
    """The figures of a finished run; null is a figure that is undefined.

    Parameters
    ----------
    path
        The file.
    needs
        Entries that must be there.

    Raises
    ------
    UserError
        If the file is missing or damaged, lacks an entry, or one is of the wrong kind.
    """
    found = read_json(path)
    for name, value in found.items():
        is_right, wanted = _kind_of(name) or (None, "")
        if is_right is not None and not is_right(value):
            raise UserError(
                f"{path}: {name} must be {wanted}, not {reprlib.repr(value)}; restore it, or test "
                "and report again"
            )
    if missing := [name for name in needs if name not in found]:
        raise UserError(f"{path}: lacks {', '.join(missing)}; restore it, or test and report again")
    return found
