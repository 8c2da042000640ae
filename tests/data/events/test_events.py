"""Whole events: cuts, assignment of jets, detector, files."""

from __future__ import annotations

import json
import math
import sys
from types import ModuleType

import h5py
import numpy as np
import pytest

from data import generate
from data.errors import DataError
from data.events import command, files
from data.events.assignment import TOP_MASS, W_MASS, assign_tops
from data.events.final_state import Cuts, FinalState, mass_squared
from data.events.processes import detected, process_of
from data.rows import Rows
from support.commands import module

STATE = FinalState(("a", "b", "c"), (None, None, None), Cuts(20.0, 0.5, 4.0))


def jet(pt, eta, phi, mass=5.0):
    x, y, z = pt * math.cos(phi), pt * math.sin(phi), pt * math.sinh(eta)
    return [math.sqrt(mass**2 + x * x + y * y + z * z), x, y, z]


PASSING = [jet(30, 0, 0), jet(40, 1, 3), jet(50, -1, -3)]
FAILING = {
    "soft": [jet(19, 0, 0), jet(40, 1, 3), jet(50, -1, -3)],
    "forward": [jet(30, 4.1, 0), jet(40, 1, 3), jet(50, -1, -3)],
    "near": [jet(30, 0, 0), jet(40, 0.3, 0.3), jet(50, -1, -3)],
    "near across pi": [jet(30, 0, 0), jet(40, 0, 3.1), jet(50, 0, -3.1)],
}


def test_cuts():
    events = np.array([PASSING, *FAILING.values()])
    assert STATE.passed(events).tolist() == [True] + [False] * len(FAILING)
    muons = FinalState(("a", "b", "c"), (5.0, None, None), Cuts(20.0, 0.5, 4.0))
    assert muons.passed(events).tolist() == [True, True, True, True, False]


def two_body(mass, parent, cos, phi):
    """Two massless particles of a parent's decay, by an explicit boost."""
    size, sin = mass / 2, math.sqrt(1 - cos * cos)
    direction = np.array([sin * math.cos(phi), sin * math.sin(phi), cos])
    rest = [np.array([size, *(sign * size * direction)]) for sign in (1, -1)]
    velocity = parent[1:] / parent[0]
    gamma = 1 / math.sqrt(1 - velocity @ velocity)
    found = []
    for p in rest:
        along = velocity @ p[1:]
        energy = gamma * (p[0] + along)
        spatial = p[1:] + velocity * (gamma * p[0] + gamma**2 / (gamma + 1) * along)
        found.append(np.array([energy, *spatial]))
    return found


def test_tops_are_found():
    """Exact decays among two further jets, in any order of the jets."""
    random = np.random.default_rng(0)
    for _ in range(20):
        w_energy = (TOP_MASS**2 + W_MASS**2) / (2 * TOP_MASS)
        particles, tops = [], []
        for pt in (150.0, 90.0):
            top = np.array(jet(pt, random.normal(), random.uniform(-3, 3), TOP_MASS))
            size = math.sqrt(w_energy**2 - W_MASS**2)
            cos, phi = random.uniform(-1, 1), random.uniform(-3, 3)
            sin = math.sqrt(1 - cos * cos)
            w_rest = np.array([w_energy, size * sin * math.cos(phi), size * sin * math.sin(phi),
                               size * cos])  # fmt: skip
            velocity = top[1:] / top[0]
            gamma = 1 / math.sqrt(1 - velocity @ velocity)
            along = velocity @ w_rest[1:]
            w = np.array([gamma * (w_rest[0] + along), *(
                w_rest[1:] + velocity * (gamma * w_rest[0] + gamma**2 / (gamma + 1) * along)
            )])  # fmt: skip
            quarks = sorted(
                two_body(W_MASS, w, random.uniform(-1, 1), random.uniform(-3, 3)),
                key=lambda p: -math.hypot(p[1], p[2]),
            )
            particles.append([top - w, *quarks])
            tops.append(top)
        others = [np.array(jet(30.0, random.normal(), random.uniform(-3, 3))) for _ in range(2)]
        jets = [(p, True) for p in (particles[0][0], particles[1][0])]
        jets += [(p, False) for p in (*particles[0][1:], *particles[1][1:], *others)]
        jets.sort(key=lambda pair: -math.hypot(pair[0][1], pair[0][2]))
        found = assign_tops(np.array([p for p, _ in jets]), [tag for _, tag in jets])
        np.testing.assert_allclose(found[:3].sum(0), tops[0], rtol=1e-9, atol=1e-6)
        np.testing.assert_allclose(found[:3], particles[0], rtol=1e-9, atol=1e-6)
        np.testing.assert_allclose(found[3:6], particles[1], rtol=1e-9, atol=1e-6)


