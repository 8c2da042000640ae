"""Readers against files by other writers; damaged files end in one clear line."""

from __future__ import annotations

import errno
import math
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from itertools import pairwise

import h5py
import numpy as np
import pytest

from data.atomic import atomic_path
from data.errors import DataError
from data.formats import packed, read_jets
from data.generate import round_mantissa
from data.jets import Jets
from experiments.cli import ROOT
from support.jetfiles import random_jets, write_npz, write_packed_by_hand, write_pandas

MINI = ROOT / "data" / "toptagging_mini.h5"


def assert_same(jets: Jets, momenta, labels):
    real = momenta[..., 0] > 0
    np.testing.assert_array_equal(jets.lengths, real.sum(1))
    np.testing.assert_array_equal(jets.constituents, momenta[real])
    np.testing.assert_array_equal(jets.labels, labels)


@pytest.fixture
def sample():
    return random_jets(23, seed=3)


class TestFormats:
    def test_pandas_folder(self, tmp_path, sample):
        for number, split in enumerate(("train", "val", "test")):
            write_pandas(tmp_path / f"{split}.h5", *random_jets(5 + number, number))
        assert_same(read_jets(tmp_path, "val"), *random_jets(6, 1))

    def test_pandas_file_under_any_name(self, tmp_path, sample):
        path = tmp_path / "jets.bin"
        write_pandas(tmp_path / "a.h5", *sample)
        (tmp_path / "a.h5").rename(path)
        assert_same(read_jets(path, "test"), *sample)

    def test_npz(self, tmp_path, sample):
        path = tmp_path / "full.npz"
        write_npz(path, {"train": sample, "val": random_jets(4, 9), "test": random_jets(5, 8)})
        assert_same(read_jets(path, "train"), *sample)
        assert_same(read_jets(path, "test", limit=3), *(a[:3] for a in random_jets(5, 8)))

    def test_packed_by_hand_is_mapped(self, tmp_path, sample):
        path = tmp_path / "x"
        write_packed_by_hand(path, *sample)
        jets = read_jets(path, "test")
        assert_same(jets, *sample)
        assert isinstance(jets.constituents, np.memmap)

    def test_packed_round_trip(self, tmp_path, sample):
        write_packed_by_hand(tmp_path / "a", *sample)
        jets = read_jets(tmp_path / "a", "train")
        packed.write(tmp_path / "b", {"train": jets}, {"seed": 1})
        assert_same(read_jets(tmp_path / "b", "train"), *sample)

    def test_last_jet_is_kept_and_tiny_components_are_real(self, tmp_path, sample):
        # Two traps of other code: slices that drop the last row, and padding rules by components.
        momenta, labels = sample
        momenta[-1, 0] = [10.0, 10.0, 1e-7, 0.0]
        write_pandas(tmp_path / "train.h5", momenta, labels)
        jets = read_jets(tmp_path / "train.h5", "train")
        assert len(jets) == len(labels)
        assert_same(jets, momenta, labels)

    def test_shipped_sample(self):
        assert MINI.stat().st_size <= 6e6
        counts = {split: len(read_jets(MINI, split)) for split in ("train", "val", "test")}
        assert counts == {"train": 7200, "val": 800, "test": 2000}
        jets = read_jets(MINI, "test")
        pt = np.hypot(*np.add.reduceat(jets.constituents, jets.offsets[:-1])[:, 1:3].T)
        assert 549 < pt.min() and pt.max() < 651


class TestSelection:
    def test_select_equals_loop(self, tmp_path, sample):
        write_packed_by_hand(tmp_path / "a", *sample)
        jets = read_jets(tmp_path / "a", "train")
        picked = jets.select(np.array([7, 0, 22, 7]))
        expected = [jets.constituents[jets.offsets[j] : jets.offsets[j + 1]] for j in (7, 0, 22, 7)]
        np.testing.assert_array_equal(picked.constituents, np.concatenate(expected))


def bad(tmp_path, message, **replace):
    momenta, labels = random_jets(6, 1)
    write_packed_by_hand(tmp_path / "bad.h5", momenta, labels, **replace)
    with pytest.raises(DataError, match=message) as caught:
        read_jets(tmp_path / "bad.h5", "train")
    assert "\n" not in str(caught.value)


