"""Former name of :mod:`experiments.archive_run`."""

from __future__ import annotations

from data.command import program
from experiments.archive_run import main

if __name__ == "__main__":
    with program():
        main()
