"""Mutations of a file of each format: the same jets, or one line, and never worse.

Each runs in a process of its own, so that a crash of HDF5 or a reading without end is noticed.
Archives and our files have checksums. Pandas tables have none, and ROOT has them only where it
could compress: there a changed number is another valid number, and few mutations give other jets.
"""

from __future__ import annotations

import os
import subprocess
import sys

import h5py
import pytest

from data.formats import known_samples, packed
from data.jets import Jets
from experiments.cli import ROOT
from support.jetfiles import (
    random_jets,
    random_particles,
    write_npz,
    write_pandas,
    write_quark_gluon,
    write_root,
)

CLASSES = list(known_samples()["jetclass"].classes)
MUTATIONS = ROOT / "tests" / "support" / "mutations.py"


def packed_file(path, compress):
    momenta, labels = random_jets(20, 1)
    real = momenta[..., 0] > 0
    offsets = [0, *real.sum(1).cumsum()]
    charge = momenta[real][:, 1] * 0 + 1
    jets = Jets(momenta[real], offsets, labels, "test", particles={"charge": charge})
    packed.write(path, {"train": jets}, {}, compress=compress)


def unsigned_file(path):
    """As written before there were checksums."""
    packed_file(path, True)
    with h5py.File(path, "r+") as file:
        file.attrs["version"] = 2
        size = file.id.get_filesize()
    os.truncate(path, size)


FILES = {
    "pandas_table": ("train.h5", lambda path: write_pandas(path, *random_jets(20, 1))),
    "heidelberg_npz": ("jets.npz", lambda path: write_npz(path, {"train": random_jets(20, 1)})),
    "jetclass": (
        "jets.root",
        lambda path: write_root(path, random_particles(20, 1), "Hbb", CLASSES),
    ),
    "toptagxl": (
        "jets.root",
        lambda path: write_root(path, random_particles(20, 1), "isTop", ["isTop", "isQCD"], True),
    ),
    "quark_gluon": ("jets.npz", lambda path: write_quark_gluon(path, 20, 1)),
    "packed": ("jets.h5", lambda path: packed_file(path, False)),
    "packed-compressed": ("jets.h5", lambda path: packed_file(path, True)),
    "packed-unsigned": ("jets.h5", unsigned_file),
}
MAY_DIFFER = {"pandas_table", "jetclass", "toptagxl", "packed-unsigned"}


CASES = [(name, 50) for name in ("pandas_table", "jetclass", "packed")]
CASES += [pytest.param(name, 200, marks=pytest.mark.slow) for name in FILES]


@pytest.mark.parametrize(("name", "count"), CASES)
def test_mutations(name, count, tmp_path):
    """In a process of its own, which a damaged file may not bring down."""
    file, write = FILES[name]
    write(tmp_path / file)
    done = subprocess.run(
        [sys.executable, str(MUTATIONS), str(tmp_path / file), name.split("-")[0], "0", str(count)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    lines = done.stdout.splitlines()
    assert done.returncode == 0 and not done.stderr, f"{lines[-1:]}: {done.stderr}"
    ends = [line.split(maxsplit=3) for line in lines if len(line.split()) > 2]
    assert len(ends) == count
    found = {end[2] for end in ends}
    allowed = {"same", "refused"} | ({"other"} if name in MAY_DIFFER else set())
    assert found <= allowed, [end for end in ends if end[2] not in allowed]
    assert {"same", "refused"} <= found
    assert sum(end[2] == "other" for end in ends) <= count // 10
    assert max(float(end[1]) for end in ends) < 60
