"""Another name for ``python -m data.generate toptagging``."""

from __future__ import annotations

import sys

from data.generate import main
from data.signals import one_line_interrupts

if __name__ == "__main__":
    with one_line_interrupts():
        main(["toptagging", *sys.argv[1:]])
