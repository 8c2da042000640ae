"""Wrong options of every program end in one line."""

from __future__ import annotations

import importlib
import re
import sys

import pytest

from experiments.cli import ROOT
from support.commands import module

# They run in the environment of another library, without ours.
ALONE = {"benchmarks.compare_peer", "benchmarks.walk"}
FOLDERS = ("data", "experiments", "benchmarks", "lgatr")
RESUME = "experiments.training.resume"
PROGRAMS = sorted(
    ".".join(file.relative_to(ROOT).with_suffix("").parts)
    for folder in FOLDERS
    for file in (ROOT / folder).rglob("*.py")
    if re.search(r"\bArgumentParser\(|\bParser\(\"", file.read_text())
)
MAINS = [p for p in PROGRAMS if p.startswith(("data.", "experiments.")) and p != RESUME]


def test_all_programs_have_one_parser():
    """But for ``resume``, which leaves all arguments but ``--trust`` to Hydra."""
    others = [
        program
        for program in PROGRAMS
        if "ArgumentParser(" in (ROOT / f"{program.replace('.', '/')}.py").read_text()
    ]
    assert set(others) - ALONE == {RESUME}
    assert len(MAINS) >= 7


@pytest.mark.parametrize("program", MAINS)
@pytest.mark.parametrize("arguments", [["--no-such-option"], ["a", "b", "--jets", "x", "c", "d"]])
def test_wrong_options_end_in_one_line(program, arguments, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [program, *arguments])
    with pytest.raises(SystemExit) as caught:
        importlib.import_module(program).main()
    shown = capsys.readouterr()
    assert caught.value.code == 2 and not shown.out
    assert re.fullmatch(r"error: .+; see --help\n", shown.err)


def test_wrong_options_of_the_library_end_in_one_line(capsys):
    with pytest.raises(SystemExit) as caught:
        importlib.import_module("lgatr.attention.__main__").main(["--no-such-option"])
    shown = capsys.readouterr().err
    assert caught.value.code == 2 and re.fullmatch(r"error: .+; see --help\n", shown)


def test_help_shows_the_text():
    done = module("data.convert", "--help")
    assert done.returncode == 0 and "python -m data.convert SOURCE TARGET" in done.stdout
