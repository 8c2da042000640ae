"""Facts about the code that a run notes."""

from __future__ import annotations

import os
import subprocess

import pytest

from experiments.saved_runs.run_directory import git_revision


@pytest.fixture
def repository(tmp_path):
    def git(*arguments):
        identity = ("-c", "user.name=A", "-c", "user.email=a@b.c")
        command = ["git", *identity, "-C", str(tmp_path), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    try:
        git("init", "-q")
    except OSError:
        pytest.skip("no git")
    (tmp_path / "code.py").write_text("1")
    git("add", "code.py")
    git("commit", "-qm", "first")
    return tmp_path, git("rev-parse", "HEAD")


def test_the_commit(repository, tmp_path_factory):
    folder, commit = repository
    (folder / "notes.txt").write_text("mine")  # not part of it
    assert git_revision(folder) == commit
    (folder / "code.py").write_text("2")
    assert git_revision(folder) == f"{commit}-dirty"
    assert git_revision(tmp_path_factory.mktemp("elsewhere")) == "unknown"


def test_the_repository_is_only_read(repository):
    """A lock of the index that a killed run leaves behind: no commit is possible then."""
    folder, commit = repository
    index = folder / ".git" / "index"
    # Git would note that the file with the new time is still the same.
    os.utime(folder / "code.py", ns=(1, 1))
    before = index.stat().st_mtime_ns, index.stat().st_ino
    assert git_revision(folder) == commit
    assert (index.stat().st_mtime_ns, index.stat().st_ino) == before
