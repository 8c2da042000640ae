"""A configuration that was edited after its run began is noticed by every command."""

from __future__ import annotations

import json
import re

import pytest

from experiments import compare, evaluate
from experiments.errors import UserError
from experiments.models.onnx_export import load_tagger
from experiments.saved_runs import run_directory
from experiments.saved_runs.saved_config import load_config
from experiments.training import resume
from support.runs import files
from support.slow import slow_but_for


def edit(folder, option, value):
    config = folder / run_directory.CONFIG
    text, count = re.subn(rf"^( *{option}:).*$", rf"\1 {value}", config.read_text(), flags=re.M)
    assert count
    config.write_text(text)


OF_RESULTS = {"seed": 7, "lr": 0.03, "max_constituents": 20, "decay": 0.5, "batch_size": 3}


@pytest.mark.parametrize("option", slow_but_for(["seed", "decay"], OF_RESULTS))
def test_a_run_does_not_go_on(copy, option):
    """Results that are neither of the one configuration nor of the other."""
    edit(copy, option, OF_RESULTS[option])
    before = files(copy)
    with pytest.raises(UserError, match=rf"was edited .*{option} from .* to {OF_RESULTS[option]}"):
        resume.plan([f"resume={copy}", "trainer.max_steps=40"])
    assert files(copy) == before


@pytest.mark.parametrize(
    "command",
    [
        lambda folder: evaluate.main([str(folder), "--data", "data/toptagging_mini.h5"]),
        lambda folder: compare.main([str(folder)]),
    ],
    ids=["evaluate", "compare"],
)
def test_no_command_counts_on_it(copy, command, capsys):
    edit(copy, "max_constituents", 5)
    with pytest.raises(SystemExit) as caught:
        command(copy)
    assert caught.value.code == 2
    assert "max_constituents from 50 to 5" in capsys.readouterr().err


def test_nothing_is_exported(copy):
    edit(copy, "max_constituents", 5)
    with pytest.raises(UserError, match="max_constituents from 50 to 5"):
        load_tagger(copy)


def test_options_that_are_added_or_removed(copy):
    config = copy / run_directory.CONFIG
    text = config.read_text()
    config.write_text(re.sub(r"^seed: .*\n", "", text, flags=re.M) + "spare: 1\n")
    with pytest.raises(UserError, match="seed from .* to nothing, spare from nothing to 1"):
        load_config(copy)


def test_what_results_do_not_depend_on_may_be_edited(copy):
    """A folder that was moved, with its paths replaced by hand; and another spelling."""
    config = copy / run_directory.CONFIG
    text = config.read_text()
    folder = re.search(r"^run_dir: (.*)$", text, re.M)[1]
    text = text.replace(folder, str(copy)).replace("log_every_n_steps: 5", "log_every_n_steps: 2")
    config.write_text("# mine\n" + text)
    assert str(load_config(copy).run_dir) == str(copy)


BOMB = "a: &a [1, 1]\nb: &b [*a, *a]\nc: [*b, *b]\n"


@pytest.mark.parametrize("noted", [3, ["seed: 1"], "a: [", "", "- 1", BOMB, "[" * 200])
def test_a_damaged_note(copy, noted):
    file = copy / run_directory.COMMAND
    file.write_text(json.dumps({**json.loads(file.read_text()), "config": noted}))
    with pytest.raises(UserError, match="command.json: damaged"):
        load_config(copy)


def test_runs_of_earlier_versions_have_none(copy):
    (copy / run_directory.COMMAND).unlink()
    edit(copy, "seed", 7)
    assert load_config(copy).seed == 7
