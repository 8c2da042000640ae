"""The page on extending is followed word for word: its files written, its commands run."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys

import pytest

from data.errors import DataError
from data.formats import registry
from experiments.errors import UserError
from experiments.options import plugins
from support import ROOT

PAGE = (ROOT / "docs" / "extending.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
NAME = re.compile(r"(?:# @package _global_\n)?# (my_jets/\S+)\n")
FILES = {found[1]: text for _, text in BLOCKS if (found := NAME.match(text))}
COMMANDS = [line for kind, text in BLOCKS if not kind for line in text.splitlines()]
# What the page leaves to pip, without network; and two steps in place of a training.
PIP = "python -m pip install -q --no-deps --no-index --no-build-isolation --target site"


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """A folder with what the page says to write, and how to run one of its commands there."""
    pytest.importorskip("setuptools")
    folder = tmp_path_factory.mktemp("reader")
    for name in ("run.py", "data"):
        (folder / name).symlink_to(ROOT / name)
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)

    def follow(command: str) -> str:
        line = shlex.split(command.replace("pip install -e", PIP))
        if line[1] == "run.py":
            line += [
                "debug=fast",
                "plots=[]",
                f"run_dir={folder / 'runs' / line[-1].split('=')[1]}",
            ]
        paths = os.pathsep.join((str(ROOT), str(folder / "site")))
        done = subprocess.run(
            [sys.executable, *line[1:]],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    follow.folder = folder
    follow(COMMANDS[0])
    follow(COMMANDS[1])
    return follow


def test_the_page_has_the_commands_that_are_tested():
    first_words = [command.split(" ")[:2] for command in COMMANDS]
    assert first_words == [
        ["pip", "install"], ["python", "my_jets/write_example.py"], *[["python", "run.py"]] * 2,
    ]  # fmt: skip


@pytest.mark.slow
def test_model_format_and_experiment_from_outside(reader):
    output = reader(COMMANDS[2])
    assert "Report:" in output
    run = reader.folder / "runs" / "my_jets"
    config = (run / "config.yaml").read_text()
    assert "_target_: my_jets.deep_sets.DeepSets" in config and "path: my_jets.txt" in config
    assert (run / "metrics.json").is_file()


@pytest.mark.slow
def test_a_run_of_ones_own_model_is_read_with_trust(reader):
    run = reader.folder / "runs" / "my_jets"
    if not run.is_dir():
        reader(COMMANDS[2])
    command = f"python -m experiments.evaluate {run} --data my_jets.txt --name again"
    with pytest.raises(AssertionError, match="my_jets.deep_sets.DeepSets.*trust"):
        reader(command)
    reader(f"{command} --trust my_jets")
    assert (run / "evaluation_again.json").is_file()


@pytest.mark.slow
def test_attention_from_outside(reader):
    reader(COMMANDS[3])
    metrics = (reader.folder / "runs" / "by_event" / "metrics.json").read_text()
    assert metrics.count('"by_event"') == 2  # asked for, and executed


@pytest.mark.slow
def test_config_dir(reader):
    folder = reader.folder / "more" / "model"
    folder.mkdir(parents=True)
    (folder / "wide.yaml").write_text("defaults:\n  - deep_sets\n\nwidth: 99\n")
    base = "python run.py --config-dir more experiment=my_jets model=wide --cfg job"
    done = subprocess.run(
        [sys.executable, *shlex.split(base)[1:]],
        cwd=reader.folder,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{reader.folder / 'site'}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "width: 99" in done.stdout


class Point:
    """An entry point that was installed by somebody."""

    name = "broken"

    def __init__(self, value):
        self.value = value

    def load(self):
        return __import__(self.value, fromlist=["x"])


@pytest.mark.parametrize(
    ("value", "reason"), [("nowhere.at_all", "does not load"), ("json", "lacks NAME, recognises")]
)
def test_a_format_that_is_none(value, reason, monkeypatch):
    monkeypatch.setattr(registry, "entry_points", lambda group: [Point(value)])
    with pytest.raises(DataError, match=f"entry point broken of lgatr.formats: {value} {reason}"):
        registry.formats()


@pytest.mark.parametrize("value", ["nowhere.at_all", "json.decoder"])
def test_a_folder_of_configurations_that_is_none(value, monkeypatch):
    monkeypatch.setattr(plugins, "entry_points", lambda group: [Point(value)])
    plugins.config_folders.cache_clear()
    try:
        with pytest.raises(UserError, match=f"{value} is no folder of an installed package"):
            plugins.config_folders()
    finally:
        plugins.config_folders.cache_clear()


def test_installed_packages(monkeypatch):
    points = {plugins.CONFIGS: [Point("a.b")], plugins.BACKENDS: [Point("c.d:E")]}
    monkeypatch.setattr(plugins, "entry_points", lambda group: points.get(group, []))
    assert plugins.installed_packages() == {"a", "c"}
