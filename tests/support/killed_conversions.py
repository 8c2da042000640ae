"""Kill a conversion at each of its steps and run it again: ``python killed_conversions.py DIR``.

Converts ``DIR/source`` undisturbed, then once for each step: the process ends at that step as by
SIGKILL, nothing is cleaned up, and the same command is given again. What it leaves must be the same
bytes. Prints the number of steps, and those after which it was not.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sys
from pathlib import Path

from data.convert import main as convert

STEPS = ("replace", "fsync", "mkdir", "unlink")


def contents(target: Path) -> dict[str, bytes]:
    """All files of a conversion, hidden ones too."""
    beside = target.parent.glob(f"*{target.name}*")
    files = [f for path in beside for f in (path.rglob("*") if path.is_dir() else [path])]
    return {str(f.relative_to(target.parent)): f.read_bytes() for f in files if f.is_file()}


def end_at(step: int) -> None:
    """Let this process end before or after the step with this number."""
    count = 0

    def wrap(function):
        def wrapped(*arguments, **options):
            nonlocal count
            for action in (lambda: None, lambda: function(*arguments, **options)):
                if count == step:
                    os._exit(9)
                count += 1
                result = action()
            return result

        return wrapped

    for name in STEPS:
        setattr(os, name, wrap(getattr(os, name)))


def main(folder: Path) -> None:
    os.fsync = lambda _: None  # a killed process loses nothing that the system has
    source = next(folder.glob("source*"))
    name = f"target{source.suffix and '.h5'}"
    with contextlib.redirect_stdout(io.StringIO()):
        convert([str(source), str(folder / "undisturbed" / name)])
        expected = contents(folder / "undisturbed" / name)
        step, wrong = 0, []
        while True:
            target = folder / "killed" / name
            child = os.fork()
            if child == 0:
                end_at(step)
                convert([str(source), str(target)])
                os._exit(0)
            if os.waitpid(child, 0)[1] == 0:
                break
            convert([str(source), str(target)])
            if contents(target) != expected:
                wrong.append(step)
            shutil.rmtree(target.parent)
            step += 1
    print(step, *wrong)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
