"""Turn a data set of any known format into packed HDF5, which reads many times faster.

    python -m data.convert SOURCE TARGET [--limit N] [--compress]

A source of many files (JetClass, TopTagXL, EnergyFlow) becomes a folder TARGET with ``train``,
``val`` and ``test``, file by file; a source of one file, or of one file per split, becomes one
file TARGET. Stopped at any moment and started again by the same command, it goes on and leaves the
same bytes; ``MANIFEST`` in the folder (or ``TARGET.manifest``) says what is done.
``SHA256SUMS`` (or ``TARGET.sha256``) is for ``sha256sum --check``, and is there once all is done.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from data.atomic import atomic_path, check_new, remove_leftovers
from data.command import Parser, errors_in_one_line, program
from data.errors import DataError
from data.formats import Format, find_format, packed
from data.formats.registry import SPLITS
from data.jets import Jets
from data.manifest import Manifest, Sources

_CHUNK = 1 << 20


def sha256(path: Path) -> str:
    """Checksum of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        while block := handle.read(_CHUNK):
            digest.update(block)
    return digest.hexdigest()


@dataclass(frozen=True)
class Job:
    """A file to write.

    Parameters
    ----------
    place
        The file.
    name
        Of the file, in the manifest and in the list of checksums.
    sources
        What it is made from.
    root
        The folder that names of sources are relative to.
    read
        Gives its jets by split.
    """

    place: Path
    name: str
    sources: tuple[Path, ...]
    root: Path
    read: Callable[[], Mapping[str, Jets]]

    def states(self) -> Sources:
        """Sizes and times of the sources now."""
        found: Sources = {}
        for file in self.sources:
            status = file.stat()
            found[_below(self.root, file).as_posix()] = [status.st_size, status.st_mtime_ns]
        return found


def _below(folder: Path, file: Path) -> Path:
    """A file from a folder; descriptions may name files elsewhere."""
    return file.relative_to(folder) if file.is_relative_to(folder) else Path(file.name)


@dataclass(frozen=True)
class Plan:
    """All files to write, and where the notes on them go."""

    jobs: list[Job]
    manifest: Path
    sums: Path
    folders: tuple[Path, ...]
    """That hold nothing but what is written."""


def _places(source: Path, split: str, files: list[Path]) -> dict[Path, Path]:
    """Where each file of a split goes, below the folder of the split.

    As below the split's folder of the source (``train_100M/a/x.root`` becomes ``a/x.h5``); with
    that folder in front where two would have the same name.
    """
    below = {file: _below(source, file).with_suffix(".h5") for file in files}
    short = {f: Path(*p.parts[1:]) if len(p.parts) > 1 else p for f, p in below.items()}
    for chosen in (short, below):
        if len(set(chosen.values())) == len(files):
            return chosen
    names = sorted(str(p) for p in below.values())
    twice = next(a for a, b in zip(names, names[1:], strict=False) if a == b)
    raise DataError(f"{source}: two files of {split} would both become {twice}; rename one")


def plan_folder(source: Path, target: Path, form: Format, limit: int | None) -> Plan:
    """A file for each file and split."""
    root = source if source.is_dir() else source.parent
    jobs = []
    for split in SPLITS:
        for file, place in _places(root, split, form.files(source, split)).items():

            def read(file: Path = file, split: str = split) -> Mapping[str, Jets]:
                return {split: form.read_file(file, split, 0, limit)}

            name = f"{split}/{place.as_posix()}"
            description = (source,) if source.is_file() and source != file else ()
            jobs.append(Job(target / name, name, (file, *description), root, read))
    if not jobs:
        raise DataError(f"{source}: has no file of any split")
    return Plan(jobs, target / "MANIFEST", target / "SHA256SUMS", (target,))


def plan_file(source: Path, target: Path, form: Format, limit: int | None) -> Plan:
    """One file for all splits."""
    root = source if source.is_dir() else source.parent
    candidates = (source / f"{split}.h5" for split in SPLITS) if source.is_dir() else (source,)
    sources = tuple(file for file in candidates if file.exists())
    # A folder with other names: whatever is in it may have been read.
    sources = sources or tuple(sorted(file for file in source.rglob("*") if file.is_file()))

    def read() -> Mapping[str, Jets]:
        return {split: form.read(source, split, limit) for split in SPLITS}

    job = Job(target, target.name, sources, root, read)
    beside = target.with_name
    return Plan([job], beside(f"{target.name}.manifest"), beside(f"{target.name}.sha256"), ())


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other conversions out of a folder; the lock ends with the process."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise DataError(f"{folder}: another conversion writes here; wait for its end") from error
    finally:
        os.close(descriptor)


