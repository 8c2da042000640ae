"""Finished runs on other samples."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from data.formats import packed, read_jets
from experiments.cli import ROOT
from experiments.evaluate import main
from experiments.saved_runs.same_data import IDENTITY
from support import commands
from support.jetfiles import random_jets, write_pandas

SAMPLE = str(ROOT / "data" / "toptagging_mini.h5")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    commands.run(
        "experiment=toptagging", "model=transformer_small", "debug=fast", "plots=[]",
        "data.limit=300",
        "data.eval_limit=300", f"run_dir={folder}", check=True,
    )  # fmt: skip
    return folder


@pytest.mark.slow
def test_all_jets_of_the_sample(run, capsys):
    main([str(run), "--data", SAMPLE, "--name", "again"])
    found = json.loads((run / "evaluation_again.json").read_text())
    assert found["jets"]["test"] == 2000
    assert found["checkpoint"] == "checkpoints/best.ckpt" and found["step"] > 0
    trained = json.loads((run / "metrics.json").read_text())
    # Of 300 jets there, of 2000 here.
    assert abs(found["auc"] - trained["auc"]) < 4 * trained["auc_error"]
    assert found["auc_error"] < trained["auc_error"]
    assert "Written: " in capsys.readouterr().out


def test_the_figures_of_the_run_itself(run, tmp_path):
    """On a file of nothing but the jets that the run was tested on."""
    jets = {split: read_jets(SAMPLE, split, 300) for split in ("train", "val", "test")}
    packed.write(tmp_path / "same.h5", jets, {})
    main([str(run), "--data", str(tmp_path / "same.h5")])
    found = json.loads((run / "evaluation_same.json").read_text())
    trained = json.loads((run / "metrics.json").read_text())
    for name in ("auc", "accuracy", "loss", "rejection_at_0.5"):
        assert found[name] == pytest.approx(trained[name], rel=1e-6)


def test_a_table_of_test_jets_alone(run, tmp_path):
    """As other people's programs write it: there are no jets to train on beside it."""
    write_pandas(tmp_path / "test.h5", *random_jets(60, 1))
    main([str(run), "--data", str(tmp_path / "test.h5")])
    found = json.loads((run / "evaluation_test.json").read_text())
    assert found["jets"] == {"test": 60}


@pytest.mark.slow
def test_trees_are_grown_again(tmp_path, capsys):
    """From the jets of the run; on the jets of its test they give its figures."""
    pytest.importorskip("sklearn")
    folder = tmp_path / "trees"
    options = ("experiment=toptagging", "model=bdt", "data.limit=300", "plots=[]")
    commands.run(*options, f"run_dir={folder}", check=True)
    main([str(folder), "--data", SAMPLE, "--name", "same"])
    found = json.loads((folder / "evaluation_same.json").read_text())
    trained = json.loads((folder / "metrics.json").read_text())
    assert found["auc"] > 0.9
    for name in ("auc", "accuracy", "loss"):
        assert found[name] == pytest.approx(trained[name], rel=1e-6)
    noted = json.loads((folder / IDENTITY).read_text())
    (folder / IDENTITY).write_text(json.dumps({**noted, "train": "other"}))
    with pytest.raises(SystemExit):
        main([str(folder), "--data", SAMPLE, "--name", "other"])
    assert "holds other jets than when the run began (train)" in capsys.readouterr().err


def test_results_are_never_overwritten(run, tmp_path, capsys):
    """Two samples of one name have two files; a name that is taken, or leads away, is refused."""
    written = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write_pandas(tmp_path / folder / "twice.h5", *random_jets(60, 1))
        main([str(run), "--data", str(tmp_path / folder / "twice.h5")])
        written.append(capsys.readouterr().out.split("Written: ")[1].strip())
    assert [Path(file).name for file in written] == [
        "evaluation_twice.json", "evaluation_twice_2.json",
    ]  # fmt: skip
    assert json.loads(Path(written[1]).read_text())["data"].endswith("b/twice.h5")
    before = {p: p.read_bytes() for p in run.iterdir() if p.is_file()}
    for name in ("twice", "", " ", "../away", "/tmp/away", "a/b", ".", "..", "a\0b", "x" * 300):
        with pytest.raises(SystemExit):
            main([str(run), "--data", SAMPLE, f"--name={name}"])
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1 and lines[0].startswith("error: "), name
    assert {p: p.read_bytes() for p in run.iterdir() if p.is_file()} == before


def test_flipped_numbers_are_noticed(run, tmp_path, capsys):
    folder = shutil.copytree(run, tmp_path / "run")
    best = folder / "checkpoints/best.ckpt"
    content = bytearray(best.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 768] = bytes(b ^ 1 for b in content[middle : middle + 768])
    best.write_bytes(content)
    with pytest.raises(SystemExit):
        main([str(folder), "--data", SAMPLE, "--name", "damaged"])
    assert "best.ckpt is damaged" in capsys.readouterr().err
    assert not (folder / "evaluation_damaged.json").exists()


def test_a_run_without_validation(run, tmp_path, capsys):
    """Its last weights are taken, as its own test took them; of others the best are needed."""
    folder = shutil.copytree(run, tmp_path / "run")
    (folder / "checkpoints/best.ckpt").unlink()
    with pytest.raises(SystemExit):
        main([str(folder), "--data", SAMPLE])
    assert "lacks checkpoints/best.ckpt" in capsys.readouterr().err
    metrics = json.loads((folder / "metrics.json").read_text())
    (folder / "metrics.json").write_text(json.dumps({**metrics, "best_val_auc": None}))
    main([str(folder), "--data", SAMPLE, "--name", "last"])
    found = json.loads((folder / "evaluation_last.json").read_text())
    assert (found["checkpoint"], found["step"]) == ("checkpoints/last.ckpt", metrics["steps"])


def test_an_unfinished_run_is_refused(run, tmp_path, capsys):
    folder = shutil.copytree(run, tmp_path / "run")
    (folder / "metrics.json").unlink()
    with pytest.raises(SystemExit):
        main([str(folder), "--data", SAMPLE])
    error = capsys.readouterr().err
    assert "is not finished" in error and f"python run.py resume={folder}" in error


def test_errors(run, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main([str(tmp_path), "--data", SAMPLE])
    assert "no trained run; it lacks config.yaml" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([str(run), "--data", str(ROOT / "data" / "jetclass_mini.h5")])
    assert "the run knows background, signal" in capsys.readouterr().err
