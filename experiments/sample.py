"""Generate events with a trained flow.

    python -m experiments.sample RUN --events 100000 --out events.h5

FILE ends in ``.h5`` (``momenta`` (events, particles, 4) as (E, px, py, pz) in GeV), ``.npy`` (rows
of numbers), ``.lhe`` or ``.hepmc``. Every event follows from ``--seed`` and its number alone.
Events that fail the cuts of the sample that the run was trained on are generated again; ``--all``
keeps them. If it is interrupted, the same command goes on where it was.
"""

from __future__ import annotations

from pathlib import Path

from data.atomic import check_new
from data.command import Parser, program
from experiments.cli import add_trust, one_line_errors, one_line_warnings, quiet_libraries
from experiments.saved_runs.trust import check_trust
from lgatr.utils.memory import keep_freed_memory


def main(arguments: list[str] | None = None) -> None:
    """Command line; see the module's text."""
    parser = Parser("experiments.sample", __doc__)
    parser.add_argument("run", type=Path, help="folder of a trained run")
    parser.add_argument("--events", type=int, required=True, help="number of events")
    parser.add_argument("--out", type=Path, required=True, help=".h5, .npy, .lhe or .hepmc")
    parser.add_argument("--seed", type=int, default=0, help="random seed (default 0)")
    parser.add_argument("--batch", type=int, default=1000, help="events at once (default 1000)")
    parser.add_argument("--all", action="store_true", help="keep events that fail the cuts")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")
    add_trust(parser)
    options = parser.parse_args(arguments)
    for name in ("events", "batch"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} must be 1 or more, not {getattr(options, name)}")
    if not 0 <= options.seed < 2**63:
        parser.error(f"--seed must be 0 or more, not {options.seed}")
    quiet_libraries()
    one_line_warnings()
    keep_freed_memory()
    with one_line_errors():
        from experiments.training.sampling import sample, suffixes

        if options.out.suffix not in suffixes():
            parser.error(f"--out {options.out}: must end in {', '.join(suffixes())}")
        if not options.overwrite:
            check_new(options.out)
        check_trust(options.trust)
        text = sample(
            options.run, options.events, options.out, options.seed, options.batch,
            not options.all, options.trust,
        )  # fmt: skip
    print(text)


if __name__ == "__main__":
    with program():
        main()
