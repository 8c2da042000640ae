"""Another name for ``python -m data.generate toptagging``."""

from __future__ import annotations

import sys

from data.command import program
from data.generate import main

if __name__ == "__main__":
    with program():
        main(["toptagging", *sys.argv[1:]])
