"""A conversion can be killed at any moment, and never mixes what it was asked for."""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from data import convert as conversion
from data.convert import main as convert
from data.errors import DataError
from data.formats import find_format, known_samples, packed, read_jets
from data.formats.registry import SPLITS, Format
from data.jets import Jets
from experiments.cli import ROOT
from support.jetfiles import random_jets, random_particles, write_npz, write_quark_gluon, write_root
from support.killed_conversions import contents

CLASSES = list(known_samples()["jetclass"].classes)


@pytest.fixture
def source(tmp_path):
    """Two files of quark and gluon jets."""
    folder = tmp_path / "source"
    folder.mkdir()
    for number, name in enumerate(("QG_jets.npz", "QG_jets_1.npz")):
        write_quark_gluon(folder / name, 30, number)
    return folder


def refused(*arguments, match):
    with pytest.raises(SystemExit, match=match) as caught:
        convert([str(argument) for argument in arguments])
    text = str(caught.value)
    assert text.startswith("error: ") and len(text.splitlines()) == 1


def one_file(path):
    write_npz(path, {split: random_jets(12, i) for i, split in enumerate(SPLITS)})


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["folder", "file"])
def test_killed_at_each_step(source, tmp_path, kind):
    (source / "QG_jets_1.npz").unlink()
    if kind == "file":
        shutil.rmtree(source)
        one_file(tmp_path / "source.npz")
    script = ROOT / "tests" / "support" / "killed_conversions.py"
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    steps, *wrong = done.stdout.split()
    assert int(steps) >= 15 and not wrong


def test_leftovers_are_not_read(source, tmp_path):
    target = tmp_path / "target"
    convert([str(source), str(target)])
    jets = len(read_jets(target, "train"))
    whole = target / "train" / "QG_jets.h5"
    (whole.parent / ".QG_jets.999999999.partial.h5").write_bytes(whole.read_bytes()[:1000])
    (whole.parent / ".QG_jets_1.999999999.partial.h5").write_bytes(whole.read_bytes())
    assert len(read_jets(target, "train")) == jets
    convert([str(source), str(target)])
    assert not list(whole.parent.glob(".*"))


def test_equal_names_in_two_folders(tmp_path):
    pytest.importorskip("uproot")
    source, target = tmp_path / "source", tmp_path / "target"
    places = ["train_100M/a/x.root", "train_100M/b/x.root", "val_5M/x.root", "test_20M/x.root"]
    for number, place in enumerate(places):
        write_root(source / place, random_particles(7, number), CLASSES[number], CLASSES)
    convert([str(source), str(target)])
    assert {f.relative_to(target).as_posix() for f in target.rglob("*.h5")} == {
        "train/a/x.h5", "train/b/x.h5", "val/x.h5", "test/x.h5"
    }  # fmt: skip
    assert read_jets(target, "train").labels.tolist() == [0] * 7 + [1] * 7


def test_equal_names_in_two_folders_of_a_split(tmp_path):
    pytest.importorskip("uproot")
    source, target = tmp_path / "source", tmp_path / "target"
    for number, place in enumerate(["train_1/x.root", "train_2/x.root"]):
        write_root(source / place, random_particles(7, number), CLASSES[number], CLASSES)
    convert([str(source), str(target)])
    assert len(read_jets(target, "train")) == 14


def test_other_options_are_refused(source, tmp_path):
    target = tmp_path / "target"
    convert([str(source), str(target), "--limit", "5"])
    before = contents(target)
    refused(source, target, match="exists.*limit 5 instead of None")
    refused(source, target, "--limit", "5", "--compress", match="compress False instead of True")
    assert contents(target) == before
    with pytest.raises(SystemExit, match="2"):
        convert([str(source), str(tmp_path / "other"), "--limit", "0"])


def test_a_changed_source_is_converted_anew(source, tmp_path, capsys):
    target = tmp_path / "target"
    convert([str(source), str(target)])
    write_quark_gluon(source / "QG_jets_1.npz", 40, 9)
    convert([str(source), str(target)])
    assert "40 jets written" in capsys.readouterr().out
    undisturbed = tmp_path / "again" / "target"
    convert([str(source), str(undisturbed)])
    assert contents(target) == contents(undisturbed)
    (source / "QG_jets_1.npz").unlink()
    refused(source, target, match="QG_jets_1.h5: comes from no file of the source")


def test_foreign_targets_are_refused(source, tmp_path):
    target = tmp_path / "target"
    target.mkdir()
    (target / "thesis.tex").write_text("...")
    refused(source, target, match="not empty")
    refused(source, source, match="is the source")
    refused(source, source / "packed", match="inside")
    refused(source, tmp_path, match="around it")
    one_file(tmp_path / "jets.npz")
    refused(tmp_path / "jets.npz", tmp_path / "jets.npz", match="is the source")
    (tmp_path / "taken.h5").write_text("...")
    refused(tmp_path / "jets.npz", tmp_path / "taken.h5", match="exists")
    refused(tmp_path / "jets.npz", target, match="exists")
    (tmp_path / "link.npz").symlink_to(tmp_path / "jets.npz")
    refused(tmp_path / "jets.npz", tmp_path / "link.npz", match="is the source")