def test_a_detector_smears():
    random = np.random.default_rng(1)
    true = np.tile(np.array([[jet(100, 1.0, 0.5, 10.0)]]), (20000, 1, 1))
    seen = detected(true, random)
    energy = true[0, 0, 0]
    width = math.hypot(0.8 / math.sqrt(energy), 0.05)
    pt = np.hypot(seen[..., 1], seen[..., 2])
    assert pt.mean() == pytest.approx(100, rel=0.01)
    assert pt.std() == pytest.approx(100 * width, rel=0.05)
    assert np.arctan2(seen[..., 2], seen[..., 1]).std() == pytest.approx(0.02, rel=0.05)
    assert (mass_squared(seen) > 0).all()


def sample(count=40, seed=0):
    random = np.random.default_rng(seed)
    found = []
    while len(found) < count:
        event = np.array([
            jet(random.uniform(21, 90), random.uniform(-2, 2), random.uniform(-3, 3))
            for _ in range(3)
        ])  # fmt: skip
        if STATE.passed(event[None])[0]:
            found.append(event)
    return np.stack(found)


def written(folder, events, state=STATE):
    path = folder / "events.h5"
    files.write(path, {"train": files.Sample(events, events, state)}, {"seed": 1})
    return path


def test_what_is_written_is_read(tmp_path):
    events = sample()
    path = written(tmp_path, events)
    found = files.read(path, "train")
    np.testing.assert_allclose(found.momenta, events, rtol=1e-6)
    assert found.final_state == STATE and found.detected.shape == events.shape
    assert len(files.read(path, "train", 7).momenta) == 7
    with pytest.raises(DataError, match="no such file"):
        files.read(tmp_path / "none.h5", "train")
    with pytest.raises(DataError, match="is a folder; name a file"):
        files.read(tmp_path, "train")


def test_rows_of_numbers(tmp_path):
    """As in the public data sets."""
    events = sample()
    rows = events.reshape(len(events), -1)
    np.save(tmp_path / "rows.npy", rows)
    with h5py.File(tmp_path / "rows.hdf5", "w") as file:
        file["ttbar+0jet"] = rows
    for place in (Rows(tmp_path / "rows.npy"), Rows(tmp_path / "rows.hdf5", "ttbar+0jet")):
        assert np.array_equal(files.read_rows(place, STATE).momenta, events)
        found = files.read_rows(place, STATE, lambda count: slice(2, 5))
        assert np.array_equal(found.momenta, events[2:5])
    with pytest.raises(DataError, match="neither a file of"):
        files.read(tmp_path / "rows.npy", "train")
    with pytest.raises(DataError, match=r"give data\.table, one of ttbar\+0jet$"):
        files.read(tmp_path / "rows.hdf5", "train")
    np.save(tmp_path / "rows.npy", rows[:, 1:])
    with pytest.raises(DataError, match="rows of 12 floating-point"):
        files.read_rows(Rows(tmp_path / "rows.npy"), STATE)


