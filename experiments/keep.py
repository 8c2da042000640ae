"""Former name of :mod:`experiments.archive_run`."""

from __future__ import annotations

from data.signals import one_line_interrupts
from experiments.archive_run import main

if __name__ == "__main__":
    with one_line_interrupts():
        main()