def _bytes_of(file: Path) -> bytes | None:
    """Content of a file; None of anything else."""
    return file.read_bytes() if file.is_file() else None


def _check_target(plan: Plan, manifest: Manifest, target: Path) -> None:
    """Refuse to write among or over files that this conversion did not make."""
    if manifest.is_new:
        if target.is_dir() and plan.folders and any(target.iterdir()):
            raise DataError(f"{target}: is not empty; choose another name, or delete it")
        if not (target.is_dir() and plan.folders):
            check_new(target)
        check_new(plan.sums)
    elif os.path.lexists(plan.sums) and _bytes_of(plan.sums) != manifest.checksums():
        raise DataError(f"{plan.sums}: not as this conversion wrote it; move it away, or delete it")
    planned = {job.place for job in plan.jobs}
    for folder in plan.folders:
        if foreign := sorted(f for f in folder.rglob("*.h5") if f not in planned):
            raise DataError(
                f"{foreign[0]}: comes from no file of the source; delete it, or put its source back"
            )


def convert(source: Path, target: Path, limit: int | None = None, compress: bool = False) -> int:
    """Convert a sample, or what is missing of it; returns the number of jets written now.

    Raises
    ------
    DataError
        If a file of the source is damaged (those before it are converted), or the target holds
        something else.
    """
    form = find_format(source)
    if form.module is packed:
        raise DataError(f"{source} is packed already")
    real, goal = source.resolve(), target.resolve()
    if goal == real or real in goal.parents or goal in real.parents:
        raise DataError(
            f"{target}: is the source, or lies inside of it or around it; choose another"
        )
    plan = (plan_folder if form.has_files else plan_file)(source, target, form, limit)
    locked = target if form.has_files else target.parent
    places = [locked, *(job.place.parent for job in plan.jobs)]
    made = {new for place in places for new in (place, *place.parents) if not new.exists()}
    if not target.exists() or not form.has_files:
        locked.mkdir(parents=True, exist_ok=True)
    if not locked.is_dir():
        raise DataError(f"{target}: exists and is no folder; choose another name")
    options = {"format": form.name, "version": packed.VERSION, "limit": limit, "compress": compress}
    with _locked(locked):
        for folder in set(places):
            remove_leftovers(folder, None if plan.folders else (target.stem, target.name))
        manifest = Manifest(plan.manifest, options)
        _check_target(plan, manifest, target)
        try:
            return _write(plan, manifest, compress)
        except BaseException:
            _remove_if_nothing_done(plan, manifest, made)
            raise


def _remove_if_nothing_done(plan: Plan, manifest: Manifest, made: set[Path]) -> None:
    """Leave neither notes nor new folders of a conversion that wrote no file."""
    if manifest.files or any(job.place.exists() for job in plan.jobs):
        return
    manifest.path.unlink(missing_ok=True)
    for folder in sorted(made, key=lambda place: len(place.parts), reverse=True):
        with suppress(OSError):  # not made after all, or not empty
            folder.rmdir()


def _write(plan: Plan, manifest: Manifest, compress: bool) -> int:
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    written = 0
    manifest.save()
    with Progress(*columns) as progress:
        bar = progress.add_task("Converting files", total=len(plan.jobs))
        for job in plan.jobs:
            states = job.states()
            if not manifest.is_done(job.name, states, job.place):
                # It would not fit the new file.
                plan.sums.unlink(missing_ok=True)
                splits = job.read()
                if job.states() != states:
                    raise DataError(f"{job.sources[0]}: changed while it was read; start again")
                names = ", ".join(file.name for file in job.sources)
                packed.write(job.place, splits, {"source": names}, compress=compress)
                manifest.set_done(job.name, states, job.place, sha256(job.place))
                written += sum(len(jets) for jets in splits.values())
            progress.advance(bar)
    with atomic_path(plan.sums) as temporary:
        temporary.write_bytes(manifest.checksums())
    return written


def _at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, not {number}")
    return number


def main(arguments: list[str] | None = None) -> None:
    """Command line; see the module's text."""
    parser = Parser("data.convert", __doc__)
    parser.add_argument("source", type=Path, help="file or folder of a known format")
    parser.add_argument("target", type=Path, help="folder or file to write")
    parser.add_argument(
        "--limit", type=_at_least_one, help="jets of each file, or of each split, at most"
    )
    parser.add_argument("--compress", action="store_true", help="smaller, and slower to read")
    options = parser.parse_args(arguments)
    with errors_in_one_line():
        written = convert(options.source, options.target, options.limit, options.compress)
    done = f"{written:,} jets written" if written else "up to date, nothing to do"
    print(f"{options.target}: {done}")


if __name__ == "__main__":
    with program():
        main()
