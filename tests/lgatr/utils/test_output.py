"""Output that cannot be written ends a program in one line, or none."""

from __future__ import annotations

import errno
import os

import pytest

from lgatr.utils.output import quiet_output


@pytest.fixture
def standard_output():
    """What is descriptor 1 now, put back afterwards."""
    kept = os.dup(1)
    yield
    os.dup2(kept, 1)
    os.close(kept)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 141),
        (OSError(errno.ENOSPC, "No space left"), "error: standard output: No space left"),
    ],
)
def test_errors_of_the_stream(error, status, standard_output):
    with pytest.raises(SystemExit) as caught, quiet_output():
        raise error
    assert caught.value.code == status


def test_errors_of_files_are_the_programs_own():
    with pytest.raises(FileNotFoundError), quiet_output():
        open("/nowhere/at/all")


def test_what_is_fine(capsys):
    with quiet_output():
        print("words")
    assert capsys.readouterr().out == "words\n"
