"""A digest changes with any value, and with nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from data import identity
from data.formats import packed, read_jets
from data.identity import PIECE, digest_of_jets, digests_of_files
from data.jets import Jets


@pytest.fixture
def jets():
    rng = np.random.default_rng(3)
    lengths = rng.integers(1, 30, 200)
    count = int(lengths.sum())
    momenta = rng.normal(size=(count, 3)).astype(np.float32)
    energy = np.linalg.norm(momenta, axis=1, keepdims=True) + 1
    return Jets(
        np.concatenate([energy, momenta], axis=1),
        np.concatenate([[0], np.cumsum(lengths)]),
        rng.integers(0, 3, 200),
        "here",
        ("a", "b", "c"),
        {"charge": rng.integers(-1, 2, count).astype(np.float32)},
        {"mass": rng.random(200, dtype=np.float32)},
    )


def with_one_value_changed(jets, name, place):
    """One number of a column, or of a column of columns, made another."""
    own, _, inner = name.partition("/")
    column = getattr(jets, own)
    values = np.array(column[inner] if inner else column)
    flat = values.reshape(-1)
    flat[place] = flat[place] + 1
    return replace(jets, **{own: {**column, inner: values} if inner else values})


@pytest.mark.parametrize(
    "name", ["constituents", "offsets", "labels", "particles/charge", "jets/mass"]
)
@pytest.mark.parametrize("place", [1, 77, -2])
def test_any_value_counts(jets, name, place):
    assert digest_of_jets(with_one_value_changed(jets, name, place)) != digest_of_jets(jets)


def test_names_and_order_count(jets):
    turned = jets.select(np.arange(len(jets))[::-1])
    others = (
        turned,
        replace(jets, classes=("a", "c", "b")),
        replace(jets, particles={"d0": jets.particles["charge"]}),
        replace(jets, particles={}, jets={**jets.jets, "charge": jets.jets["mass"]}),
    )
    found = {digest_of_jets(other) for other in (jets, *others)}
    assert len(found) == 1 + len(others)


def test_the_file_does_not_count(jets, tmp_path):
    for name, compress in (("plain", False), ("small", True)):
        packed.write(tmp_path / f"{name}.h5", {"train": jets}, {}, compress=compress)
        found = read_jets(tmp_path / f"{name}.h5", "train")
        assert digest_of_jets(found) == digest_of_jets(jets)
    columns = replace(jets, constituents=np.asfortranarray(jets.constituents), source="there")
    assert digest_of_jets(columns) == digest_of_jets(jets)


def test_large_samples_are_compared_in_pieces(jets, monkeypatch):
    monkeypatch.setattr(identity, "MOST_BYTES", 4 * PIECE)
    large = jets.select(np.tile(np.arange(len(jets)), 20))
    assert large.constituents.nbytes > 5 * PIECE
    whole = digest_of_jets(large)
    for place in (0, -1):
        assert digest_of_jets(with_one_value_changed(large, "constituents", place)) != whole
    assert digest_of_jets(large.select(np.arange(len(large) - 1))) != whole


@pytest.mark.parametrize("size", [0, 1, PIECE, 5 * PIECE, 5 * PIECE + 1, 40 * PIECE + 13])
def test_places_lie_apart_from_first_to_last(size):
    places = list(identity._places(size, 5))
    assert places[0][0] == 0 and places[-1][1] == size and len(places) in (1, 5)
    assert all(stop <= start for (_, stop), (start, _) in zip(places, places[1:], strict=False))
    assert sum(stop - start for start, stop in places) == min(size, 5 * PIECE)


@pytest.fixture
def files(tmp_path):
    """Two equal files of twenty pieces."""
    content = np.random.default_rng(1).bytes(20 * PIECE)
    found = [tmp_path / "train" / "one", tmp_path / "train" / "two"]
    found[0].parent.mkdir()
    for file in found:
        file.write_bytes(content)
    return found


def change(file, place):
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("place", [0, 7 * PIECE + 5, -1])
def test_any_byte_of_small_files_counts(files, tmp_path, place):
    before = digests_of_files(files, tmp_path, {})
    assert list(before) == ["train/one", "train/two"]
    assert len(set(before.values())) == 1 and before["train/one"].startswith("0:")
    change(files[1], place)
    after = digests_of_files(files, tmp_path, before)
    assert [name for name in before if before[name] != after[name]] == ["train/two"]


@pytest.mark.parametrize("place", [0, 10 * PIECE, -1])
def test_pieces_of_large_files_count(files, tmp_path, place, monkeypatch):
    monkeypatch.setattr(identity, "MOST_BYTES", 10 * PIECE)
    before = digests_of_files(files, tmp_path, {})
    assert before["train/one"].startswith("5:")
    change(files[1], place)
    after = digests_of_files(files, tmp_path, before)
    assert [name for name in before if before[name] != after[name]] == ["train/two"]


def test_files_are_compared_as_noted(files, tmp_path, monkeypatch):
    """How much of each is read depends on all of them, of which some may be gone."""
    noted = digests_of_files(files, tmp_path, {})
    monkeypatch.setattr(identity, "MOST_BYTES", 10 * PIECE)
    assert digests_of_files(files[:1], tmp_path, noted) == {"train/one": noted["train/one"]}
    files[0].write_bytes(files[0].read_bytes() + b"more")
    assert digests_of_files(files, tmp_path, noted)["train/one"] != noted["train/one"]


def test_a_folder_may_be_moved(files, tmp_path):
    before = digests_of_files(files, tmp_path, {})
    moved = tmp_path.rename(tmp_path.with_name("moved"))
    there = [moved / file.relative_to(tmp_path) for file in files]
    assert digests_of_files(there, moved, before) == before
