"""Output that cannot be written ends no work, and never in a stack trace."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from experiments.cli import ROOT

BODY = """
from pathlib import Path
from data.command import program
with program():
    for number in range(20_000):
        print("a line of output", number)
    print("é – ± \\udce9")
    Path("done").write_text("done")
"""
FULL = "error: standard output: No space left on device; all else was done\n"


def run(redirection: str, folder, program=BODY, **variables: str) -> tuple[int, str, bytes]:
    """Status, standard error and output of a program in a shell."""
    (folder / "program.py").write_text(program)
    done = subprocess.run(
        ["bash", "-c", f'"$1" program.py {redirection}; echo status "${{PIPESTATUS[0]}}" >&2', "-",
         sys.executable],
        capture_output=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
    )  # fmt: skip
    shown, _, status = done.stderr.decode().rpartition("status ")
    return int(status), shown, done.stdout


@pytest.mark.parametrize(
    ("redirection", "status", "error"),
    [("| true", 0, ""), ("| head -1", 0, ""), (">/dev/full", 1, FULL), (">&-", 0, ""),
     (">/dev/null 2>/dev/full", 0, ""), (">&- 2>&- <&-", 0, "")],
)  # fmt: skip
def test_the_work_is_done(redirection, status, error, tmp_path):
    assert run(redirection, tmp_path)[:2] == (status, error)
    assert (tmp_path / "done").read_text() == "done"


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_characters_that_the_encoding_lacks(unbuffered, tmp_path):
    variables = {"PYTHONIOENCODING": "ascii", "PYTHONUNBUFFERED": unbuffered}
    status, error, output = run("", tmp_path, **variables)
    assert (status, error) == (0, "")
    assert output.splitlines()[-1] == rb"\xe9 \u2013 \xb1 \udce9"


def test_files_do_not_take_the_place_of_closed_streams(tmp_path):
    program = (
        "import os\nfrom data.command import program\n"
        "with program(), open('file', 'w') as file:\n    os.write(1, b'x'); os.write(2, b'x')\n"
        "    print(file.fileno() > 2, file=file)\n"
    )
    assert run(">&- 2>&- <&-", tmp_path, program)[0] == 0
    assert (tmp_path / "file").read_text() == "True\n"


@pytest.mark.parametrize("end", ["raise SystemExit(3)", "raise SystemExit('error: own')"])
def test_a_failure_of_the_program_comes_first(end, tmp_path):
    program = f"from data.command import program\nwith program():\n    print('x')\n    {end}\n"
    status, error, _ = run(">/dev/full", tmp_path, program)
    assert (status, error) == ((3, "") if "3" in end else (1, "error: own\n"))


def test_a_folder_that_was_removed(tmp_path):
    for command in ("program.py", "-m experiments.compare x", "-m data.convert x y"):
        (tmp_path / "program.py").write_text(BODY)
        (tmp_path / "gone").mkdir()
        place = command.replace("program.py", str(tmp_path / "program.py"))
        done = subprocess.run(
            ["bash", "-c", f'cd gone; rmdir ../gone; "$1" {place}', "-", sys.executable],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert done.returncode == 2
        assert done.stderr == "error: the current folder was removed; cd to one that exists\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("redirection", "status", "error"),
    [
        pytest.param("| true", 141, "", marks=pytest.mark.slow),
        (">/dev/full", 1, "error: standard output: No space left on device\n"),
        pytest.param(">&-", 0, "", marks=pytest.mark.slow),
    ],
)
def test_the_library(redirection, status, error, tmp_path):
    program = (
        "from lgatr.utils.output import quiet_output\n"
        "with quiet_output():\n    for i in range(20_000): print('a line of output é \\udce9')\n"
    )
    assert run(redirection, tmp_path, program)[:2] == (status, error)
    variables = {"PYTHONIOENCODING": "ascii"}
    assert (
        run("| tail -1", tmp_path, program, **variables)[2] == b"a line of output \\xe9 \\udce9\n"
    )
