"""Files that a description names (:mod:`data.described`): ``data.path=jets.yaml``."""

from __future__ import annotations

from pathlib import Path

from data.described.description import SUFFIXES
from data.described.sample import DescribedSample

NAME = DescribedSample.NAME


def recognises(path: Path) -> bool:
    """Whether ``path`` is a YAML file."""
    return path.suffix in SUFFIXES and path.is_file()


def bound(path: Path) -> DescribedSample:
    """The format that a description makes of its files."""
    return DescribedSample(path)
