"""What is checked of a run's folder before anything in it changes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from experiments import compare
from experiments.data.batch import DataSpec
from experiments.errors import UserError
from experiments.saved_runs import run_directory
from experiments.training import resume
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