class TestBadInput:
    def test_missing(self, tmp_path):
        with pytest.raises(DataError, match="no such file"):
            read_jets(tmp_path / "none.h5", "train")

    def test_empty_file(self, tmp_path):
        (tmp_path / "e.h5").touch()
        with pytest.raises(DataError, match="empty"):
            read_jets(tmp_path / "e.h5", "train")

    def test_other_format(self, tmp_path):
        (tmp_path / "notes.h5").write_text("these are not jets")
        with pytest.raises(DataError, match="known format"):
            read_jets(tmp_path / "notes.h5", "train")
        with h5py.File(tmp_path / "other.h5", "w") as file:
            file["x"] = np.arange(3)
        with pytest.raises(DataError, match="known format"):
            read_jets(tmp_path / "other.h5", "train")

    @pytest.mark.parametrize("share", [0.05, 0.3, 0.9])
    def test_truncated_hdf5(self, tmp_path, share):
        content = MINI.read_bytes()
        (tmp_path / "cut.h5").write_bytes(content[: int(share * len(content))])
        with pytest.raises(DataError, match="cut short"):
            read_jets(tmp_path / "cut.h5", "train")

    @pytest.mark.parametrize("share", [0.3, 0.9])
    def test_truncated_npz(self, tmp_path, share):
        path = tmp_path / "a.npz"
        write_npz(path, {"train": random_jets(50, 1)})
        content = path.read_bytes()
        path.write_bytes(content[: int(share * len(content))])
        with pytest.raises(DataError):
            read_jets(path, "train")

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_not_finite(self, tmp_path, value):
        momenta, _ = random_jets(6, 1)
        constituents = momenta[momenta[..., 0] > 0]
        constituents[-1, 2] = value
        bad(tmp_path, "jet 5 has a NaN or infinite", constituents=constituents)

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_not_finite_in_table(self, tmp_path, value):
        momenta, labels = random_jets(6, 1)
        momenta[2, 0, 0] = value
        write_pandas(tmp_path / "train.h5", momenta, labels)
        with pytest.raises(DataError, match="jet 2 has a NaN or infinite"):
            read_jets(tmp_path / "train.h5", "train")

    @pytest.mark.parametrize(
        ("name", "own"), [("train", "train"), ("val", "val"), ("jets", "test")]
    )
    def test_a_table_is_one_split(self, tmp_path, name, own):
        """Else a run given train.h5 would be tested on the jets that it was trained on."""
        path = tmp_path / f"{name}.h5"
        write_pandas(path, *random_jets(6, 1))
        assert len(read_jets(path, own)) == 6
        for split in {"train", "val", "test"} - {own}:
            with pytest.raises(DataError, match=f"not for {split}; give the folder with train.h5"):
                read_jets(path, split)

    def test_no_constituent(self, tmp_path):
        momenta, labels = random_jets(6, 1)
        momenta[4] = 0
        write_pandas(tmp_path / "train.h5", momenta, labels)
        with pytest.raises(DataError, match="jet 4 has no constituent"):
            read_jets(tmp_path / "train.h5", "train")

    def test_wrong_label(self, tmp_path):
        bad(tmp_path, "jet 1 has label 7", labels=np.array([0, 7, 0, 1, 1, 0]))

    def test_offsets_beyond_the_end(self, tmp_path):
        bad(tmp_path, "offsets", offsets=np.arange(7) * 1000)

    def test_negative_energy(self, tmp_path):
        momenta, _ = random_jets(6, 1)
        constituents = momenta[momenta[..., 0] > 0]
        constituents[0, 0] = -1
        bad(tmp_path, "energy <= 0", constituents=constituents)


