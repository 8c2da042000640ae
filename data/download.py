"""Fetch a public data set.

    python -m data.download NAME --out FOLDER [--only PATTERN]

Files, sizes and checksums are those that the record of the data set has. Interrupted, the same
command goes on. Without --yes it says first how much it is. ``--list`` shows what a data set has.
"""

from __future__ import annotations

import fnmatch
import shutil
from dataclasses import dataclass
from pathlib import Path

from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from data.command import Parser, errors_in_one_line, program
from data.errors import DataError
from data.remote import ZENODO, RemoteFile, fetch, record

HEIDELBERG = "https://www.thphys.uni-heidelberg.de/~plehn/data"


@dataclass(frozen=True)
class PublicSet:
    """A public data set.

    Parameters
    ----------
    title
        What it is.
    zenodo
        Number of its record; None if it is elsewhere.
    files
        Names of files on the web page of its authors.
    then
        What to do with it.
    """

    title: str
    zenodo: int | None
    files: tuple[str, ...]
    then: str


SETS = {
    "toptagging": PublicSet(
        "top tagging, reference data set", 2603256, (),
        "experiment=toptagging_paper data.path=FOLDER",
    ),
    "jetclass": PublicSet(
        "JetClass, 125 million jets", 6619768, (), "unpack the archives; data.path=FOLDER"
    ),
    "toptagxl": PublicSet(
        "TopTagXL, 135 million jets", 10878355, (), "experiment=toptagxl data.path=FOLDER"
    ),
    "quarkgluon": PublicSet(
        "quark and gluon jets, EnergyFlow", 3164691, (), "experiment=quarkgluon data.path=FOLDER"
    ),
    "amplitudes": PublicSet(
        "q qbar -> Z + n g", 16793011, (), "experiment=amplitudes_paper data.path=FILE"
    ),
    "ttbar": PublicSet(
        "hadronic top-quark pairs", None, ("event_generation_ttbar.hdf5",),
        "experiment=ttbar_paper data.path=FILE data.table=ttbar+0jet",
    ),
    "toptagging_npz": PublicSet(
        "top tagging, one archive", None, ("toptagging_full.npz",),
        "experiment=toptagging_paper data.path=FILE",
    ),
}  # fmt: skip
"""By name."""


def files_of(wanted: PublicSet, server: str | None = None) -> list[RemoteFile]:
    """What a data set has; ``server`` is asked in place of its own."""
    if wanted.zenodo is not None:
        return record(wanted.zenodo, server or ZENODO)
    return [RemoteFile(name, f"{server or HEIDELBERG}/{name}") for name in wanted.files]


def main(arguments: list[str] | None = None) -> None:
    """Command line; see the module's text."""
    parser = Parser("data.download", __doc__)
    parser.add_argument("name", choices=tuple(SETS), help="data set")
    parser.add_argument("--out", type=Path, help="folder")
    parser.add_argument("--only", default="*", metavar="PATTERN", help="names of files")
    parser.add_argument("--list", action="store_true", help="show the files, and fetch nothing")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--server", help="another address than the data set's own")
    options = parser.parse_args(arguments)
    with errors_in_one_line():
        wanted = SETS[options.name]
        files = [
            f for f in files_of(wanted, options.server) if fnmatch.fnmatch(f.name, options.only)
        ]
        if not files:
            raise DataError(f"--only {options.only}: no file of {options.name} has such a name")
        total = sum(file.size or 0 for file in files)
        print(f"{wanted.title}: {len(files)} files" + (f", {total / 1e9:.1f} GB" if total else ""))
        if options.list:
            for file in files:
                print(f"{file.name:40} {(file.size or 0) / 1e6:10.1f} MB")
            return
        if options.out is None:
            raise DataError("--out: name the folder that files go to")
        options.out.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(options.out).free
        if total > free:
            raise DataError(
                f"{options.out}: has {free / 1e9:.1f} GB free, and it takes {total / 1e9:.1f}"
            )
        if not options.yes and input("Fetch them? [y/N] ").strip().lower() not in ("y", "yes"):
            return
        _fetch_all(files, options.out)
        print(f"{options.out}: complete. {wanted.then}")


def _fetch_all(files: list[RemoteFile], folder: Path) -> None:
    columns = (
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns) as progress:
        for file in files:
            bar = progress.add_task(file.name, total=file.size)

            def report(done: int, bar: TaskID = bar) -> None:
                progress.update(bar, completed=done)

            fetch(file, folder, report)


if __name__ == "__main__":
    with program():
        main()
