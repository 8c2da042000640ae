"""Places to write are refused before anything is computed, in one line, and nothing is made."""

from __future__ import annotations

from pathlib import Path

import pytest

from data.errors import DataError
from experiments import compare, export, reproduce
from experiments.errors import UserError
from experiments.options.output_paths import check_figure, check_folder
from experiments.training.checks import combinations
from support import ROOT


@pytest.mark.parametrize("name", ["", ".", "file", "file/below", "none/below", "/proc/x"])
def test_folders_that_cannot_be(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="--out"):
        check_folder(Path(name), "--out")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_folders_that_can_be(tmp_path):
    check_folder(tmp_path, "--out")
    check_folder(tmp_path / "new", "--out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["x", "x.foo", "none/x.pdf", "folder.pdf", "/proc/x.pdf"])
def test_figures_that_cannot_be(name, tmp_path):
    (tmp_path / "folder.pdf").mkdir()
    with pytest.raises(UserError, match="--curve"):
        check_figure(tmp_path / name, "--curve")
    check_figure(tmp_path / "x.PDF", "--curve")
    assert [p.name for p in tmp_path.iterdir()] == ["folder.pdf"]


@pytest.mark.parametrize("place", ["file.pdf", "link.pdf"])
def test_figures_that_are_there(place, tmp_path):
    (tmp_path / "file.pdf").write_text("mine")
    (tmp_path / "link.pdf").symlink_to("nowhere")
    with pytest.raises(DataError, match=f"{place}: exists; choose another name, or delete it"):
        check_figure(tmp_path / place, "--curve")


def test_folders_of_other_encodings(tmp_path):
    with pytest.raises(UserError, match=r"--out .*\\udce9: holds bytes that are no UTF-8"):
        check_folder(tmp_path / "\udce9", "--out")
    (line,) = combinations._run_dir(str(tmp_path / "\udce9"))
    assert line.startswith("run_dir=") and "no UTF-8" in line


@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        (reproduce, ["--curves", "/proc/x"]),
        (reproduce, ["--curves", "README.md"]),
        (compare, ["none", "--curve", "/none/x.pdf"]),
        (export, ["none", "--out", ""]),
        (export, ["none", "--out", "README.md"]),
        (export, ["none", "--trust", ""]),
        (export, ["none", "--trust", "no_such_package"]),
    ],
)
def test_commands_refuse_before_they_start(program, arguments, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", [program.__name__, *arguments])
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit) as caught:
        program.main()
    shown = capsys.readouterr()
    assert caught.value.code == 2 and not shown.out
    assert shown.err.startswith("error: ") and shown.err.count("\n") == 1
    assert arguments[-2] in shown.err