class TestWriting:
    def test_failure_leaves_the_old_file(self, tmp_path):
        path = tmp_path / "a.txt"
        path.write_text("old")
        with pytest.raises(OSError), atomic_path(path) as temporary:
            temporary.write_text("half")
            raise OSError(errno.ENOSPC, "No space left on device")
        assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]

    def test_disk_full_while_generating_leaves_nothing(self, tmp_path, sample):
        # The limit on file sizes stands in for a full disk.
        script = (
            "import resource, signal, sys; from pathlib import Path\n"
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            "from data.formats import packed, read_jets\n"
            f"jets = read_jets({str(MINI)!r}, 'train')\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
            f"packed.write(Path({str(tmp_path / 'out.h5')!r}), {{'train': jets}}, {{}})\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode != 0 and list(tmp_path.iterdir()) == []


def test_rounded_mantissa():
    values = np.random.default_rng(0).normal(0, 100, 1000).astype(np.float32)
    rounded = round_mantissa(values, 12)
    assert abs(rounded / values - 1).max() <= 2.0**-13
    assert not (rounded.view(np.uint32) & 0x7FF).any()
    assert round_mantissa(values, 23) is values


@pytest.mark.slow
def test_generator_is_reproducible_and_independent_of_processes(tmp_path):
    pytest.importorskip("pythia8mc")
    pytest.importorskip("fastjet")
    outputs = []
    for processes in (1, 2):
        path = tmp_path / f"{processes}.h5"
        command = [sys.executable, "-m", "data.generate", "toptagging", "--jets", "220"]
        command += ["--seed", "5", "--processes", str(processes), "--out", str(path)]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
        outputs.append([read_jets(path, split) for split in ("train", "val", "test")])
    for a, b in zip(*outputs, strict=True):
        np.testing.assert_array_equal(a.constituents, b.constituents)
        np.testing.assert_array_equal(a.labels, b.labels)


class TestLeading:
    """Particles of the highest pT are kept, whatever the order of the file."""

    @pytest.fixture(params=["sorted", "shuffled", "rising"])
    def jets(self, request, tmp_path):
        momenta, labels = random_jets(30, 5)
        rng = np.random.default_rng(5)
        for jet in momenta:
            n = int((jet[:, 0] > 0).sum())
            if request.param != "sorted":
                jet[:n] = jet[rng.permutation(n) if request.param == "shuffled" else range(n)[::-1]]
        write_packed_by_hand(tmp_path / "jets.h5", momenta, labels)
        return read_jets(tmp_path / "jets.h5", "train")

    @pytest.mark.parametrize("most", [1, 3, 11, 99])
    def test_the_hardest_are_kept_in_order(self, jets, most):
        rows = np.arange(len(jets.constituents), dtype=np.float32)
        found = replace(jets, particles={"row": rows}).leading(most)
        expected = []
        for first, last in pairwise(jets.offsets.tolist()):
            pt = [math.hypot(*jets.constituents[row, 1:3]) for row in range(first, last)]
            best = sorted(range(last - first), key=lambda i, pt=pt: -pt[i])[:most]
            expected.append([first + i for i in sorted(best)])
        assert found.particles["row"].tolist() == [row for jet in expected for row in jet]
        assert found.lengths.tolist() == [len(jet) for jet in expected]
        np.testing.assert_array_equal(
            found.constituents, jets.constituents[found.particles["row"].astype(int)]
        )

    def test_of_equals_the_first(self):
        p = np.array([[5, 3, 0, 0], [9, 4, 0, 0], [5, 0, 3, 1], [5, 3, 0, 2]], np.float32)
        jets = Jets(p, np.array([0, 4]), np.array([0]), "jets")
        np.testing.assert_array_equal(jets.leading(3).constituents, p[:3])


@pytest.mark.parametrize("order", [[1, 2, 3, 0], [3, 0, 1, 2]])
def test_components_in_another_order_are_told(tmp_path, order):
    momenta, labels = random_jets(6, 1)
    write_packed_by_hand(tmp_path / "bad.h5", momenta, labels)
    with h5py.File(tmp_path / "bad.h5", "r+") as file:
        data = file["train/constituents"]
        data[...] = np.abs(data[...])[:, order]
    with pytest.raises(DataError, match=r"must come as \(E, px, py, pz\), in GeV"):
        read_jets(tmp_path / "bad.h5", "train")


@pytest.mark.parametrize(("scale", "warned"), [(1e6, True), (100.0, False)])
def test_momenta_in_mev_are_warned_of(tmp_path, scale, warned):
    momenta, labels = random_jets(40, 1)
    write_packed_by_hand(tmp_path / "jets.h5", momenta * np.float32(scale), labels)
    with pytest.warns(UserWarning, match="MeV") if warned else nullcontext():
        read_jets(tmp_path / "jets.h5", "train")


def test_an_unknown_file_is_sent_to_the_page(tmp_path):
    (tmp_path / "jets.csv").write_text("E,px,py,pz\n")
    with pytest.raises(DataError, match=r"docs/data\.md says how to write one"):
        read_jets(tmp_path / "jets.csv", "train")
