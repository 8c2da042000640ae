"""Every experiment trains from files in the layout of its public data set, as others write them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from data.formats import known_samples
from support.commands import run
from support.jetfiles import (
    random_jets,
    random_particles,
    write_npz,
    write_pandas,
    write_quark_gluon,
    write_root,
)

SMALL = (
    "debug=fast", "plots=[]", "data.batch_size=8", "model=lgatr_small",
    "model.network.num_blocks=1",
)  # fmt: skip
CLASSES = known_samples()["jetclass"].classes
SPLITS = ("train", "val", "test")


def pandas_folder(folder):
    for seed, split in enumerate(SPLITS):
        write_pandas(folder / f"{split}.h5", *random_jets(60, seed))


def npz_file(folder):
    write_npz(folder / "jets.npz", {s: random_jets(60, n) for n, s in enumerate(SPLITS)})


def jetclass(folder, part=0):
    pytest.importorskip("uproot")
    for seed, split in enumerate(("train_100M", "val_5M", "test_20M")):
        for number, label in enumerate(CLASSES):
            particles = random_particles(12, 100 * part + 10 * seed + number)
            file = folder / split / f"{label}_{part:03d}.root"
            write_root(file, particles, label, list(CLASSES))


def toptagxl(folder):
    pytest.importorskip("uproot")
    for seed, split in enumerate(("train_100M", "val_10M", "test_25M")):
        for number, label in enumerate(("isQCD", "isTop")):
            particles = random_particles(40, 10 * seed + number)
            file = folder / split / f"{label}_000.root"
            write_root(file, particles, label, ["isTop", "isQCD"], xl=True)


def quarkgluon(folder):
    write_quark_gluon(folder / "QG_jets.npz", 300, 1)


def case(experiment, write, name=""):
    return pytest.param(experiment, write, name, id=f"{experiment}-{write.__name__}")


CASES = [
    case("toptagging_paper", pandas_folder),
    case("jetclass_paper", jetclass),
    case("toptagxl", toptagxl),
    case("toptagging", npz_file, "jets.npz"),
    case("toptagging", pandas_folder),
    case("jetclass", jetclass),
    case("quarkgluon", quarkgluon),
]


@pytest.mark.slow
@pytest.mark.parametrize(("experiment", "write", "name"), CASES)
def test_trains_from_the_source(experiment, write, name, tmp_path):
    source, folder = tmp_path / "source", tmp_path / "run"
    source.mkdir()
    write(source)
    done = run(
        f"experiment={experiment}", *SMALL, f"data.path={source / name}", f"run_dir={folder}"
    )
    assert done.returncode == 0, done.stderr
    results = json.loads((folder / "metrics.json").read_text())
    assert results["steps"] == 2 and min(results["jets"].values()) > 0
    assert np.isfinite(results["loss"])


# Cut early, a file cannot be opened; cut late, some of its jets can still be read.
@pytest.mark.parametrize(
    ("share", "skipped"),
    [
        pytest.param(0.05, {"files": 1, "parts": 0}, marks=pytest.mark.slow),
        pytest.param(0.5, {"files": 0, "parts": 1}, marks=pytest.mark.slow),
    ],
)
def test_a_corrupt_file_among_many_is_named_or_counted(tmp_path, share, skipped):
    source = tmp_path / "source"
    jetclass(source)
    jetclass(source, part=1)  # without a jet of Hcc there would be nothing to train
    broken = source / "train_100M" / "Hcc_000.root"
    broken.write_bytes(broken.read_bytes()[: int(share * broken.stat().st_size)])
    common = ("experiment=jetclass", *SMALL, "data.limit=0", f"data.path={source}")
    done = run(*common, f"run_dir={tmp_path / 'refused'}")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.strip()]
    assert "Hcc_000.root" in line and "data.skip_corrupt=true" in line
    done = run(*common, "data.skip_corrupt=true", f"run_dir={tmp_path / 'run'}")
    assert done.returncode == 0, done.stderr
    assert "Hcc_000.root" in done.stderr
    results = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert results["skipped"] == skipped
    assert results["jets"]["train"] == (20 - skipped["files"]) * 12
