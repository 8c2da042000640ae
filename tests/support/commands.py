"""Run our commands as a user does, without paying for the imports each time.

``run("debug=fast")`` is ``python run.py debug=fast``, and ``module("data.convert", ...)`` is
``python -m data.convert ...``: exit status, output and errors of a process of its own. That process
is forked from a server that has imported torch and Lightning already, which saves some five seconds
of CPU time a command. ``fresh=True`` starts a new interpreter: for tests of what happens on import,
and where ``env`` changes what importing finds.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from support import ROOT


def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """``python run.py ARGUMENTS``; options as for :func:`python`."""
    return python(str(ROOT / "run.py"), *arguments, **options)


def module(name: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """``python -m NAME ARGUMENTS``; options as for :func:`python`."""
    return python("-m", name, *arguments, **options)


def python(
    *arguments: str,
    cwd: Path | str = ROOT,
    env: dict[str, str] | None = None,
    fresh: bool = False,
    check: bool = False,
) -> subprocess.CompletedProcess[str]:
    """``python ARGUMENTS`` in the folder ``cwd``.

    ``env`` replaces the environment. With ``check``, the exit status must be 0.
    """
    environment = dict(os.environ if env is None else env)
    paths = [str(ROOT), *filter(None, [environment.get("PYTHONPATH")])]
    environment["PYTHONPATH"] = os.pathsep.join(paths)
    if fresh:
        done = subprocess.run(
            [sys.executable, *arguments], capture_output=True, text=True, cwd=cwd, env=environment
        )
    else:
        done = _forked(list(arguments), str(cwd), environment)
    assert done.returncode == 0 or not check, done.stdout + done.stderr
    return done


def _forked(
    arguments: list[str], cwd: str, environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / name for name in ("stdout", "stderr")]
        request = (arguments, cwd, environment, [str(file) for file in files])
        server = _server()
        assert server.stdin is not None and server.stdout is not None
        print(json.dumps(request), file=server.stdin, flush=True)
        status = int(server.stdout.readline())
        output, errors = (file.read_text() for file in files)
    return subprocess.CompletedProcess(arguments, status, output, errors)


@cache
def _server() -> subprocess.Popen[str]:
    server = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("fork_server.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    atexit.register(server.communicate)  # closes its input, which ends it
    return server
