"""Turn a data set of any known format into packed HDF5, which reads many times faster.

    python -m data.convert SOURCE TARGET [--limit N] [--compress]

A source of many files (JetClass, TopTagXL, EnergyFlow) becomes a folder TARGET with ``train``,
``val`` and ``test``, file by file; a source of one file, or of one file per split, becomes one
file TARGET. Converting again goes on where it was stopped. ``SHA256SUMS`` in the folder (or
``TARGET.sha256``) is for ``sha256sum --check``. A file under its final name is always complete.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from data.atomic import atomic_path
from data.errors import DataError, describe
from data.formats import find_format, packed, read_jets
from data.formats.registry import SPLITS
from data.jets import Jets

_CHUNK = 1 << 20


def sha256(path: Path) -> str:
    """Checksum of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        while block := handle.read(_CHUNK):
            digest.update(block)
    return digest.hexdigest()


def _jobs(source: Path, target: Path, form: ModuleType) -> Iterator[tuple[Path, str, Path]]:
    """File, split, and where it goes."""
    for split in SPLITS:
        for file in form.files(source, split):
            yield file, split, target / split / f"{file.stem}.h5"


def _checked(jets: Jets) -> Jets:
    jets.check_structure()
    jets.check_momenta()
    return jets


def convert_folder(
    source: Path, target: Path, form: ModuleType, limit: int | None, compress: bool
) -> int:
    """Convert file by file; returns the number of jets written now.

    Raises
    ------
    DataError
        If a file of the source is damaged; those before it are converted.
    """
    jobs = list(_jobs(source, target, form))
    if not jobs:
        raise DataError(f"{source}: has no file of any split")
    sums = target / "SHA256SUMS"
    known = {name: digest for digest, name in (line.split("  ", 1) for line in _lines(sums))}
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    written = 0
    with Progress(*columns) as progress:
        bar = progress.add_task("Converting files", total=len(jobs))
        for file, split, place in jobs:
            name = place.relative_to(target).as_posix()
            if not (place.is_file() and name in known):
                jets = _checked(form.read_file(file, split, 0, limit))
                place.parent.mkdir(parents=True, exist_ok=True)
                packed.write(place, {split: jets}, {"source": file.name}, compress=compress)
                written += len(jets)
                known[name] = sha256(place)
                with atomic_path(sums) as temporary:
                    lines = (f"{digest}  {n}\n" for n, digest in sorted(known.items()))
                    temporary.write_text("".join(lines), encoding="utf-8")
            progress.advance(bar)
    return written


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []


def convert_file(source: Path, target: Path, limit: int | None, compress: bool) -> int:
    """Convert all splits into one file; returns the number of jets."""
    splits = {split: read_jets(source, split, limit) for split in SPLITS}
    packed.write(target, splits, {"source": source.name}, compress=compress)
    with atomic_path(target.with_name(target.name + ".sha256")) as temporary:
        temporary.write_text(f"{sha256(target)}  {target.name}\n", encoding="utf-8")
    return sum(len(jets) for jets in splits.values())


def main(arguments: list[str] | None = None) -> None:
    """Command line; see the module's text."""
    parser = argparse.ArgumentParser(prog="python -m data.convert", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("source", type=Path, help="file or folder of a known format")
    parser.add_argument("target", type=Path, help="folder or file to write")
    parser.add_argument("--limit", type=int, help="jets of each file, or of each split, at most")
    parser.add_argument("--compress", action="store_true", help="smaller, and slower to read")
    options = parser.parse_args(arguments)
    source, target = options.source, options.target
    try:
        form = find_format(source)
        if form is packed:
            sys.exit(f"error: {source} is packed already")
        if hasattr(form, "files"):
            written = convert_folder(source, target, form, options.limit, options.compress)
        elif target.exists():
            sys.exit(f"error: {target} exists; choose another name")
        else:
            written = convert_file(source, target, options.limit, options.compress)
    except (DataError, OSError) as error:
        sys.exit(f"error: {describe(error) if isinstance(error, OSError) else error}")
    print(f"{target}: {written:,} jets written")


if __name__ == "__main__":
    main()
