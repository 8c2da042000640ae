"""Names and targets of conversions: nothing of others is replaced, any name of a file will do."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys

import h5py
import numpy as np
import pytest

from data import convert as conversion
from data.atomic import write_text
from data.errors import DataError
from data.formats import find_format, packed, read_jets
from data.formats.registry import SPLITS
from data.jets import Jets
from data.streams import forgiving_streams
from support.jetfiles import random_jets, write_npz, write_quark_gluon


@pytest.fixture
def source(tmp_path):
    write_npz(tmp_path / "in.npz", {split: random_jets(12, i) for i, split in enumerate(SPLITS)})
    return tmp_path / "in.npz"


@pytest.mark.parametrize("suffix", ["", ".manifest", ".sha256"])
@pytest.mark.parametrize("kind", ["file", "folder", "broken link"])
def test_what_is_there_is_kept(source, suffix, kind, tmp_path, capsys):
    place = tmp_path / f"out.h5{suffix}"
    if kind == "file":
        place.write_text("mine")
    elif kind == "folder":
        place.mkdir()
    else:
        place.symlink_to("nowhere")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(SystemExit) as caught:
        conversion.main([str(source), str(tmp_path / "out.h5")])
    text = str(caught.value)
    assert text.startswith(f"error: {place}: ") and len(text.splitlines()) == 1
    assert sorted(tmp_path.iterdir()) == before
    assert kind != "file" or place.read_text() == "mine"


@pytest.mark.parametrize("content", ["mine", None])
def test_checksums_of_others_beside_a_conversion(source, content, tmp_path):
    sums = tmp_path / "out.h5.sha256"
    conversion.convert(source, tmp_path / "out.h5")
    before = sums.read_text()
    assert conversion.convert(source, tmp_path / "out.h5") == 0 and sums.read_text() == before
    sums.unlink()
    if content is None:
        sums.mkdir()
    else:
        sums.write_text(content)
    with pytest.raises(DataError, match="not as this conversion wrote it"):
        conversion.convert(source, tmp_path / "out.h5")
    assert content is None or sums.read_text() == content


NAMES = [b"\xe9", b"a\nb", b"a\\b", b"a\rb", "é".encode(), b"\xff\\\n"]


@pytest.mark.parametrize("name", NAMES)
def test_any_name_of_a_file(source, name, tmp_path):
    text = os.fsdecode(name)
    renamed = shutil.copy(source, tmp_path / f"{text}.npz")
    target = tmp_path / f"{text}.h5"
    assert conversion.convert(renamed, target) == 36
    check = ["sha256sum", "--check", "--strict", "--quiet", f"{target}.sha256"]
    subprocess.run(check, cwd=tmp_path, check=True)
    assert conversion.convert(renamed, target) == 0
    assert len(read_jets(target, "val")) == 12
    with h5py.File(target) as file:
        assert file.attrs["source"] == f"{text}.npz".encode("utf-8", "backslashreplace").decode()


@pytest.mark.parametrize("name", NAMES)
def test_any_name_of_a_file_in_a_folder(name, tmp_path):
    folder, target = tmp_path / os.fsdecode(name), tmp_path / f"to {os.fsdecode(name)}"
    folder.mkdir()
    write_quark_gluon(folder / f"QG_jets_{os.fsdecode(name)}.npz", 30, 1)
    assert conversion.convert(folder, target) == 30
    check = ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"]
    subprocess.run(check, cwd=target, check=True)
    assert conversion.convert(folder, target) == 0


def test_a_progress_bar_that_fails(source, tmp_path, monkeypatch):
    """As with ``> /dev/full``: the conversion is whole, and the output is told to be lost."""
    with open("/dev/full", "wb") as full:
        stream = io.TextIOWrapper(io.BufferedWriter(io.FileIO(full.fileno(), "w", closefd=False)))
        monkeypatch.setattr(sys, "stdout", stream)
        monkeypatch.setattr(sys, "__stdout__", stream)
        with pytest.raises(SystemExit, match="1"), forgiving_streams():
            conversion.main([str(source), str(tmp_path / "out.h5")])
        stream.detach()
    check = ["sha256sum", "--check", "--strict", "--quiet", "out.h5.sha256"]
    subprocess.run(check, cwd=tmp_path, check=True)


def test_text_of_any_name(tmp_path):
    write_text(tmp_path / "a.txt", "é\r\n\udce9\n")
    assert (tmp_path / "a.txt").read_bytes() == "é\r\n\\udce9\n".encode()


@pytest.mark.parametrize("name", ["\udce9", "a\0b", "a\nb"])
def test_classes_need_names_that_can_be_written(source, name):
    jets = read_jets(source, "train")
    named = Jets(jets.constituents, jets.offsets, jets.labels, "here", ("a", name))
    with pytest.raises(DataError, match="is no name that can be printed"):
        named.check()


def by_hand(source, path, **attributes):
    """A file of another program: version 2, with these attributes."""
    jets = read_jets(source, "train")
    with h5py.File(path, "w") as file:
        file.attrs.update({"format": packed.MARK, "version": 2, **attributes})
        group = file.create_group("train")
        for name in ("constituents", "offsets", "labels"):
            group[name] = getattr(jets, name)
    return path


@pytest.mark.parametrize("padding", [b"", b" " * 10, b"\0" * 10])
def test_texts_of_fixed_length(source, padding, tmp_path):
    texts = {"format": packed.MARK.encode(), "classes": b'["a", "b"]'}
    fixed = {name: np.bytes_(text + padding) for name, text in texts.items()}
    path = by_hand(source, tmp_path / "a.h5", **fixed)
    assert find_format(path).read(path, "train").classes == ("a", "b")


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("version", "2", "version must be a whole number, such as 2, not '2'"),
        ("version", 2.0, "version must be a whole number"),
        ("version", [2, 3], "version must be a whole number"),
        ("version", [2], "version must be a whole number"),
        ("classes", 5, "classes must be text with a JSON list of names"),
        ("classes", ["a", "b"], "classes must be text with a JSON list of names"),
        ("classes", "a, b", "classes must be text with a JSON list of names"),
        ("classes", "[1, 2]", "classes must be text with a JSON list of names"),
        ("classes", "[" * 30_000, "classes must be text with a JSON list of names"),
        ("format", 5, "format must be the text lgatr-packed-jets"),
        ("format", ["lgatr-packed-jets"], "format must be the text lgatr-packed-jets"),
    ],
)
def test_attributes_of_a_wrong_kind(source, name, value, wanted, tmp_path):
    path = tmp_path / "a.h5"
    by_hand(source, path)
    with h5py.File(path, "r+") as file:
        file.attrs[name] = value
    with pytest.raises(DataError) as caught:
        find_format(path).read(path, "train")
    text = str(caught.value)
    assert f"attribute {wanted}" in text and len(text.splitlines()) == 1 and len(text) < 400
