"""The tests of the kernels in C++, built to stop at the first wrong access and undefined operation.

The address sanitizer sees every read and write outside of what was allocated, the other one
overflow, shifts, misaligned pointers and conversions.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from lgatr.ops._runtime import build as native_build
from support import ROOT

TESTS = ROOT / "tests"
FLAGS = "-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -g1 -O1"
FILES = (
    "lgatr/ops/test_native_signatures.py", "lgatr/ops/test_stages.py",
    "lgatr/ops/test_slim_stages.py", "lgatr/attention/test_events.py",
    "lgatr/attention/test_masked_events.py",
)  # fmt: skip


def environment(tmp_path):
    """Of programs that use kernels built like this, or a skipped test where they cannot run."""
    compiler = native_build._compiler()
    if not compiler:
        pytest.skip("no C++ compiler")
    source, library = tmp_path / "one.cpp", tmp_path / "one.so"
    source.write_text('extern "C" int answer() { return 42; }\n')
    built = subprocess.run(
        [*compiler, *FLAGS.split(), "-shared", "-fPIC", str(source), "-o", str(library)],
        capture_output=True,
        text=True,
    )
    if built.returncode:
        pytest.skip(f"{compiler[0]} has no sanitizers: {built.stderr.strip().splitlines()[-1]}")
    # The C++ runtime too: the sanitizer looks for it at once, and torch would bring it later.
    runtime = " ".join(
        subprocess.run(
            [*compiler, f"-print-file-name={name}"], capture_output=True, text=True
        ).stdout.strip()
        for name in ("libasan.so", "libstdc++.so.6")
    )
    found = {
        **os.environ,
        "LD_PRELOAD": runtime,
        "ASAN_OPTIONS": f"detect_leaks=0:log_path={tmp_path}/report",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        native_build.MORE_FLAGS: FLAGS,
        "NATIVE_ENTRIES": str(tmp_path / "entries"),
        "PYTHONPATH": f"{ROOT}{os.pathsep}{TESTS}",
    }
    code = f"import ctypes, torch; assert ctypes.CDLL({str(library)!r}).answer() == 42"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=found)
    if done.returncode:
        pytest.skip(f"torch does not run with {runtime}: {done.stderr.strip()[-200:]}")
    return found


def python(arguments, env):
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=env)


def reports(tmp_path):
    """What the address sanitizer wrote, a file for each program; the other one ends it."""
    return "\n".join(file.read_text()[:5000] for file in sorted(tmp_path.glob("report.*")))


@pytest.mark.slow(minutes=1)
def test_no_wrong_access_and_nothing_undefined(tmp_path):
    env = environment(tmp_path)
    tests = [str(TESTS / name) for name in FILES]
    # Those of torch operations, which the fixture of both ways adds, have no C++.
    options = ["-q", "--capture=sys", "-p", "support.native_entries", "-k", "not torch"]
    done = python(["-m", "pytest", *options, *tests], env)
    found = reports(tmp_path)
    assert done.returncode == 0 and not found, f"{done.stdout}\n{done.stderr}\n{found}"
    print(done.stdout.strip().splitlines()[-1])
    entries = dict(line.split() for line in (tmp_path / "entries").read_text().splitlines())
    assert len(entries) > 10 and set(entries.values()) == {"True"}, entries


@pytest.mark.slow(minutes=1)
@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("volatile int n = 4; int* x = new int[n]; return x[answers];", "AddressSanitizer"),
        ("int x = 2147483600; return x + 12 * answers;", "runtime error"),
    ],
)
def test_the_sanitizers_see(tmp_path, text, found):
    env = environment(tmp_path)
    (tmp_path / "two.cpp").write_text(f'extern "C" int wrong(int answers) {{ {text} }}\n')
    library = tmp_path / "two.so"
    command = [*native_build._compiler(), *FLAGS.split(), "-shared", "-fPIC"]
    subprocess.run([*command, str(tmp_path / "two.cpp"), "-o", str(library)], check=True)
    done = python(["-c", f"import ctypes; ctypes.CDLL({str(library)!r}).wrong(4)"], env)
    assert done.returncode != 0 and found in reports(tmp_path) + done.stderr
