"""Score files of jets, in parts that are kept on disk, so that it can be stopped at any moment.

Legend: J jets of a part, K logits.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from data.atomic import atomic_path, write_text
from data.reading import Snapshot
from data.scoring import JetFile, can_be_scored, jet_file
from experiments.errors import UserError
from experiments.taggers.outputs import Columns, Write, as_numbers, plain_name, writer_of
from experiments.taggers.tagger import Tagger, probabilities

AT_ONCE = 20_000
"""Jets of a part."""
SCORED = "scored"


@dataclass(frozen=True)
class Wanted:
    """What is wanted of a file.

    Parameters
    ----------
    file, out
        The file, and where its scores go.
    description
        Of the file, if it is of no known format.
    keep
        Names of columns that are copied along.
    split
        The part of files that hold several.
    logits
        Whether logits are written beside probabilities.
    """

    file: Path
    out: Path
    description: Path | None = None
    keep: tuple[str, ...] = ()
    split: str = "test"
    logits: bool = False


class Parts:
    """Logits that are there already, in a file beside the one that is wanted.

    Parameters
    ----------
    target
        The file that is wanted.
    identity
        What the scores depend on; those of others are refused.
    width
        K.
    """

    def __init__(self, target: Path, identity: Mapping[str, Any], width: int) -> None:
        self.file = target.with_name(f"{target.name}.part")
        self.notes = target.with_name(f"{target.name}.part.json")
        self.width = width
        if self.notes.is_file():
            try:
                found = json.loads(self.notes.read_text())
            except ValueError:
                found = None
            if found != identity:
                raise UserError(
                    f"{self.file}: begun with another tagger or file of jets; remove it and "
                    f"{self.notes.name}, or choose another --out"
                )
        elif self.file.exists():
            raise UserError(f"{self.file}: is in the way; remove it")
        else:
            write_text(self.notes, json.dumps(identity))

    def __len__(self) -> int:
        return self.file.stat().st_size // (4 * self.width) if self.file.is_file() else 0

    def append(self, logits: npt.NDArray[np.float32]) -> None:
        """Add rows behind those that are complete."""
        with open(self.file, "ab") as file:
            file.truncate(len(self) * 4 * self.width)
            file.write(np.ascontiguousarray(logits, dtype="<f4").tobytes())
            file.flush()
            os.fsync(file.fileno())

    def rows(self, start: int, stop: int) -> npt.NDArray[np.float32]:
        """Rows ``start`` to ``stop``."""
        size = 4 * self.width
        with open(self.file, "rb") as file:
            file.seek(start * size)
            content = file.read((stop - start) * size)
        return np.frombuffer(content, dtype="<f4").reshape(-1, self.width)

    def remove(self) -> None:
        """Remove both files."""
        self.file.unlink(missing_ok=True)
        self.notes.unlink(missing_ok=True)


def digest_of(tagger: Tagger) -> str:
    """A digest of what a tagger computes: its description and weights."""
    described = tagger.described
    parts = (
        described.spec, described.features, described.model, described.patterns,
        described.max_constituents, described.smallest_component,
    )  # fmt: skip
    found = hashlib.sha256(repr(parts).encode())
    for name, tensor in sorted(tagger.model.state_dict().items()):
        found.update(name.encode())
        found.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()[:32]


def predict(tagger: Tagger, wanted: Wanted, digest: str) -> str:
    """Score a file; returns one line about it.

    Raises
    ------
    UserError
        If the output exists and is of something else, or a column cannot be kept.
    DataError
        If the file cannot be read.
    """
    write = writer_of(wanted.out)
    identity = _identity(wanted, digest)
    notes = wanted.out.with_name(f"{wanted.out.name}.json")
    if wanted.out.exists():
        if notes.is_file() and _same(notes, identity):
            return f"{wanted.out}: is there already"
        raise UserError(f"{wanted.out}: exists, and is of something else; choose another --out")
    jets = jet_file(wanted.file, tagger.columns, wanted.description, wanted.split)
    total = len(jets)
    if not total:
        raise UserError(f"{wanted.file}: holds no jets")
    # Now, so that names that are wrong are found before the work.
    first = _columns(tagger, wanted, jets, np.zeros((1, tagger.spec.num_outputs), np.float32), 0)
    parts = Parts(wanted.out, identity, tagger.spec.num_outputs)
    start, begun = perf_counter(), len(parts)
    _score(tagger, wanted, jets, parts, total)
    seconds = perf_counter() - start
    unscored = 0
    with atomic_path(wanted.out) as temporary, ExitStack() as stack:
        add: Write = stack.enter_context(write(temporary, first, total))
        for begin, end in _ranges(0, total):
            logits = parts.rows(begin, end)
            columns = _columns(tagger, wanted, jets, logits, begin)
            unscored += int((~columns[SCORED]).sum())
            add(columns)
    about = {**identity, "jets": total, "not_scored": unscored, "date": date.today().isoformat()}
    write_text(notes, json.dumps(about, indent=2) + "\n")
    parts.remove()
    rate = f", {(total - begun) / seconds:,.0f} jets/s" if begun < total else ""
    flagged = f"{unscored:,} of them not scored" if unscored else "all scored"
    which = f" of the split {wanted.split}" if jets.has_splits else ""
    return f"{wanted.out}: {total:,} jets{which}, {flagged}{rate}"


def _score(tagger: Tagger, wanted: Wanted, jets: JetFile, parts: Parts, total: int) -> None:
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns) as progress:
        bar = progress.add_task(wanted.file.name, total=total, completed=len(parts))
        for begin, end in _ranges(len(parts), total):
            parts.append(scores_of(tagger, jets, begin, end))
            progress.update(bar, completed=end)


def scores_of(tagger: Tagger, jets: JetFile, start: int, stop: int) -> npt.NDArray[np.float32]:
    """Logits ``(J, K)`` of a part of a file; NaN for jets that cannot be scored."""
    part = jets.jets(start, stop)
    found = np.full((stop - start, tagger.spec.num_outputs), np.nan, np.float32)
    if len(part) != stop - start:
        raise UserError(f"{part.source}: has {len(part)} jets where {stop - start} were counted")
    rows = np.flatnonzero(can_be_scored(part, tagger.columns))
    if len(rows):
        found[rows] = tagger.logits(part.select(rows)).numpy()
    return found


def _ranges(start: int, stop: int) -> Iterator[tuple[int, int]]:
    for begin in range(start, stop, AT_ONCE):
        yield begin, min(begin + AT_ONCE, stop)


def _columns(
    tagger: Tagger, wanted: Wanted, jets: JetFile, logits: npt.NDArray[np.float32], start: int
) -> Columns:
    """All columns of a part of the output."""
    kept = {}
    if wanted.keep:
        found = jets.columns(wanted.keep, start, start + len(logits))
        kept = {plain_name(name): as_numbers(name, found[name]) for name in wanted.keep}
    scores = probabilities(torch.from_numpy(np.array(logits)))
    new = {f"score_{name}": scores[:, i].copy() for i, name in enumerate(tagger.classes)}
    if wanted.logits:
        names = tagger.classes if logits.shape[1] > 1 else tagger.classes[-1:]
        new |= {f"logit_{name}": np.array(logits[:, i]) for i, name in enumerate(names)}
    new[SCORED] = np.isfinite(logits).all(axis=1)
    if twice := sorted(set(kept) & set(new)):
        raise UserError(f"--keep {twice[0]}: is the name of a score; leave it out")
    return {**kept, **new}


def _identity(wanted: Wanted, digest: str) -> dict[str, Any]:
    state = Snapshot.of(wanted.file).state
    described = None if wanted.description is None else wanted.description.read_text("utf-8")
    return {
        "tagger": digest, "file": wanted.file.name, "bytes": state[2], "modified_ns": state[3],
        "split": wanted.split, "description": described, "kept": list(wanted.keep),
        "logits": wanted.logits,
    }  # fmt: skip


def _same(notes: Path, identity: Mapping[str, Any]) -> bool:
    try:
        found = json.loads(notes.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return isinstance(found, dict) and all(found.get(k) == v for k, v in identity.items())


def outputs(files: Sequence[Path], out: Path, suffix: str) -> list[Path]:
    """Where the scores of each file go: ``out`` for one, else files in that folder.

    Raises
    ------
    UserError
        If two would have the same name.
    """
    if len(files) == 1 and not out.is_dir():
        return [out]
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out}: of several files, a folder is wanted")
    found = [out / f"{file.stem}{suffix}" for file in files]
    if len(set(found)) < len(found):
        twice = next(x for x in found if found.count(x) > 1)
        raise UserError(f"--out {out}: two files would both become {twice.name}; give them apart")
    out.mkdir(parents=True, exist_ok=True)
    return found
