"""The folder of a run."""

from __future__ import annotations

from pathlib import Path

from experiments.saved_runs import run_directory


def files(folder: Path) -> dict[Path, bytes]:
    """Everything in it but the lock."""
    found = (p for p in folder.rglob("*") if p.is_file() and p.name != run_directory.LOCK)
    return {p.relative_to(folder): p.read_bytes() for p in found}