@pytest.mark.parametrize("what", ["nan", "negative", "tachyon", "cuts", "mass"])
def test_events_that_are_none(tmp_path, what):
    events, state = sample(), STATE
    if what == "nan":
        events[3, 1, 2], words = np.nan, "event 3 has momenta that are not finite; leave"
    elif what == "negative":
        events[3, 1, 0], words = -events[3, 1, 0], "event 3 has momenta with an energy that is not"
    elif what == "tachyon":
        events[3, 1, 0], words = events[3, 1, 0] / 2, "event 3 has momenta with a negative squared"
    elif what == "cuts":
        state = FinalState(STATE.names, STATE.masses, Cuts(80.0, 0.5, 4.0))
        words = "fails the cuts"
    else:
        state, words = FinalState(STATE.names, (5.0, 1.0, None), STATE.cuts), "off shell"
    with pytest.raises(DataError, match=words) as caught:
        files.read(written(tmp_path, events, state), "train")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("names", "[1, 2, 3]"), ("names", "["), ("names", '["a", "a", "b"]'), ("masses", "[1]"),
        ("masses", '["x", null, null]'), ("masses", "[-1, null, null]"), ("pt", "x"),
        ("pt", float("nan")), ("eta", -1.0),
    ],
)  # fmt: skip
def test_attributes_of_others(tmp_path, name, value):
    path = written(tmp_path, sample())
    with h5py.File(path, "r+") as file:
        file.attrs[name] = value
    with pytest.raises(DataError) as caught:
        files.read(path, "train")
    assert "\n" not in str(caught.value)


def test_damaged_files(tmp_path):
    path = written(tmp_path, sample())
    content = path.read_bytes()
    for place in range(0, len(content), 997):
        path.write_bytes(content[:place])
        with pytest.raises(DataError):
            files.read(path, "train")
    changed = bytearray(content)
    start = content.index(sample().astype(np.float32).tobytes())
    changed[start + 100] ^= 1
    path.write_bytes(bytes(changed))
    with pytest.raises(DataError, match="damaged"):
        files.read(path, "train")


def fake_chunk(job):
    """Events that follow from the job."""
    name, jets, seed, number, count = job
    return number, np.concatenate([sample(count, seed + number)] * 2, axis=1)


def test_the_command(tmp_path, monkeypatch):
    """The same bytes by one process and by two."""
    for name in ("pythia8mc", "fastjet"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setattr(command, "make_chunk", fake_chunk)
    monkeypatch.setattr(FinalState, "passed", lambda self, p: np.ones(len(p), bool))
    contents = []
    for processes in ("1", "2"):
        out = tmp_path / processes / "top.h5"
        options = ["--events", "230", "--out", str(out), "--processes", processes]
        generate.main(["ttbar", *options])
        contents.append(out.read_bytes())
    assert contents[0] == contents[1]
    found = files.read(out, "train")
    assert len(found.momenta) == 184 and found.final_state == process_of("ttbar", 0).final_state
    with h5py.File(out) as file:
        assert json.loads(file.attrs["names"]) == ["b1", "q1", "q2", "b2", "q3", "q4"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--events", "5"], "--events must be at least 30"),
        (["--events", "100", "--jets", "7"], "--jets must be 0 to 4, not 7"),
        (["--events", "100", "--split", "1", "1", "1"], "--split needs three"),
        (["--events", "100", "--seed", "-1"], "--seed must be 0 or more"),
        (["--events", "100", "--processes", "0"], "--processes must be 1 or more"),
    ],
)
def test_options_that_cannot_be(tmp_path, options, words):
    done = module("data.generate", "ttbar", *options, "--out", str(tmp_path / "x.h5"))
    assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ttbar", "zmumu"])
def test_simulated_events(kind):
    """Where the generators are installed: peaks of W, top and Z."""
    pytest.importorskip("pythia8mc")
    pytest.importorskip("fastjet")
    process = process_of(kind, 0 if kind == "ttbar" else 1)
    from data.events.simulate import make_events

    events = make_events(process, 1, 60)
    assert process.final_state.passed(events).all()
    assert np.array_equal(events[:5], make_events(process, 1, 5))
    if kind == "ttbar":
        w, top = events[:, 1:3].sum(1), events[:, :3].sum(1)
        assert np.median(np.sqrt(mass_squared(w))) == pytest.approx(W_MASS, abs=8)
        assert np.median(np.sqrt(mass_squared(top))) == pytest.approx(TOP_MASS, abs=15)
    else:
        assert np.median(np.sqrt(mass_squared(events[:, :2].sum(1)))) == pytest.approx(91, abs=2)
