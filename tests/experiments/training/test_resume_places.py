"""What is checked of a run's folder before anything in it changes."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from data.formats import packed, read_jets
from data.identity import DAMAGED
from experiments import compare
from experiments.cli import ROOT
from experiments.data.batch import DataSpec
from experiments.errors import UserError
from experiments.saved_runs import run_directory
from experiments.saved_runs.same_data import IDENTITY, check_identity, read_identity, write_identity
from experiments.training import resume
from support.commands import run
from support.runs import files
from support.slow import every

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
    shutil.rmtree(copy / name, ignore_errors=True)
    (copy / name).write_text("")
    with pytest.raises(UserError, match=f"{name}: is no folder"):
        resume.plan([f"resume={copy}", LONGER])


@pytest.mark.parametrize("steps", every(2, ["2", None, -1, True, 1.5]))
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


def test_other_jets_than_noted(copy):
    noted = json.loads((copy / IDENTITY).read_text())
    (copy / IDENTITY).write_text(json.dumps({**noted, "test": "0"}))
    before = files(copy)
    done = run(f"resume={copy}", LONGER)
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert "holds other jets than when the run began (test)" in done.stderr
    assert files(copy) == before


@pytest.mark.slow
@pytest.mark.parametrize("split", ["train", "test"])
def test_other_jets_at_the_same_place(sample, tmp_path, split):
    folder = tmp_path / "run"
    small = (
        "model=transformer_small", "debug=fast", "plots=[]", f"data.path={sample}",
        f"run_dir={folder}",
        "callbacks.early_stopping=null",
    )  # fmt: skip
    run(*small, check=True)
    former, before = sample.read_bytes(), files(folder)
    with_other_jets(sample, split)
    done = run(f"resume={folder}", "trainer.max_steps=25")
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert f"holds other jets than when the run began ({split})" in done.stderr
    assert files(folder) == before
    # The same jets in another place may be given.
    moved = tmp_path / "elsewhere.h5"
    moved.write_bytes(former)
    run(f"resume={folder}", "trainer.max_steps=25", f"data.path={moved}", check=True)
    done = run(f"resume={folder}", "trainer.max_steps=26", f"data.path={sample}")
    assert done.returncode == 2 and "holds other jets than" in done.stderr
    (folder / IDENTITY).unlink()  # as the message says
    done = run(f"resume={folder}", "trainer.max_steps=26", f"data.path={sample}")
    assert done.returncode == 2 and "would change data.path" in done.stderr
    with_other_jets(moved, split)
    run(f"resume={folder}", "trainer.max_steps=30", check=True)
    noted = json.loads((folder / "resumes.json").read_text())["resumes"]
    assert [entry["jets_compared"] for entry in noted] == [True, False]
    moved.write_bytes(former)  # no longer those it went on with
    done = run(f"resume={folder}", "trainer.max_steps=35")
    assert done.returncode == 2 and "holds other jets than" in done.stderr


@pytest.mark.parametrize("text", ["{", "[]", "\x00", "{}", '{"train": 1}', '{"": "a"}'])
def test_damaged_identity(tmp_path, text):
    check_identity(tmp_path, {"train": "a"}, "data.path=x")  # an old run
    write_identity(tmp_path, {"train": "a"})
    check_identity(tmp_path, {"train": "a"}, "data.path=x")
    with pytest.raises(UserError, match=r"data.path=x: holds other jets than .* \(val\)"):
        check_identity(tmp_path, {"train": "a", "val": "b"}, "data.path=x")
    (tmp_path / IDENTITY).write_text(text)
    with pytest.raises(UserError, match=f"{IDENTITY}: damaged"):
        check_identity(tmp_path, {"train": "a"}, "data.path=x")


def test_files_that_are_left_out_now(tmp_path):
    """What data.skip_corrupt=true survives, a resumption survives, too."""
    names = [f"train/{number}.root" for number in range(6)]
    write_identity(tmp_path, dict.fromkeys(names, "0:a"))
    with pytest.warns(UserWarning, match=r"files that are damaged.* \(train/3.root\)"):
        check_identity(tmp_path, dict.fromkeys(names, "0:a") | {names[3]: DAMAGED}, "x")
    with pytest.raises(UserError, match=r"\(train/0.root, train/1.root, train/2.root and 2 more\)"):
        check_identity(tmp_path, dict.fromkeys(names, "0:b") | {names[3]: DAMAGED}, "x")


@pytest.mark.parametrize("left", [(), ("data_spec.json", "data_identity.json", ".lock")])
def test_a_folder_that_was_being_begun_is_free(tmp_path, left):
    for name in left:
        (tmp_path / name).write_text("{}")
    run_directory.check_free(tmp_path)
    (tmp_path / run_directory.CONFIG).write_text("")
    with pytest.raises(UserError, match="already holds results"):
        run_directory.check_free(tmp_path)


@pytest.mark.slow
def test_early_stopping_has_the_last_word(tmp_path):
    folder = tmp_path / "run"
    options = (
        "model=transformer_small", "model.num_blocks=1", "data.limit=200", "data.eval_limit=100",
        "trainer.val_check_interval=1", "trainer.max_steps=60", "optimizer.lr=1e-9",
        "callbacks.early_stopping.patience=1",
    )  # fmt: skip
    done = run(*options, f"run_dir={folder}", check=True)
    steps = json.loads((folder / run_directory.METRICS).read_text())["steps"]
    text = f"Ended after {steps} of 60 steps by callbacks.early_stopping: no better val/auc in 1"
    assert steps < 60 and text in done.stdout
    before = files(folder)
    assert "was ended by callbacks.early_stopping" in run(f"resume={folder}", check=True).stdout
    done = run(f"resume={folder}", "trainer.max_steps=80")
    assert done.returncode == 2 and "more steps do not lengthen it" in done.stderr
    assert files(folder) == before


@pytest.mark.parametrize("given", [False, True])
def test_a_run_writes_into_its_own_folder(copy, tmp_path, given):
    """Whatever a configuration from elsewhere says; but what this command line says is meant."""
    config, command = copy / run_directory.CONFIG, copy / run_directory.COMMAND
    text = config.read_text()
    folder = re.search(r"^run_dir: (.*)$", text, re.M)[1]
    config.write_text(text.replace(f"save_dir: {folder}/logs", f"save_dir: {tmp_path}/theirs"))
    command.write_text(json.dumps({"overrides": [], "config": config.read_text()}))
    options = [f"resume={copy}", LONGER]
    if given:
        places = [f"logger.{name}.save_dir={tmp_path}/mine" for name in ("csv", "tensorboard")]
        assert resume.plan([*options, *places])[0].logger.csv.save_dir == f"{tmp_path}/mine"
        return
    with pytest.raises(UserError, match=r"logger.csv.save_dir=.*theirs is outside of the run's"):
        resume.plan(options)


def test_a_lost_note_of_the_jets_is_told(copy):
    (copy / IDENTITY).unlink()
    _, resumption = resume.plan([f"resume={copy}", LONGER])
    with pytest.warns(UserWarning, match="nobody can tell whether the jets are those"):
        resume.begin(resumption, 2, "unknown", {"train": "1"})
    assert json.loads((copy / IDENTITY).read_text()) == {"train": "1"}


def test_all_results_of_a_shorter_run_are_kept(copy):
    """Generated events, which were overwritten, as well as scores."""
    for name in (run_directory.EVENTS, run_directory.PREDICTIONS):
        (copy / name).write_text(name)
    before = {name: (copy / name).read_bytes() for name in run_directory.RESULTS}
    _, resumption = resume.plan([f"resume={copy}", LONGER])
    resume.begin(resumption, 2, "", read_identity(copy))
    for name, content in before.items():
        file = copy / name
        assert not file.exists()
        assert file.with_name(f"{file.stem}_2_steps{file.suffix}").read_bytes() == content
