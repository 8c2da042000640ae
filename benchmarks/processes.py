"""Networks in processes of their own, measured in turn."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


class Worker:
    """A process with one network; see :mod:`benchmarks.speed_worker`."""

    def __init__(self, job: dict[str, Any], library: Path, folder: Path) -> None:
        self.source = folder / f"{len(list(folder.iterdir()))}.json"
        self.source.write_text(json.dumps(job))
        script = str(Path(__file__).with_name("speed_worker.py"))
        paths = [str(library), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.process = subprocess.Popen(
            [sys.executable, script, str(self.source)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, what: str) -> float:
        """One measurement."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the process of {self.source} ended; see its message above")
        return float(json.loads(line))

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()
