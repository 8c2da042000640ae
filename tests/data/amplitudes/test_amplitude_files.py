"""Files of amplitudes: written, read back, and refused in one line where they are none."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest

from data.amplitudes import files, phase_space
from data.amplitudes.processes import PROCESSES, Events, generate
from data.errors import DataError
from data.rows import Rows
from support.commands import module

PROCESS = PROCESSES["zg"]


@pytest.fixture(scope="module")
def events():
    (found,) = generate(PROCESS, 40, 1, (500.0, 1500.0), phase_space.Cuts())
    return found


def written(folder, events, types=PROCESS.types, masses=PROCESS.masses):
    path = folder / "zg.h5"
    files.write(path, {"train": events, "test": events}, "zg", types, masses, {"seed": 1})
    return path


def test_what_is_written_is_read(tmp_path, events):
    path = written(tmp_path, events)
    found = files.read(path, "train")
    assert np.array_equal(found.momenta, events.momenta)
    assert np.array_equal(found.amplitudes, events.amplitudes)
    assert (found.types, found.masses) == (PROCESS.types, PROCESS.masses)
    assert np.array_equal(files.read(path, "test", 7).momenta, events.momenta[:7])
    with h5py.File(path) as file:  # as others read it
        assert file["train/momenta"].attrs["unit"] == "GeV" and file.attrs["process"] == "zg"


def test_rows_of_numbers(tmp_path, events):
    """As in the public data sets, also in single precision."""
    rows = np.concatenate([events.momenta.reshape(40, 16), events.amplitudes[:, None]], axis=1)
    np.save(tmp_path / "zg.npy", rows.astype(np.float32))
    kinds = {"types": PROCESS.types, "masses": PROCESS.masses}
    chosen = lambda count: slice(10, count)  # noqa: E731
    with h5py.File(tmp_path / "amplitudes.hdf5", "w") as file:
        file["zg"] = rows
    for place in (Rows(tmp_path / "zg.npy"), Rows(tmp_path / "amplitudes.hdf5", "zg")):
        found = files.read_rows(place, **kinds, chosen=chosen)
        np.testing.assert_allclose(found.momenta, events.momenta[10:], rtol=1e-5, atol=1e-2)
        assert found.momenta.dtype == found.amplitudes.dtype == np.float64
    with pytest.raises(DataError, match="neither a file of"):
        files.read(tmp_path / "zg.npy", "train")
    with pytest.raises(DataError, match=r"give data\.table, one of zg$"):
        files.read(tmp_path / "amplitudes.hdf5", "train")
    with pytest.raises(DataError, match="rows of 21 floating-point"):
        files.read_rows(Rows(tmp_path / "zg.npy"), [0] * 5, [0.0] * 5)
    np.save(tmp_path / "objects.npy", np.array([{}] * 3, dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="objects.npy: "):
        files.read_rows(Rows(tmp_path / "objects.npy"), **kinds)
    rows[20, -1] = -1
    np.save(tmp_path / "zg.npy", rows)
    with pytest.raises(DataError, match="event 20 has an amplitude that is not positive"):
        files.read_rows(Rows(tmp_path / "zg.npy"), **kinds, chosen=chosen)


def change(momenta, amplitudes, what):
    momenta, amplitudes = momenta.copy(), amplitudes.copy()
    if what == "energy":
        momenta[3, 0, 0] *= -1
    elif what == "amplitude":
        amplitudes[3] = 0.0
    elif what == "momentum":
        momenta[3, 3] *= 2
    elif what == "mass":
        momenta[3, 2:, 0] = momenta[3, 2:, 0][::-1] + [1.0, -1.0]
    elif what == "nan":
        momenta[3, 1, 2] = np.nan
    elif what == "infinite":
        amplitudes[3] = np.inf
    return Events(momenta, amplitudes)


WRONG = {
    "energy": "event 3 has a negative energy",
    "amplitude": "event 3 has an amplitude that is not positive",
    "momentum": "event 3 does not conserve momentum",
    "mass": "event 3 has particles that are not on shell; check the masses",
    "nan": "event 3 holds numbers that are not finite",
    "infinite": "event 3 holds numbers that are not finite",
}


@pytest.mark.parametrize("what", WRONG)
def test_events_that_are_none(tmp_path, events, what):
    path = written(tmp_path, change(*events, what))
    with pytest.raises(DataError, match=WRONG[what]):
        files.read(path, "train")


@pytest.mark.parametrize(
    ("types", "masses", "words"),
    [
        ((0, 0, 1), PROCESS.masses, "belong to 3 types"),
        (PROCESS.types, (0.0, 0.0, 0.0), "3 masses; there is one of each"),
        (PROCESS.types, (0.0, 0.0, 80.4, 0.0), "not on shell"),
    ],
)
def test_particles_that_do_not_fit(tmp_path, events, types, masses, words):
    with pytest.raises(DataError, match=words):
        files.read(written(tmp_path, events, types, masses), "train")


@pytest.mark.parametrize("value", ["[1, 2", "{}", '["a"]', "[true]", 3])
def test_attributes_of_others(tmp_path, events, value):
    path = written(tmp_path, events)
    content = h5py.File(path, "r")
    momenta, amplitudes = content["train/momenta"][:], content["train/amplitudes"][:]
    content.close()
    with h5py.File(tmp_path / "theirs.h5", "w") as file:
        file.attrs.update({"format": files.MARK, "types": value, "masses": "[0, 0, 0, 0]"})
        file["train/momenta"], file["train/amplitudes"] = momenta, amplitudes
    with pytest.raises(DataError, match="attribute types must be a JSON list of numbers"):
        files.read(tmp_path / "theirs.h5", "train")


def test_files_without_events(tmp_path, events):
    nothing = Events(events.momenta[:0], events.amplitudes[:0])
    with pytest.raises(DataError, match="holds no events"):
        files.read(written(tmp_path, nothing), "train")
    np.save(tmp_path / "rows.npy", np.zeros((0, 17)))
    with pytest.raises(DataError, match="holds no events"):
        files.read_rows(Rows(tmp_path / "rows.npy"), [0] * 4, [0.0] * 4)


def test_damaged_files(tmp_path, events):
    path = written(tmp_path, events)
    content = bytearray(path.read_bytes())
    place = content.find(events.momenta[20].tobytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"zg.h5: .*damaged|checksum"):
        files.read(path, "train")
    for cut in (100, 3000, len(content) - 100):
        path.write_bytes(content[:cut])
        with pytest.raises(DataError, match="zg.h5: "):
            files.read(path, "train")
    with pytest.raises(DataError, match="no such file"):
        files.read(tmp_path / "nothing.h5", "train")
    (tmp_path / "text.txt").write_text("1 2 3")
    with pytest.raises(DataError, match="neither a file of"):
        files.read(tmp_path / "text.txt", "train")


def test_the_command(tmp_path):
    out = tmp_path / "gggg.h5"
    options = ("amplitudes", "--process", "gggg", "--events", "100", "--out", str(out))
    done = module("data.generate", *options)
    assert done.returncode == 0 and "80 train, 10 val, 10 test events" in done.stdout, done.stderr
    assert files.read(out, "val").momenta.shape == (10, 4, 4)
    with h5py.File(out) as file:
        assert json.loads(file.attrs["types"]) == [0] * 4
    before = out.read_bytes()
    done = module("data.generate", *options, "--overwrite")
    assert done.returncode == 0 and out.read_bytes() == before


@pytest.mark.slow
def test_a_file_that_exists(tmp_path):
    out = tmp_path / "gggg.h5"
    out.write_text("mine")
    options = ("amplitudes", "--process", "gggg", "--events", "100", "--out", str(out))
    done = module("data.generate", *options)
    assert done.returncode == 2 and "exists; choose another name" in done.stderr
    assert out.read_text() == "mine"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--pt", "800"), "none of 1,000,000 events passes the cuts"),
        (("--energy", "20", "30", "--process", "zg"), "is not above the masses"),
        (("--energy", "nan", "30"), "--energy needs two energies"),
        (("--events", "3"), "--events must be at least 30"),
        (("--process", "higgs"), "invalid choice"),
        (("--split", "1", "0", "0"), "--split needs three"),
        (("--pt", "-1"), "0 or more"),
    ],
)
def test_options_that_cannot_be(tmp_path, options, words):
    out = tmp_path / "out.h5"
    common = ("amplitudes", "--process", "gggg", "--events", "100", "--out", str(out))
    done = module("data.generate", *common, *options)
    assert done.returncode != 0 and words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert not list(tmp_path.iterdir())
