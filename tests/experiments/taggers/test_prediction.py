"""Files of jets with scores: every jet in its place, whatever the formats, and however it ends."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from data.formats import packed, read_jets
from data.jets import Jets
from experiments.cli import ROOT
from experiments.errors import UserError
from experiments.predict import main
from experiments.taggers import Tagger, outputs, prediction
from experiments.taggers.prediction import AT_ONCE
from support import commands

uproot = pytest.importorskip("uproot")
pq = pytest.importorskip("pyarrow.parquet")
ak = pytest.importorskip("awkward")

SAMPLE = ROOT / "data" / "toptagging_mini.h5"
JETS = read_jets(SAMPLE, "test", 60)
EVENTS = 2**53 + 1 + np.arange(60, dtype=np.int64)
DESCRIPTION = """
momenta: {energy: e, px: x, py: y, pz: z}
classes: {a: nothing == 0, b: nothing == 1}
select: jet_pt > 1e9
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    commands.run(
        "experiment=toptagging", "model=transformer_small", "model.num_blocks=1", "debug=fast",
        "plots=[]", "data.limit=300", "data.eval_limit=200", f"run_dir={folder}", check=True,
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def expected(run):
    return Tagger.from_pretrained(run).logits(JETS)[:, 0].sigmoid().numpy()


@pytest.fixture
def file(tmp_path):
    """Jets of a stranger in ROOT, without labels."""
    write(tmp_path / "mine.root")
    (tmp_path / "mine.yaml").write_text(DESCRIPTION)
    return tmp_path / "mine.root"


def write(path, momenta=JETS.constituents, lengths=JETS.lengths):
    branches = {name: ak.unflatten(momenta[:, i], lengths) for i, name in enumerate("exyz")}
    branches |= {"event": EVENTS, "jet_pt": np.arange(60.0)}
    with uproot.recreate(path) as out:
        types = {n: v.type if hasattr(v, "layout") else v.dtype for n, v in branches.items()}
        out.mktree("events", types)
        out["events"].extend(branches)


def read(path):
    if path.suffix == ".root":
        return uproot.open(path)["scores"].arrays(library="np")
    if path.suffix == ".parquet":
        return {n: c.to_numpy() for n, c in zip(*columns(pq.read_table(path)), strict=True)}
    with h5py.File(path) as content:
        return {name: content[name][:] for name in content}


def columns(table):
    return table.column_names, table.columns


@pytest.mark.parametrize("suffix", [".root", ".parquet", ".h5"])
def test_a_file_of_a_stranger(run, file, expected, suffix, capsys):
    out = file.with_name(f"scores{suffix}")
    options = ["--description", str(file.with_name("mine.yaml")), "--keep", "event,jet_pt"]
    main([str(run), str(file), "--out", str(out), *options])
    assert "60 jets, all scored, " in capsys.readouterr().out
    found = read(out)
    assert set(found) == {"event", "jet_pt", "score_background", "score_signal", "scored"}
    assert np.array_equal(found["event"], EVENTS) and found["event"].dtype == np.int64
    np.testing.assert_allclose(found["score_signal"], expected, atol=1e-6)
    np.testing.assert_allclose(found["score_signal"] + found["score_background"], 1, atol=1e-6)
    assert found["scored"].all()
    assert sorted(p.suffix for p in out.parent.iterdir()) == sorted(
        [".json", ".root", ".yaml", *([suffix])]
    )
    main([str(run), str(file), "--out", str(out), *options])
    assert f"{out}: is there already" in capsys.readouterr().out


def test_the_scores_of_the_test(run, tmp_path):
    """Of the jets that a run was tested on, the scores that it left."""
    jets = {split: read_jets(SAMPLE, split, 200) for split in ("train", "test")}
    packed.write(tmp_path / "same.h5", jets, {})
    main([str(run), str(tmp_path / "same.h5"), "--out", str(tmp_path / "x.h5"), "--logits"])
    with h5py.File(run / "test_scores.h5") as file:
        np.testing.assert_allclose(
            read(tmp_path / "x.h5")["logit_signal"], file["logits"][:], atol=1e-5
        )


def test_jets_that_cannot_be_scored_are_flagged(run, file, expected, capsys):
    momenta, lengths = np.array(JETS.constituents), JETS.lengths.copy()
    starts = JETS.offsets[:-1]
    momenta[starts[3], 2] = np.nan
    momenta[starts[7], 0] = -1
    momenta[starts[9], 1:] *= 10
    keep = np.ones(len(momenta), bool)
    keep[starts[11] : starts[12]] = False
    lengths[11] = 0
    write(file, momenta[keep], lengths)
    out = file.with_name("scores.h5")
    main(
        [str(run), str(file), "--out", str(out), "--description", str(file.with_name("mine.yaml"))]
    )
    assert "60 jets, 4 of them not scored" in capsys.readouterr().out
    found, bad = read(out), [3, 7, 9, 11]
    assert np.flatnonzero(~found["scored"]).tolist() == bad
    assert np.isnan(found["score_signal"][bad]).all()
    good = np.delete(np.arange(60), bad)
    np.testing.assert_allclose(found["score_signal"][good], expected[good], atol=1e-6)


def test_it_goes_on_where_it_was_stopped(run, file, expected, monkeypatch):
    """The parts that are there are not computed again, and the file is complete or not there."""
    monkeypatch.setattr(prediction, "AT_ONCE", 16)
    out, asked = file.with_name("scores.root"), []
    options = [str(run), str(file), "--out", str(out), "--description",
               str(file.with_name("mine.yaml"))]  # fmt: skip
    scored = prediction.scores_of

    def interrupted(tagger, jets, start, stop):
        asked.append(start)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return scored(tagger, jets, start, stop)

    monkeypatch.setattr(prediction, "scores_of", interrupted)
    with pytest.raises(KeyboardInterrupt):
        main(options)
    assert not out.exists()
    with open(f"{out}.part", "ab") as file_of_parts:
        file_of_parts.write(b"xy")  # half a number
    main(options)
    assert asked == [0, 16, 32, 32, 48]
    np.testing.assert_allclose(read(out)["score_signal"], expected, atol=1e-6)
    assert not list(out.parent.glob("*.part*"))


def test_parts_of_something_else_are_refused(run, file, capsys):
    out = file.with_name("scores.root")
    file.with_name("scores.root.part.json").write_text(json.dumps({"tagger": "another"}))
    options = ["--description", str(file.with_name("mine.yaml"))]
    refused(capsys, [str(run), str(file), "--out", str(out), *options], "begun with another tagger")
    out.write_bytes(b"mine")
    refused(
        capsys, [str(run), str(file), "--out", str(out), *options], "exists, and is of something"
    )
    assert out.read_bytes() == b"mine"


def refused(capsys, arguments, message):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    error = capsys.readouterr().err
    assert end.value.code and message in error and error.count("\n") == 1, error


def test_several_files(run, file, capsys):
    folder = file.parent
    write(folder / "more.root")
    options = ["--description", str(folder / "mine.yaml"), "--format", "parquet"]
    files = [str(file), str(folder / "more.root")]
    main([str(run), *files, "--out", str(folder / "scores"), *options])
    assert sorted(p.name for p in (folder / "scores").glob("*.parquet")) == [
        "mine.parquet", "more.parquet",
    ]  # fmt: skip
    (folder / "other").mkdir()
    write(folder / "other" / "mine.root")
    twice = [str(file), str(folder / "other" / "mine.root")]
    refused(
        capsys,
        [str(run), *twice, "--out", str(folder / "x"), *options],
        "two files would both become",
    )
    refused(capsys, [str(run), *files, "--out", str(file), *options], "a folder is wanted")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--keep", "nothing"], "has no nothing, only e, event, jet_pt, ne, nx, ny, nz, x, y, z"),
        (["--keep", "x"], "x has more than one number for each jet"),
        (["--out", "scores.csv"], "must end in .root, .parquet, .h5"),
        (["--description", "nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_mistakes_are_named(run, file, capsys, options, message):
    given = ["--out", str(file.with_name("scores.h5")), "--description",
             str(file.with_name("mine.yaml")), *options]  # fmt: skip
    refused(capsys, [str(run), str(file), *given], message)
    assert not list(file.parent.glob("scores*.h5"))


def test_features_need_their_columns(file, tmp_path_factory, capsys):
    folder = tmp_path_factory.mktemp("runs") / "run"
    charge = np.ones(len(JETS.constituents), np.float32)
    jets = Jets(JETS.constituents, JETS.offsets, JETS.labels, "x", particles={"charge": charge})
    packed.write(folder.parent / "charged.h5", dict.fromkeys(("train", "val", "test"), jets), {})
    commands.run(
        "experiment=toptagging", "model=transformer_small", "model.num_blocks=1", "debug=fast",
        "plots=[]", "data.features=[charge]", f"data.path={folder.parent / 'charged.h5'}",
        "data.batch_size=8", f"run_dir={folder}", check=True,
    )  # fmt: skip
    yaml = file.with_name("mine.yaml")
    given = [
        str(folder),
        str(file),
        "--out",
        str(file.with_name("s.h5")),
        "--description",
        str(yaml),
    ]
    refused(capsys, given, "its description has no particles.charge")
    yaml.write_text(DESCRIPTION + "particles: {charge: e * 0 + 1}\n")
    main(given)
    assert read(file.with_name("s.h5"))["scored"].all()


def test_parts_are_large():
    """Of jets of 100 particles, 32 MB of momenta at a time."""
    assert AT_ONCE * 100 * 16 <= 64 << 20


@pytest.mark.parametrize(("suffix", "package"), [(".root", "uproot"), (".parquet", "pyarrow")])
def test_a_package_of_the_output_is_missed_before_the_work(suffix, package, monkeypatch):
    monkeypatch.setattr(outputs, "find_spec", lambda name: None if name == package else name)
    with pytest.raises(UserError, match=f"scores{suffix}: needs {package}; .*pip install"):
        outputs.writer_of(Path("scores") / f"scores{suffix}")


def test_a_description_in_place_of_a_file(run, tmp_path, capsys):
    (tmp_path / "jets.yaml").write_text("files: [x.npz]")
    refused(
        capsys, [str(run), str(tmp_path / "jets.yaml"), "--out", str(tmp_path / "x.h5")],
        "jets.yaml: describes files of jets; give such a file, and this by --description",
    )  # fmt: skip
