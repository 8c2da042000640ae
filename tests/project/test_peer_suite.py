"""The reference library's own tests, from its source distribution, on this package."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile

import pytest

from support import peers

VERSION = "2.0.0"
# They look at private globals of the reference library, which this one does not have.
PRIVATE = {
    "test_naive_amp_disables_islands",
    "test_naive_amp_false_is_noop",
    "test_naive_amp_nesting_and_exception_restore",
}


def source_distribution(folder):
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command = [*pip, "--no-binary", "lgatr", "--dest", str(folder), f"lgatr=={VERSION}"]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=300)
    except (subprocess.SubprocessError, OSError) as error:
        pytest.skip(f"lgatr=={VERSION} cannot be downloaded here: {type(error).__name__}")
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as content:
        content.extractall(folder, filter="data")
    return folder / f"lgatr-{VERSION}"


@pytest.mark.slow
def test_tests_of_the_reference_library_pass(tmp_path, capsys):
    shutil.copytree(source_distribution(tmp_path) / "tests", tmp_path / "run" / "tests")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=line", "-rf"),
            *("--ignore=tests/lgatr/nets/test_compile.py", "tests"),
        ],
        cwd=tmp_path / "run",
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(peers.ROOT), "."])},
        capture_output=True,
        text=True,
        timeout=3000,
    )
    failed = set(re.findall(r"^FAILED \S+::(\w+)", done.stdout, re.MULTILINE))
    summary = done.stdout.strip().splitlines()[-1]
    with capsys.disabled():
        print(f"\nlgatr {VERSION}'s own tests: {summary}")
    passed = int(re.search(r"(\d+) passed", summary)[1])
    assert failed <= PRIVATE and passed >= 402, done.stdout[-3000:]
