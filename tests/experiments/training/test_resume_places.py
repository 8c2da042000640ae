"""What is checked of a run's folder before anything in it changes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from data.formats import packed, read_jets
from experiments import compare
from experiments.cli import ROOT
from experiments.data.batch import DataSpec
from experiments.errors import UserError
from experiments.saved_runs import run_directory
from experiments.saved_runs.data_identity import IDENTITY, check_identity, write_identity
from experiments.training import resume
from support.commands import run
from support.runs import files

LONGER = "trainer.max_steps=40"


def gone(folder: Path) -> None:
    shutil.rmtree(folder / "checkpoints")


def gone_but_for_the_curves(folder: Path) -> None:
    gone(folder)
    for name in (run_directory.METRICS, run_directory.SCORES, "report.html"):
        (folder / name).unlink()


@pytest.mark.parametrize("remove", [gone, gone_but_for_the_curves])
def test_a_run_whose_checkpoints_are_gone_does_not_start_again(copy, remove):
    if remove is gone_but_for_the_curves:
        assert resume.plan([f"resume={copy}"])[1].checkpoint is not None
    remove(copy)
    before = files(copy)
    with pytest.raises(UserError, match=r"has done \d+ steps, and checkpoints/last.ckpt is missi"):
        resume.plan([f"resume={copy}", LONGER])
    assert files(copy) == before
    if remove is gone:
        assert resume.plan([f"resume={copy}"])[1].checkpoint is None  # finished, as it says


@pytest.mark.parametrize(
    "name",
    [
        "checkpoints/last.ckpt",
        "checkpoints/best.ckpt",
        *(run_directory.METRICS, run_directory.SPEC),
    ],
)
@pytest.mark.parametrize("kind", ["folder", "broken link"])
def test_other_things_in_the_places_of_files(copy, name, kind):
    (copy / name).unlink()
    if kind == "folder":
        (copy / name).mkdir()
    else:
        (copy / name).symlink_to("nowhere")
    with pytest.raises(UserError, match=f"{name}: is no file"):
        resume.plan([f"resume={copy}", LONGER])


@pytest.mark.parametrize("name", ["checkpoints", "logs", "plots"])
def test_files_in_the_places_of_folders(copy, name):
    shutil.rmtree(copy / name)
    (copy / name).write_text("")
    with pytest.raises(UserError, match=f"{name}: is no folder"):
        resume.plan([f"resume={copy}", LONGER])


@pytest.mark.parametrize("steps", ["2", None, -1, True, 1.5])
def test_damaged_metrics(copy, steps):
    gone(copy)
    (copy / run_directory.METRICS).write_text(json.dumps({"steps": steps}))
    with pytest.raises(UserError, match=r"metrics.json: steps must be a whole number"):
        resume.plan([f"resume={copy}", LONGER])


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"num_scalars": -1, "classes": ["a", "b"]}'])
def test_damaged_specification(copy, text):
    (copy / run_directory.SPEC).write_text(text)
    with pytest.raises(UserError, match=run_directory.SPEC):
        resume.plan([f"resume={copy}", LONGER])
    with pytest.raises(UserError, match=run_directory.SPEC):
        compare.Run.read(copy)


def test_a_run_of_other_data(copy):
    spec = run_directory.read_spec(copy)
    run_directory.check_spec(copy, spec)
    with pytest.raises(UserError, match="go on with the sample that the run began with"):
        run_directory.check_spec(copy, DataSpec(spec.num_scalars, (*spec.classes, "third")))


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["run_dir=elsewhere"], "leave out run_dir"),
        (["resume=REF"], "resume is given twice"),
        (["resume=other"], "resume is given twice"),
        (["ckpt_path=last", "ckpt_path=best"], "ckpt_path is given twice"),
    ],
)
def test_which_run_is_said_once(finished, more, words):
    more = [text.replace("REF", str(finished)) for text in more]
    with pytest.raises(UserError, match=words):
        resume.plan([f"resume={finished}", *more])
    assert resume.plan([f"resume={finished}", "ckpt_path=best"])[1].checkpoint is not None


def test_a_misspelt_package_is_named(finished):
    with pytest.raises(UserError, match="--trust 'no_such': no package"):
        resume.plan([f"resume={finished}", LONGER, "--trust", "no_such"])


@pytest.fixture
def sample(tmp_path):
    """A file of jets that may be changed."""
    return Path(shutil.copy(ROOT / "data" / "toptagging_mini.h5", tmp_path / "jets.h5"))


def with_other_jets(file: Path, split: str) -> None:
    """Put another valid sample in the place of a file: jets of one split come in another order."""
    parts = {name: read_jets(file, name) for name in ("train", "val", "test")}
    parts = {name: jets.select(np.arange(len(jets))) for name, jets in parts.items()}
    parts[split] = parts[split].select(np.arange(len(parts[split]))[::-1])
    packed.write(file, parts, {}, compress=False)


@pytest.mark.parametrize("split", ["train", "test"])
def test_other_jets_at_the_same_place(sample, tmp_path, split):
    folder = tmp_path / "run"
    small = ("model=transformer_small", "debug=fast", f"data.path={sample}", f"run_dir={folder}")
    run(*small, check=True)
    former, before = sample.read_bytes(), files(folder)
    with_other_jets(sample, split)
    done = run(f"resume={folder}", "trainer.max_steps=25")
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert f"holds other jets for {split} than when the run began" in done.stderr
    assert files(folder) == before
    sample.write_bytes(former)
    run(f"resume={folder}", "trainer.max_steps=25", check=True)
    with_other_jets(sample, split)
    (folder / IDENTITY).unlink()  # as the message says
    run(f"resume={folder}", "trainer.max_steps=30", check=True)


@pytest.mark.parametrize("text", ["{", "[]", "\x00"])
def test_damaged_identity(tmp_path, text):
    check_identity(tmp_path, {"train": "a"}, "data.path=x")  # an old run
    write_identity(tmp_path, {"train": "a"})
    check_identity(tmp_path, {"train": "a"}, "data.path=x")
    with pytest.raises(UserError, match=r"data.path=x: holds other jets for val "):
        check_identity(tmp_path, {"train": "a", "val": "b"}, "data.path=x")
    (tmp_path / IDENTITY).write_text(text)
    with pytest.raises(UserError, match=IDENTITY):
        check_identity(tmp_path, {"train": "a"}, "data.path=x")
