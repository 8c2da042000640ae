"""The formats of the public data sets, read from files that other libraries wrote."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from data.convert import main as convert
from data.errors import DataError
from data.formats import Format, find_format, known_samples, packed, quark_gluon, read_jets
from data.formats.registry import SPLITS
from support.commands import module
from support.jetfiles import random_jets, random_particles, write_npz, write_quark_gluon, write_root

pytest.importorskip("uproot")
JETCLASS = known_samples()["jetclass"]
CLASSES = list(JETCLASS.classes)
# In the order of another code base: labels must be read by name.
SHUFFLED = ["Hbb", "Tbl", "QCD", "Wqq", "Hcc", "Zqq", "Tbqq", "Hgg", "H4q", "Hqql"]


@pytest.fixture
def folder(tmp_path):
    """A small JetClass: two files of training, one each of validation and test."""
    jets = {}
    for split, name, label in (
        ("train_100M", "HToBB_000", "Hbb"),
        ("train_100M", "ZJetsToNuNu_000", "QCD"),
        ("val_5M", "TTBarLep_000", "Tbl"),
        ("test_20M", "WToQQ_000", "Wqq"),
    ):
        particles = random_particles(40, len(jets))
        path = tmp_path / "jetclass" / split / f"{name}.root"
        write_root(path, particles, label, SHUFFLED)
        jets[path] = particles, label
    return tmp_path / "jetclass", jets


class TestJetClass:
    def test_what_was_written(self, folder):
        path, written = folder
        assert find_format(path).module is JETCLASS
        for file, (particles, label) in written.items():
            split = file.parent.name.split("_")[0]
            jets = JETCLASS.read_file(file, split)
            assert jets.classes == JETCLASS.classes
            assert set(jets.labels) == {CLASSES.index(label)}
            assert np.array_equal(jets.lengths, particles["lengths"])
            for i, name in enumerate(("energy", "px", "py", "pz")):
                assert np.array_equal(jets.constituents[:, i], particles[name])
            assert np.array_equal(jets.particles["dz_error"], particles["dz_error"])
            assert np.array_equal(jets.particles["is_muon"], particles["isMuon"])
            assert np.array_equal(jets.jets["mass"], np.arange(40))
        assert len(read_jets(path, "train")) == 80
        assert set(read_jets(path, "train", 10).labels) == {0, 1}, "a limit takes of all files"

    def test_parts_of_a_file(self, folder):
        file, (particles, _) = next(iter(folder[1].items()))
        jets = JETCLASS.read_file(file, "train", 7, 12)
        assert np.array_equal(jets.lengths, particles["lengths"][7:12])
        start = particles["lengths"][:7].sum()
        assert np.array_equal(
            jets.constituents[:, 0], particles["energy"][start : start + jets.offsets[-1]]
        )

    @pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
    def test_damaged(self, folder, share):
        file = next(iter(folder[1]))
        content = file.read_bytes()
        file.write_bytes(content[: int(share * len(content))])
        with pytest.raises(DataError, match=f"{file.name}.*damaged or cut short"):
            Format(JETCLASS).read_file(file, "train")

    def test_other_trees(self, tmp_path):
        particles = random_particles(5, 0)
        write_root(tmp_path / "a.root", particles, "b", ["b", "c"])
        with pytest.raises(DataError, match="known format"):
            find_format(tmp_path / "a.root")
        with pytest.raises(DataError, match="has no branch"):
            JETCLASS.read_file(tmp_path / "a.root", "train")

    def test_no_files(self, tmp_path):
        with pytest.raises(DataError, match="known format"):
            find_format(tmp_path)


def test_toptagxl(tmp_path):
    for name, label in (("qcd_000", "isQCD"), ("top_000", "isTop")):
        particles = random_particles(20, 3)
        path = tmp_path / "train_100M" / f"{name}.root"
        write_root(path, particles, label, ["isTop", "isQCD"], xl=True)
    assert find_format(tmp_path).module is known_samples()["toptagxl"]
    jets = read_jets(tmp_path, "train")
    assert jets.classes == ("QCD", "top") and jets.labels.tolist() == [0] * 20 + [1] * 20
    assert np.array_equal(jets.particles["d0"][: len(particles["d0"])], particles["d0"])


class TestQuarkGluon:
    def test_what_was_written(self, tmp_path):
        x, y = write_quark_gluon(tmp_path / "QG_jets.npz", 50, 1)
        assert find_format(tmp_path).module is quark_gluon
        jets = read_jets(tmp_path, "train")
        assert len(jets) == 40 and jets.classes == ("gluon", "quark")
        assert np.array_equal(jets.labels, y[:40])
        sizes = [len(read_jets(tmp_path, split)) for split in SPLITS]
        assert sizes == [40, 5, 5]
        jet = x[0][x[0, :, 0] > 0]
        jet = jet[np.argsort(-jet[:, 0])]
        e, px, py, pz = jets.constituents[: len(jet)].T
        np.testing.assert_allclose(np.hypot(px, py), jet[:, 0], rtol=1e-5)
        np.testing.assert_allclose(0.5 * np.log((e + pz) / (e - pz)), jet[:, 1], atol=1e-4)
        np.testing.assert_allclose(np.arctan2(py, px) % (2 * np.pi), jet[:, 2], atol=1e-5)
        charge = {22: 0, 211: 1, -211: -1, 130: 0, 11: -1, -13: 1, 2212: 1}
        assert jets.particles["charge"][: len(jet)].tolist() == [charge[int(n)] for n in jet[:, 3]]
        mass = np.sqrt(np.maximum(e.astype(float) ** 2 - px**2 - py**2 - pz**2, 0))
        protons = (jet[:, 3] == 2212) & (e < 20)
        np.testing.assert_allclose(mass[protons], 0.938, rtol=0.05)

    def test_files_in_the_order_of_their_numbers(self, tmp_path):
        for name in ("QG_jets.npz", "QG_jets_10.npz", "QG_jets_2.npz"):
            write_quark_gluon(tmp_path / name, 10, 1)
        names = [file.name for file in quark_gluon.files(tmp_path, "train")]
        assert names == ["QG_jets.npz", "QG_jets_2.npz", "QG_jets_10.npz"]

    def test_unknown_particle(self, tmp_path):
        x, y = write_quark_gluon(tmp_path / "QG_jets.npz", 20, 1)
        x[0, 0, 3] = 99
        np.savez(tmp_path / "QG_jets.npz", X=x, y=y)
        with pytest.raises(DataError, match=r"PDG numbers \[99\]"):
            read_jets(tmp_path, "train")


class TestConvert:
    def equal(self, a, b):
        assert a.classes == b.classes and np.array_equal(a.labels, b.labels)
        assert np.array_equal(a.offsets, b.offsets)
        assert np.array_equal(a.constituents, b.constituents)
        for kind in ("particles", "jets"):
            ours, theirs = getattr(a, kind), getattr(b, kind)
            assert set(ours) == set(theirs)
            assert all(np.array_equal(ours[n], theirs[n]) for n in ours)

    @pytest.mark.parametrize("options", [[], ["--compress"]], ids=["plain", "compressed"])
    def test_folders(self, folder, tmp_path, options):
        path, _ = folder
        target = tmp_path / "packed"
        convert([str(path), str(target), *options])
        assert find_format(target).module is packed
        for split in SPLITS:
            self.equal(read_jets(target, split), read_jets(path, split))
        part = packed.read_file(target / "train" / "HToBB_000.h5", "train", 3, 9)
        self.equal(part, JETCLASS.read_file(path / "train_100M" / "HToBB_000.root", "train", 3, 9))
        lines = (target / "SHA256SUMS").read_text().splitlines()
        assert len(lines) == 4
        for line in lines:
            digest, name = line.split("  ")
            assert hashlib.sha256((target / name).read_bytes()).hexdigest() == digest

    def test_goes_on_where_it_was_stopped(self, folder, tmp_path, monkeypatch, capsys):
        path, written = folder
        target = tmp_path / "packed"
        file = list(written)[1]
        content = file.read_bytes()
        file.write_bytes(content[: len(content) // 2])
        with pytest.raises(SystemExit, match=f"{file.name}.*damaged"):
            convert([str(path), str(target)])
        done = {f: f.stat().st_mtime_ns for f in target.rglob("*.h5")}
        assert len(done) == 1
        file.write_bytes(content)
        convert([str(path), str(target)])
        assert "120 jets written" in capsys.readouterr().out
        assert all(f.stat().st_mtime_ns == time for f, time in done.items())
        self.equal(read_jets(target, "train"), read_jets(path, "train"))
        assert not [f for f in target.rglob("*") if f.is_file() and f.suffix not in (".h5", "")]

    def test_one_file(self, tmp_path, capsys):
        splits = {split: random_jets(12, i) for i, split in enumerate(SPLITS)}
        write_npz(tmp_path / "all.npz", splits)
        convert([str(tmp_path / "all.npz"), str(tmp_path / "all.h5"), "--limit", "10"])
        assert "30 jets written" in capsys.readouterr().out
        self.equal(
            read_jets(tmp_path / "all.h5", "val"), read_jets(tmp_path / "all.npz", "val", 10)
        )
        with pytest.raises(SystemExit, match="exists"):
            convert([str(tmp_path / "all.npz"), str(tmp_path / "all.h5")])

    def test_bad_sources(self, tmp_path):
        with pytest.raises(SystemExit, match="no such file"):
            convert([str(tmp_path / "none"), str(tmp_path / "out")])

    def test_command(self, tmp_path):
        done = module("data.convert", str(tmp_path), str(tmp_path / "out"))
        assert done.returncode == 1 and done.stderr.startswith("error: ")
        assert len(done.stderr.strip().splitlines()) == 1
