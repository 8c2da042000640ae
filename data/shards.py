"""Samples of many files: what their formats share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from data.errors import DataError
from data.jets import Jets, concatenate

ReadFile = Callable[[Path, str, int, int | None], Jets]
"""Jets of a file: the file, the split, from, to."""


def visible(files: Iterable[Path]) -> list[Path]:
    """Sorted, without hidden ones: what a killed program left half-written begins with a dot."""
    return sorted(file for file in files if not file.name.startswith("."))


def read_shards(
    files: list[Path], read_file: ReadFile, path: Path, split: str, limit: int | None
) -> Jets:
    """A whole split in memory, the first ``limit`` jets taken evenly from all files."""
    if not files:
        raise DataError(f"{path}: has no file for {split}; expected a folder {split}* with files")
    if limit is None:
        return concatenate([read_file(f, split, 0, None) for f in files], f"{path}:{split}")
    each, more = divmod(limit, len(files))
    shares = [(f, each + (i < more)) for i, f in enumerate(files)]
    return concatenate([read_file(f, split, 0, n) for f, n in shares if n], f"{path}:{split}")
