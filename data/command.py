"""Command lines of all programs: errors in one line, exit status 2."""

from __future__ import annotations

import argparse
import sys
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """Options of ``python -m MODULE``, described by the module's text.

    Parameters
    ----------
    program
        The module.
    text
        Its text, shown by ``--help``.
    """

    def __init__(self, program: str, text: str | None) -> None:
        super().__init__(
            prog=f"python -m {program}",
            description=text,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    def error(self, message: str) -> NoReturn:
        """End with one line instead of argparse's usage block."""
        print(f"error: {' '.join(message.split())}; see --help", file=sys.stderr)
        raise SystemExit(2)
