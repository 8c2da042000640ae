"""Ctrl-C, SIGTERM and SIGHUP: one line and an exit status, at any moment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data.signals import SIGNALS
from experiments.cli import ROOT
from support.slow import every

HEAD = "import os, signal, sys, time; from data import signals\n"
SEND = "os.kill(os.getpid(), int(sys.argv[1]))\n"
PROGRAMS = {
    "at once": "with signals.one_line_interrupts('do this'): " + SEND,
    "better advice": "with signals.one_line_interrupts(): signals.advise('do this'); " + SEND,
    "in a destructor": (
        "class Bad:\n    def __del__(self): " + SEND
        + "with signals.one_line_interrupts('do this'):\n    Bad()\n    time.sleep(20)\n"
    ),
    "with errors caught": (
        "with signals.one_line_interrupts('do this'):\n"
        "    try: " + SEND + "    except Exception: print('caught', file=sys.stderr)\n"
        "    time.sleep(20)\n"
    ),
    "after saving": (
        "with signals.one_line_interrupts('do this'):\n"
        "    with signals.deferred_signals():\n"
        "        " + SEND + "        assert signals.pending_signal() == int(sys.argv[1])\n"
        "        print('saved')\n"
        "    time.sleep(20)\n"
    ),
    "the second time": (
        "with signals.one_line_interrupts('do this'):\n"
        "    with signals.deferred_signals():\n        " + SEND + "        " + SEND
        + "        time.sleep(20)\n"
    ),
}  # fmt: skip


@pytest.fixture(autouse=True)
def not_ignored():
    """Programs that tests start inherit what nohup, or a service, ignores."""
    ignored = [signum for signum in SIGNALS if signal.getsignal(signum) is signal.SIG_IGN]
    for signum in ignored:
        own = signal.default_int_handler if signum == signal.SIGINT else signal.SIG_DFL
        signal.signal(signum, own)
    yield
    for signum in ignored:
        signal.signal(signum, signal.SIG_IGN)


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


@pytest.mark.parametrize("name", PROGRAMS)
def test_one_line(name):
    for signum in SIGNALS:
        command = [sys.executable, "-c", HEAD + PROGRAMS[name], str(int(signum))]
        done = subprocess.run(command, capture_output=True, text=True, env=environment())
        assert done.stderr == f"stopped by {signum.name}; do this\n"
        assert done.returncode == 128 + signum
        assert (done.stdout == "saved\n") == (name == "after saving")


def test_what_the_parent_ignores_stays_ignored():
    """As under nohup."""
    program = HEAD + "with signals.one_line_interrupts(): " + SEND
    command = [sys.executable, "-c", program, str(int(signal.SIGHUP))]
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment())
    finally:
        signal.signal(signal.SIGHUP, before)
    assert (done.returncode, done.stderr) == (0, "")


def test_forked_processes_die_as_usual():
    program = HEAD + (
        "with signals.one_line_interrupts():\n"
        "    if (child := os.fork()) == 0: time.sleep(20)\n"
        "    time.sleep(0.3); os.kill(child, int(sys.argv[1]))\n"
        "    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    command = [sys.executable, "-c", program, str(int(signal.SIGTERM))]
    done = subprocess.run(command, capture_output=True, text=True, env=environment())
    assert (done.stdout, done.stderr, done.returncode) == ("-15\n", "", 0)


@pytest.mark.parametrize(
    ("end_of_import", "afterwards", "printed"),
    [
        ("", "time.sleep(60)", "imported\n"),
        ("", "pass", "imported\n"),
        ("raise ValueError", "pass", ""),
        # Work that an import does is ended by the second signal.
        ("os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)", "pass", ""),
    ],
    ids=["work", "end", "failure", "again"],
)
def test_a_module_that_is_imported_is_finished_first(end_of_import, afterwards, printed, tmp_path):
    """Half of one fails in any way, or swallows what ends the program."""
    (tmp_path / "slow.py").write_text(
        "import os, signal, time\n"
        "try:\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    sum(range(10**6))\n"
        "except BaseException:\n"
        "    print('swallowed')\n"
        f"{end_of_import}\n"
    )
    program = (
        "import time\nfrom data.command import program\n"
        "with program():\n    import slow\n    print('imported', flush=True)\n"
        f"    {afterwards}\n"
    )
    env = {**environment(), "PYTHONPATH": f"{ROOT}:{tmp_path}"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=env, cwd=tmp_path
    )
    assert (done.stdout, done.returncode) == (printed, 128 + signal.SIGTERM)
    assert done.stderr == "stopped by SIGTERM; start again with the same command\n"


def test_signals_after_all_work_change_nothing(tmp_path):
    """Libraries still run then."""
    program = (
        "import atexit, os, signal, time\nfrom data.command import program\n"
        "with program():\n"
        "    @atexit.register\n    def at_the_end():\n"
        "        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):\n"
        "            os.kill(os.getpid(), signum)\n"
        "        time.sleep(0.1)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment()
    )
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


COMMANDS = [
    ("-m", "experiments.evaluate", "--help"),
    ("-m", "data.convert", "--help"),
    (str(ROOT / "run.py"), "debug=fast", "run_dir=never"),
]


def started(command, folder):
    return subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment(), cwd=folder, start_new_session=True,
    )  # fmt: skip


def seconds(command, folder):
    """How long a command takes here and now."""
    begin = time.perf_counter()
    started(command, folder).communicate()
    return time.perf_counter() - begin


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c[1])
def test_commands_in_their_first_seconds(command, tmp_path):
    """Most of which are imports.

    Until Python has started, its own handlers end the process without a word; that is not ours to
    change. On a busy machine it takes long, so both are measured.
    """
    start = seconds(("-c", "pass"), tmp_path)
    whole = seconds(command, tmp_path) if "--help" in command else 3.0
    stopped = 0
    for number in range(3):
        signum, delay = SIGNALS[number], start + (whole - start) * number / 3
        process = started(command, tmp_path)
        time.sleep(delay)
        process.send_signal(signum)
        _, errors = process.communicate()
        if delay < 4 * start and (process.returncode == -signum or "KeyboardInterrupt" in errors):
            continue
        if process.returncode != 0:
            stopped += 1
            assert errors == f"stopped by {signum.name}; start again with the same command\n"
            assert process.returncode == 128 + signum
    assert stopped
    assert not list(Path(tmp_path).rglob("metrics.json"))


MADE_INTO_ANOTHER_ERROR = """
import os, signal, zlib
from data.command import program
from experiments.cli import one_line_errors

with program(), one_line_errors():
    try:
        os.kill(os.getpid(), signal.SIGHUP)
        signal.pause()
    except BaseException:
        raise {error}
"""


@pytest.mark.parametrize(
    "error", every(2, ["zlib.error('inconsistent stream state')", "ValueError('x')"])
)
def test_what_a_library_makes_of_a_signal_is_still_the_signal(error):
    """Compression and drawing, left in the middle, fail in their own ways."""
    done = subprocess.run(
        [sys.executable, "-c", MADE_INTO_ANOTHER_ERROR.format(error=error)],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 128 + signal.SIGHUP
    assert done.stderr == "stopped by SIGHUP; start again with the same command\n"