def test_two_at_once_are_refused(source, tmp_path):
    target = tmp_path / "target"
    target.mkdir()
    descriptor = os.open(target, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        refused(source, target, match="another conversion writes here")
    finally:
        os.close(descriptor)
    convert([str(source), str(target)])


def test_a_broken_manifest(source, tmp_path):
    target = tmp_path / "target"
    convert([str(source), str(target)])
    for text in ("{", "[]", '{"options": 1, "files": 2}', '{"options": {}, "files": {"a": []}}'):
        (target / "MANIFEST").write_text(text)
        refused(source, target, match="MANIFEST")


def test_a_source_that_changes_meanwhile(source, tmp_path, monkeypatch):
    from data.formats import quark_gluon

    original = quark_gluon.read_file

    def read_file(file, *arguments):
        jets = original(file, *arguments)
        write_quark_gluon(file, 40, 9)
        return jets

    monkeypatch.setattr(quark_gluon, "read_file", read_file)
    refused(source, tmp_path / "target", match="QG_jets.npz: was changed or removed while")


def test_full_disk(source, tmp_path):
    """The limit on file sizes stands in for it."""
    script = (
        "import resource, signal, sys\n"
        "from data.convert import main\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))\n"
        "main(sys.argv[1:])\n"
    )
    command = [sys.executable, "-c", script, str(source), str(tmp_path / "target")]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: ") and "QG_jets.h5: File too large" in line
    assert not [f for f in (tmp_path / "target").rglob("*") if f.is_file() and f.name[0] == "."]
    convert([str(source), str(tmp_path / "target")])


def test_packed_files_are_the_same_bytes(source, tmp_path):
    jets = read_jets(source, "train")
    for compress in (False, True):
        files = [tmp_path / f"{compress}{number}" for number in range(2)]
        for file in files:
            packed.write(file, {"train": jets}, {"seed": 1}, compress=compress)
            time.sleep(1.1 if file is files[0] else 0)  # times in HDF5 are in seconds
        assert files[0].read_bytes() == files[1].read_bytes()


def test_a_folder_of_other_names_is_read_again_when_it_changed(tmp_path, monkeypatch):
    """As a format of somebody's own may have it."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "jets.txt").write_text("1")

    class Own:
        NAME = "own"

        def read(path, split, limit=None):
            momenta, labels = random_jets(5, int((path / "jets.txt").read_text()))
            return Jets(momenta[:, 0], np.arange(6), labels, split, ("light", "top"))

    monkeypatch.setattr(conversion, "find_format", lambda source: Format(Own))
    source, target = tmp_path / "source", tmp_path / "jets.h5"
    assert conversion.convert(source, target) == 15 and conversion.convert(source, target) == 0
    (source / "jets.txt").write_text("2")
    assert conversion.convert(source, target) == 15


@pytest.mark.slow(minutes=1)
@pytest.mark.parametrize("compress", [False, True])
def test_killed_at_random(tmp_path, compress):
    """SIGKILL from outside, twice in a row, at random moments."""
    pytest.importorskip("uproot")
    source = tmp_path / "source"
    for number, place in enumerate(["train_100M/a", "train_100M/b", "val_5M/a", "test_20M/a"]):
        # Either conversion takes some seconds.
        particles = random_particles(800 if compress else 4000, number, most=60)
        write_root(source / f"{place}.root", particles, CLASSES[number], CLASSES)
    options = ["--compress"] if compress else []
    command = [sys.executable, "-m", "data.convert", str(source)]
    expected_target = tmp_path / "undisturbed" / "target"
    start = time.monotonic()
    subprocess.run([*command, str(expected_target), *options], cwd=ROOT, check=True)
    duration = time.monotonic() - start
    expected = contents(expected_target)
    moments = random.Random(1)
    killed = 0
    for _ in range(3):
        target = tmp_path / "killed" / "target"
        for _ in range(2):
            process = subprocess.Popen(
                [*command, str(target), *options], cwd=ROOT, stdout=subprocess.DEVNULL
            )
            time.sleep(duration * moments.uniform(0.3, 1.0))
            process.send_signal(signal.SIGKILL)
            killed += process.wait() == -signal.SIGKILL
        subprocess.run([*command, str(target), *options], cwd=ROOT, check=True)
        assert contents(target) == expected
        shutil.rmtree(target.parent)
    assert killed >= 3


def test_without_a_manifest_of_an_older_version(source, tmp_path):
    """Converted folders of before checksums and manifests are still read."""
    import h5py

    target = tmp_path / "target"
    convert([str(source), str(target)])
    (target / "MANIFEST").unlink()
    expected = read_jets(target, "train")
    for file in target.rglob("*.h5"):
        with h5py.File(file, "r+") as opened:
            opened.attrs["version"] = 2
            size = opened.id.get_filesize()
        os.truncate(file, size)
    found = read_jets(target, "train")
    assert np.array_equal(found.constituents, expected.constituents)
    refused(source, target, match="not empty")


def test_checksums_are_needed(source, tmp_path):
    jets = read_jets(source, "train")
    path = tmp_path / "jets.h5"
    packed.write(path, {"train": jets}, {})
    os.truncate(path, path.stat().st_size - 4)
    with pytest.raises(DataError, match="has no checksums.*version 2.*docs/data.md"):
        find_format(path).read(path, "train")


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_nothing_is_left_of_a_refused_source(source, tmp_path, kind):
    """Not even folders that were made for it; what was done before a damaged file stays."""
    if kind == "file":
        shutil.rmtree(source)
        one_file(tmp_path / "source.npz")
        source = tmp_path / "source.npz"
        damaged = [source]
    else:
        damaged = sorted(source.iterdir())
    for file in damaged:
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 0xFF
        file.write_bytes(content)
    before = sorted(tmp_path.rglob("*"))
    refused(source, tmp_path / "new" / "deep" / "target", match="error")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_second_conversion_says_that_nothing_is_to_do(source, tmp_path, capsys):
    convert([str(source), str(tmp_path / "target")])
    assert "jets written" in capsys.readouterr().out
    convert([str(source), str(tmp_path / "target")])
    assert "up to date, nothing to do" in capsys.readouterr().out
