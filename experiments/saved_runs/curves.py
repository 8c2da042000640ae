"""Read the logged curves of a run, finished or not."""

from __future__ import annotations

import csv
import io
from pathlib import Path

LOG_FILE = "metrics.csv"
STEP = "step"
"""Column that every row of a log has."""

Row = dict[str, str]
Curve = dict[int, float]
"""Value by step."""


def read_rows(logs: Path) -> list[Row]:
    """Read all complete rows of a CSV log in order of steps, without empty cells.

    Earlier versions began a new ``version_N`` folder at each resumption; where these overlap, the
    later one counts.
    """
    rows: list[Row] = []
    for part in sorted(logs.glob("version_*/" + LOG_FILE), key=lambda p: int(p.parent.name[8:])):
        found = complete_rows(part)
        if found:
            first = min(int(row[STEP]) for row in found)
            rows = [row for row in rows if int(row[STEP]) < first] + found
    return rows


def complete_rows(file: Path) -> list[Row]:
    """Read the complete rows of one CSV file; a killed run may have cut the last one."""
    text = file.read_text(encoding="utf-8", errors="replace")
    reader = csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1]))
    rows: list[Row] = []
    for row in reader:
        complete = None not in row and None not in row.values()
        if complete and row.get(STEP, "").isdigit():
            rows.append({name: value for name, value in row.items() if value})
    return rows


def read_curves(logs: Path) -> dict[str, Curve]:
    """Read every logged quantity by step."""
    curves: dict[str, Curve] = {}
    for row in read_rows(logs):
        step = int(row.pop(STEP))
        for name, value in row.items():
            curves.setdefault(name, {})[step] = float(value)
    return {name: dict(sorted(curve.items())) for name, curve in curves.items()}
