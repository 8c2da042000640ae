"""Jets of described files, which the field's libraries wrote, in every kind of file."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from data.described.description import described
from data.described.reader import Reader
from data.errors import DataError
from data.reading import reading

ak = pytest.importorskip("awkward")
uproot = pytest.importorskip("uproot")
pq = pytest.importorskip("pyarrow.parquet")

JETS, MOST = 30, 6
RANDOM = np.random.default_rng(3)
LENGTHS = RANDOM.integers(1, MOST + 1, JETS)
TOTAL = int(LENGTHS.sum())
PT, ETA, PHI = (
    RANDOM.uniform(1, 90, TOTAL),
    RANDOM.normal(0, 1, TOTAL),
    RANDOM.uniform(-3, 3, TOTAL),
)
MASS = RANDOM.choice([0.0, 0.13957, 0.49], TOTAL)
PX, PY, PZ = PT * np.cos(PHI), PT * np.sin(PHI), PT * np.sinh(ETA)
ENERGY = np.sqrt(PX**2 + PY**2 + PZ**2 + MASS**2)
CHARGE = RANDOM.integers(-1, 2, TOTAL)
LABEL = np.arange(JETS) % 3
JET_PT = RANDOM.uniform(400, 900, JETS).astype(np.float32)
EVENT = 2**53 + 1 + np.arange(JETS, dtype=np.int64)
COLUMNS = {
    "pt": PT, "eta": ETA, "phi": PHI, "mass": MASS, "px": PX, "py": PY, "pz": PZ, "energy": ENERGY,
    "charge": CHARGE,
}  # fmt: skip
FLAT = {"label": LABEL, "jet_pt": JET_PT, "event": EVENT}
DOT = {"hdf5": {"part_": "parts.", "": "jets."}, "padded": {"part_": "part_", "": ""}}


def jagged(values):
    return ak.unflatten(values, LENGTHS)


def padded(values, fill=0):
    found = np.full((JETS, MOST), fill, np.asarray(values).dtype)
    found[np.arange(MOST) < LENGTHS[:, None]] = values
    return found


def write_root(path):
    branches = {f"part_{name}": jagged(values) for name, values in COLUMNS.items()}
    branches |= FLAT
    with uproot.recreate(path) as file:
        types = {n: v.type if hasattr(v, "layout") else v.dtype for n, v in branches.items()}
        file.mktree("tree", types)
        file["tree"].extend(branches)


def write_parquet(path):
    arrays = {f"part_{name}": jagged(values) for name, values in COLUMNS.items()}
    ak.to_parquet(ak.zip(arrays | FLAT, depth_limit=1), path, row_group_size=7)


def write_npz(path):
    np.savez_compressed(path, **{f"part_{n}": padded(v) for n, v in COLUMNS.items()}, **FLAT)


def write_hdf5(path):
    """Records of jets and of particles, as programs of ATLAS write them; padding is not zero."""
    particles = np.zeros((JETS, MOST), [*((n, "f8") for n in COLUMNS), ("valid", "?")])
    for name, values in COLUMNS.items():
        particles[name] = padded(values, -1)
    particles["valid"] = padded(np.ones(TOTAL, bool), False)
    jets = np.zeros(JETS, [(n, v.dtype) for n, v in FLAT.items()])
    for name, values in FLAT.items():
        jets[name] = values
    with h5py.File(path, "w") as file:
        file.create_dataset("jets", data=jets, compression="gzip", chunks=(8,))
        file.create_dataset("parts", data=particles, compression="gzip", chunks=(8, MOST))
        file["notes/count"] = np.arange(3)


WRITE = {"root": write_root, "parquet": write_parquet, "npz": write_npz, "hdf5": write_hdf5}
MOMENTA = [
    ("energy", "px", "py", "pz"), ("mass", "px", "py", "pz"), ("pt", "eta", "phi", "mass"),
    ("pt", "eta", "phi", "energy"),
]  # fmt: skip


@pytest.fixture(params=WRITE)
def kind(request):
    return request.param


@pytest.fixture
def path(kind, tmp_path):
    path = tmp_path / f"top_1.{kind}"
    WRITE[kind](path)
    return path


def reader_of(kind, momenta=MOMENTA[0], labelled=True, **changed):
    """A description, in the names that a kind of file has."""
    part, jet = ("parts.", "jets.") if kind == "hdf5" else ("part_", "")
    plain = {
        "momenta": {name: f"{part}{name}" for name in momenta},
        "particles": {"charge": f"{part}charge", "hard": f"{part}pt > 30"},
        "jets": {"pt": f"{jet}jet_pt"},
        "classes": {"a": f"{jet}label == 0", "b": f"{jet}label > 0"},
        **({"keep": "parts.valid"} if kind == "hdf5" else {}),
        **{k: v.replace("PART_", part).replace("JET_", jet) for k, v in changed.items()},
    }
    return Reader(described(plain), labelled)


@pytest.mark.parametrize("momenta", MOMENTA, ids="-".join)
def test_the_same_jets_of_every_kind(kind, path, momenta):
    reader = reader_of(kind, momenta)
    assert reader.count(path) == JETS
    jets = reader.jets(path, 0, JETS)
    jets.check()
    assert np.array_equal(jets.lengths, LENGTHS) and jets.constituents.dtype == np.float32
    expected = np.stack([ENERGY, PX, PY, PZ], axis=1)
    np.testing.assert_allclose(jets.constituents, expected, rtol=1e-6, atol=1e-5)
    assert jets.classes == ("a", "b") and np.array_equal(jets.labels, LABEL > 0)
    assert np.array_equal(jets.particles["charge"], CHARGE)
    assert np.array_equal(jets.particles["hard"], PT > 30)
    assert np.array_equal(jets.jets["pt"], JET_PT)
    part = reader.jets(path, 11, 19)
    assert np.array_equal(part.constituents, jets.select(np.arange(11, 19)).constituents)
    assert len(reader.jets(path, 28, 99)) == 2 and len(reader.jets(path, 30, 31)) == 0


def test_units_and_massless_particles(kind, path):
    jets = reader_of(kind, ("pt", "eta", "phi"), unit="MeV").jets(path, 0, JETS)
    expected = 1e-3 * np.stack([PT * np.cosh(ETA), PX, PY, PZ], axis=1)
    np.testing.assert_allclose(jets.constituents, expected, rtol=1e-6, atol=1e-7)


def test_selections(kind, path):
    keep = "PART_charge != 0" + (" and PART_valid" if kind == "hdf5" else "")
    reader = reader_of(kind, select="JET_jet_pt > 600", keep=keep)
    wanted = np.flatnonzero(JET_PT > 600)
    assert reader.count(path) == len(wanted)
    jets = reader.jets(path, 0, len(wanted))
    assert np.array_equal(jets.jets["pt"], JET_PT[wanted])
    charged = ak.sum(jagged(CHARGE != 0), axis=1).to_numpy()
    assert np.array_equal(jets.lengths, charged[wanted])
    part = reader.jets(path, 3, 7)
    assert np.array_equal(part.jets["pt"], JET_PT[wanted[3:7]])


def test_values_of_any_kind_are_kept(kind, path):
    """Numbers of events are larger than single precision can tell."""
    name = "jets.event" if kind == "hdf5" else "event"
    assert name in reader_of(kind).fields(path)
    found = reader_of(kind, select="JET_label == 2").values(path, [name], 0, 5)[name]
    assert np.array_equal(found, EVENT[LABEL == 2][:5]) and found.layout.dtype == np.int64


def test_classes(kind, path):
    label = "jets.label" if kind == "hdf5" else "label"
    two = {"a": f"{label} == 0", "b": f"{label} == 1"}
    with pytest.raises(DataError, match=r"top_1\..*: jet 2 is of no class"):
        Reader(described({**plain(kind), "classes": two})).jets(path, 0, JETS)
    reader = Reader(described({**plain(kind), "classes": two, "unclassified": "drop"}))
    assert np.array_equal(reader.jets(path, 0, 99).labels, LABEL[LABEL < 2])
    unlabelled = Reader(described({**plain(kind), "classes": two}), labelled=False)
    assert unlabelled.count(path) == len(unlabelled.jets(path, 0, 99)) == JETS
    named = {"QCD": {"file": "qcd_*"}, "top": {"file": "top_*"}}
    jets = Reader(described({**plain(kind), "classes": named})).jets(path, 0, 5)
    assert jets.labels.tolist() == [1] * 5
    both = {"a": f"{label} >= 0", "b": f"{label} > 1"}
    with pytest.raises(DataError, match="jet 2 is of a and b"):
        Reader(described({**plain(kind), "classes": both})).jets(path, 0, JETS)
    with pytest.raises(DataError, match=r"classes.b: .* is 2.0 for jet 2, where 0 or 1"):
        numbers = {"a": f"{label} == 0", "b": label}
        Reader(described({**plain(kind), "classes": numbers})).jets(path, 0, JETS)


def plain(kind):
    part = "parts." if kind == "hdf5" else "part_"
    keep = {"keep": "parts.valid"} if kind == "hdf5" else {}
    return {"momenta": {name: f"{part}{name}" for name in MOMENTA[0]}, **keep}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"jets": {"x": "nothing"}}, "nothing"),
        ({"jets": {"x": "PART_pt"}}, "jets.x: .*where a number for each jet is wanted"),
        ({"momenta": {n: f"JET_{n}" for n in ("label", "px")}}, "momenta: has label, px"),
        (
            {"momenta": {"energy": "JET_label", **{n: f"PART_{n}" for n in ("px", "py", "pz")}}},
            "momenta.energy: 'JET_label', not a list of numbers",
        ),
        ({"select": "PART_pt > 3"}, "select: .*where a number for each jet is wanted"),
        ({"tree": "nowhere"}, "nowhere"),
    ],
)
def test_mistakes_are_named(kind, path, change, message):
    part, jet = ("parts.", "jets.") if kind == "hdf5" else ("part_", "")

    def named(value):
        if isinstance(value, dict):
            return {name: named(x) for name, x in value.items()}
        return value.replace("PART_", part).replace("JET_", jet)

    message = message.replace("JET_", jet)
    with pytest.raises((DataError, ValueError), match=message), reading(path):
        Reader(described({**plain(kind), **named(change)})).jets(path, 0, JETS)


@pytest.mark.parametrize("share", [0.002, 0.05, 0.5, 0.9])
def test_damaged_files(kind, path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match=path.name), reading(path):
        reader_of(kind).jets(path, 0, JETS)
