"""Damage a file in every way, and read it: ``python mutations.py FILE FORMAT FIRST LAST``.

Reads the jets of training in ``FILE``, a file of the module FORMAT, as it is; then its mutations of
numbers FIRST to LAST - 1, each of which follows from its number. Prints a line for each before and
after: what it is, and how reading ended. Every tenth is read as a user would, by looking for the
format first.
"""

from __future__ import annotations

import faulthandler
import hashlib
import importlib
import os
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np

from data import probe
from data.errors import DataError
from data.formats import Format, find_format, known_samples

EXTREMES = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 40, (1 << 63) - 1)


def _flip(rng, content):
    for _ in range(rng.integers(1, 9)):
        content[rng.integers(len(content))] ^= 1 << rng.integers(8)
    return content


def _cut(rng, content):
    return content[: rng.integers(1, len(content))]


def _edit(rng, content):
    """A number of a header, at the file's beginning or end."""
    size = int(rng.choice([1, 2, 4, 8]))
    place = int(rng.integers(min(2048, len(content) - size)))
    place = place if rng.random() < 0.5 else len(content) - size - place
    value = EXTREMES[rng.integers(len(EXTREMES))] % (1 << (8 * size))
    content[place : place + size] = value.to_bytes(size, str(rng.choice(["little", "big"])))
    return content


def _extreme(rng, content):
    """A number anywhere."""
    place = int(rng.integers(len(content) - 8))
    value = EXTREMES[rng.integers(len(EXTREMES))]
    content[place : place + 8] = value.to_bytes(8, str(rng.choice(["little", "big"])))
    return content


def _block(rng, content):
    start = int(rng.integers(len(content)))
    return start, min(len(content), start + int(2 ** rng.integers(2, 13)))


def _zero(rng, content):
    start, stop = _block(rng, content)
    content[start:stop] = bytes(stop - start)
    return content


def _repeat(rng, content):
    start, stop = _block(rng, content)
    return content[:stop] + content[start:]


def _overwrite(rng, content):
    start, stop = _block(rng, content)
    block, place = content[start:stop], int(rng.integers(len(content)))
    content[place : place + len(block)] = block
    return content


def _remove(rng, content):
    start, stop = _block(rng, content)
    return content[:start] + content[stop:]


def _noise(rng, content):
    start, stop = _block(rng, content)
    content[start:stop] = rng.bytes(stop - start)
    return content


def _append(rng, content):
    return content + rng.bytes(rng.integers(1, 4096))


KINDS = (
    _flip, _cut, _edit, _extreme, _zero, _repeat, _overwrite, _remove, _noise, _append,
)  # fmt: skip


def mutate(content: bytes, number: int) -> tuple[str, bytes]:
    """The name of a mutation, and what it makes of a file."""
    rng = np.random.default_rng([2026, number])
    kind = KINDS[number % len(KINDS)]
    return kind.__name__.lstrip("_"), bytes(kind(rng, bytearray(content)))


def fingerprint(path: Path, form: Format) -> str:
    """A digest of everything that a reader gives."""
    jets = form.read(path, "train")
    digest = hashlib.sha256(repr((jets.classes, sorted(jets.particles))).encode())
    for values in (jets.constituents, jets.offsets, jets.labels, *jets.particles.values()):
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def main(file: str, name: str, first: int, last: int) -> None:
    faulthandler.enable()
    probe.SECONDS = 5.0  # some make HDF5 loop without end
    warnings.simplefilter("error")
    content = Path(file).read_bytes()
    known = known_samples().get(name)
    form = Format(known or importlib.import_module(f"data.formats.{name}"))
    whole = fingerprint(Path(file), form)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(first, last):
            kind, damaged = mutate(content, number)
            path = Path(folder) / Path(file).name  # the name of a table is that of its split
            path.write_bytes(damaged)
            print(f"{number} {kind}", flush=True)
            start = time.perf_counter()
            try:
                used = form if number % 100 >= 10 else find_format(path)
                if used.has_files and number % 3 == 0:
                    used.count(path, "train")
                found = "same" if fingerprint(path, used) == whole else "other"
            except DataError as error:
                lines = str(error).splitlines()
                found = "refused" if len(lines) == 1 and str(path) in lines[0] else "unclear"
                found += f" {error}"
            seconds = time.perf_counter() - start
            print(f"{number} {seconds:.2f} {found}", flush=True)
            os.unlink(path)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
