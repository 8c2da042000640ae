"""Whatever is wrong with a file of our own format is one line with its name."""

from __future__ import annotations

import json
import struct

import h5py
import numpy as np
import pytest

from data.errors import DataError
from data.formats import Format, packed, read_jets
from data.jets import Jets
from support.jetfiles import (
    random_jets,
    write_packed_by_hand,
)
from support.reading import refused


def by_hand(tmp_path, match, attributes=(), **replace):
    path = tmp_path / "bad.h5"
    momenta, labels = random_jets(6, 1)
    write_packed_by_hand(path, momenta, labels, **replace)
    with h5py.File(path, "r+") as file:
        file.attrs.update(dict(attributes))
    refused(path, match)


class TestPacked:
    @pytest.mark.parametrize(
        ("labels", "match"),
        [
            (np.array([0.0, 0.5, 1, 1, 0, 0]), "jet 1 has label 0.5"),
            (np.array([0, np.nan, 1, 1, 0, 0]), "jet 1 has label nan"),
            (np.zeros((6, 2)), r"labels have shape \(6, 2\)"),
            (np.int64(1), r"labels have shape \(\)"),
            (np.array([b"top"] * 6), "expected numbers"),
            (np.array([0, 1, -1, 1, 0, 1]), "jet 2 has label -1"),
            (np.array([0, 1]), "7 offsets for 2 labels"),
            (np.zeros(0, dtype=int), "7 offsets for 0 labels"),
            (h5py.Empty("i4"), "has no shape"),
        ],
        ids=str,
    )
    def test_labels(self, tmp_path, labels, match):
        by_hand(tmp_path, match, labels=labels)

    def test_whole_numbers_of_any_type_are_labels(self, tmp_path):
        path = tmp_path / "x.h5"
        momenta, labels = random_jets(6, 1)
        for dtype in ("f4", ">i2", "?", "u8"):
            write_packed_by_hand(path, momenta, labels, labels=labels.astype(dtype))
            assert read_jets(path, "train").labels.tolist() == labels.tolist()

    @pytest.mark.parametrize(
        ("replace", "match"),
        [
            ({"offsets": np.arange(7)[::-1]}, "offsets must"),
            ({"offsets": np.full(7, -3)}, "offsets must"),
            ({"offsets": np.linspace(0, 9, 7)}, "offsets must be whole"),
            ({"offsets": np.zeros((7, 1), int)}, "expected 1 axes"),
            ({"offsets": np.array([0, 1, 2])}, "3 offsets for 6 labels"),
            ({"constituents": np.ones(99, "f4")}, "expected 2 axes"),
            ({"constituents": np.ones((99, 3), "f4")}, r"expected \(N, 4\)"),
            ({"constituents": np.array([[b"a"] * 4] * 99)}, "expected numbers"),
            ({"constituents": np.ones((99, 4), "c8")}, "expected numbers"),
        ],
        ids=lambda v: next(iter(v)) if isinstance(v, dict) else None,
    )
    def test_arrays(self, tmp_path, replace, match):
        by_hand(tmp_path, match, **replace)

    @pytest.mark.parametrize(
        ("classes", "match"),
        [
            ('["top", "top"]', "classes are top, top"),
            ('["top"]', "two or more"),
            ("[]", "two or more"),
            ('{"top": 1}', "must be text with a JSON list"),
            ("[1, 2]", "must be text with a JSON list"),
            ("[", "must be text with a JSON list"),
            (7, "must be text with a JSON list"),
            ("[" * 100_000, "must be text with a JSON list"),
            (json.dumps(["a\x1b[31m", "a\x1b[31m"]), "a.*31m, a.*31m"),
        ],
        ids=lambda value: str(value)[:20],
    )
    def test_classes(self, tmp_path, classes, match):
        by_hand(tmp_path, match, {"classes": classes})

    def test_other_byte_order_and_precision(self, tmp_path):
        path = tmp_path / "x.h5"
        momenta, labels = random_jets(6, 1)
        real = momenta[momenta[..., 0] > 0]
        for dtype in (">f4", "<f8", ">f8"):
            write_packed_by_hand(path, momenta, labels, constituents=real.astype(dtype))
            assert np.array_equal(read_jets(path, "train").constituents, real)

    @pytest.mark.parametrize("name", ["constituents", "offsets", "labels"])
    @pytest.mark.parametrize("kind", ["group", "missing", "external", "virtual", "link", "type"])
    def test_other_things_than_data_sets(self, tmp_path, name, kind):
        path = tmp_path / "x.h5"
        write_packed_by_hand(path, *random_jets(6, 1))
        with h5py.File(path, "r+") as file:
            shape, dtype = file["train"][name].shape, file["train"][name].dtype
            del file["train"][name]
            place = f"train/{name}"
            if kind == "group":
                file.create_group(place)
            elif kind == "external":
                file.create_dataset(place, shape, dtype, external=[("/etc/passwd", 0, 9999)])
            elif kind == "virtual":
                file.create_virtual_dataset(place, h5py.VirtualLayout(shape, dtype))
            elif kind == "link":
                file[place] = h5py.ExternalLink("/etc/hostname", "x")
            elif kind == "type":
                file[place] = np.dtype("f4")
        refused(path, name)

    @pytest.mark.parametrize("where", ["train", "train/particles", "train/jets"])
    def test_data_sets_where_groups_are_expected(self, tmp_path, where):
        path = tmp_path / "x.h5"
        write_packed_by_hand(path, *random_jets(6, 1))
        with h5py.File(path, "r+") as file:
            if where in file:
                del file[where]
            file[where] = np.arange(6)
        refused(path, "is not a group")

    def test_a_column_of_another_length(self, tmp_path):
        path = tmp_path / "x.h5"
        write_packed_by_hand(path, *random_jets(6, 1))
        with h5py.File(path, "r+") as file:
            file["train/particles/charge"] = np.zeros(3, "f4")
        refused(path, r"particles/charge has shape \(3,\)")

    def test_sizes_that_cannot_be_true(self, tmp_path):
        path = tmp_path / "x.h5"
        write_packed_by_hand(path, *random_jets(6, 1))
        for options in (
            {"shape": (10**12,)},
            {"shape": (10**12,), "chunks": (1000,)},
            {"shape": (10**6,), "chunks": (1000,), "compression": "gzip"},
            {"shape": (10**8,), "chunks": (10**8,), "compression": "gzip"},
        ):
            with h5py.File(path, "r+") as file:
                del file["train/labels"]
                file.create_dataset("train/labels", dtype="i8", **options)
            refused(path, "labels (declares|has|is in chunks)")

    @pytest.mark.parametrize("compress", [False, True])
    def test_each_byte_of_the_numbers_has_a_checksum(self, tmp_path, compress):
        path = tmp_path / "x.h5"
        momenta, labels = random_jets(200, 1)
        real = momenta[..., 0] > 0
        offsets = np.concatenate([[0], real.sum(1).cumsum()])
        packed.write(
            path, {"train": Jets(momenta[real], offsets, labels, "x")}, {}, compress=compress
        )
        content = path.read_bytes()
        for place in range(0, len(content), 487):
            path.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
            refused(path, "checksum|known format|damaged")

    def test_parts_are_verified_too(self, tmp_path):
        path = tmp_path / "x.h5"
        momenta = np.zeros((100_000, 4), "f4")
        momenta[:, 0] = 1
        jets = Jets(momenta, np.arange(100_001), np.arange(100_000) % 2, "x")
        packed.write(path, {"train": jets}, {}, compress=False)
        with h5py.File(path) as file:
            start = file["train/constituents"].id.get_offset()
        with open(path, "r+b") as file:
            file.seek(start + 16 * 50_000)
            file.write(struct.pack("<f", 2.0))
        form = Format(packed)
        assert len(form.read_file(path, "train", 0, 1000)) == 1000
        assert len(form.read_file(path, "train", 90_000, 91_000)) == 1000
        with pytest.raises(DataError, match="do not match their checksum"):
            form.read_file(path, "train", 49_000, 51_000)
