"""Loggers with one continuous log per run, also if the run was resumed."""

from __future__ import annotations

import csv
import io
import shutil
from argparse import Namespace
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from data.atomic import write_text
from experiments.errors import UserError
from experiments.options.markers import Text
from experiments.saved_runs.curves import LOG_FILE, STEP, Row, complete_rows, read_rows

_PART = "version_0"


class CurveLog(Logger):
    """CSV logger that appends and flushes one row per call, so that a killed run keeps all rows.

    Parameters
    ----------
    save_dir, name
        The log is in the directory ``save_dir/name``.
    """

    def __init__(self, save_dir: str, name: str = "csv") -> None:
        super().__init__()
        self._folder, self._name = Path(save_dir) / name, name
        self._columns: list[str] = []
        self._last: tuple[int, Mapping[str, float]] | None = None

    @property
    def name(self) -> str:
        """Name of the log."""
        return self._name

    @property
    def version(self) -> int:
        """Always 0: a run has one log."""
        return 0

    @property
    def log_dir(self) -> str:
        """Directory of the file."""
        return str(self._folder / _PART)

    @property
    def experiment(self) -> Path:
        """The file."""
        return self._folder / _PART / LOG_FILE

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *_: Any, **__: Any) -> None:
        """Nothing: the run directory has the whole configuration."""

    @rank_zero_only
    def go_on_from(self, step: int) -> None:
        """Drop all rows of step ``step`` (counted from 0) and later."""
        rows = [row for row in read_rows(self._folder) if int(row[STEP]) < step]
        if rows or self._folder.exists():
            self._columns = sorted({name for row in rows for name in row} | {STEP})
            self._write(rows)
        for part in self._folder.glob("version_*"):
            if part.name != _PART:
                shutil.rmtree(part)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append a row, unless it repeats the last one."""
        number = step or 0
        if self._last == (number, metrics):
            return
        self._last = (number, dict(metrics))
        row = {STEP: str(number), **{name: str(float(v)) for name, v in metrics.items()}}
        file = self._folder / _PART / LOG_FILE
        if not row.keys() <= set(self._columns) or not file.exists():
            self._columns = sorted({*self._columns, *row})
            self._write([*(complete_rows(file) if file.exists() else []), row])
            return
        with file.open("a", encoding="utf-8", newline="") as handle:
            self._writer(handle).writerow(row)

    def _write(self, rows: Iterable[Row]) -> None:
        lines = io.StringIO()
        writer = self._writer(lines)
        writer.writeheader()
        writer.writerows(rows)
        write_text(self._folder / _PART / LOG_FILE, lines.getvalue())

    def _writer(self, handle: Any) -> csv.DictWriter[str]:
        return csv.DictWriter(handle, self._columns, restval="", lineterminator="\n")


class EventLog(TensorBoardLogger):
    """TensorBoard logger with one directory per run, also if the run was resumed."""

    def __init__(self, save_dir: str, name: str = "tensorboard") -> None:
        super().__init__(save_dir, name=name, version=0)

    def go_on_from(self, step: int) -> None:
        """Make TensorBoard drop what was logged at ``step`` (counted from 0) and later."""
        self._kwargs["purge_step"] = step


class AimLog(Logger):
    """Makes Aim's own logger, which is not part of Lightning.

    Parameters
    ----------
    repo, experiment
        Folder of its files, and a name.

    Raises
    ------
    UserError
        If Aim is not installed.
    """

    def __new__(cls, repo: Text, experiment: Text) -> Any:
        """The logger of Aim."""
        try:
            from aim.pytorch_lightning import AimLogger
        except ImportError as error:
            raise UserError("logger=aim needs Aim: pip install aim") from error
        return AimLogger(repo=repo, experiment=experiment)
