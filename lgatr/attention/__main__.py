"""``python -m lgatr.attention``: which backends run here, what they can do, and which is fastest.

With ``--measure`` every usable backend attends to events of the lengths in a file, packed and (on
the native backend) padded: by itself, or inside the network that ``--model`` names. The fastest is
written down, and ``backend="auto"`` takes it from then on.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, NoReturn

import torch

from lgatr.attention import measured_choice
from lgatr.attention.pattern.packing import Packing
from lgatr.attention.registry import backends
from lgatr.attention.tools.event_lengths import read_lengths
from lgatr.attention.tools.measure import Job, attention_job, measure, network_job
from lgatr.attention.tools.table import markdown, text
from lgatr.utils.output import quiet_output


class _Parser(argparse.ArgumentParser):
    """Print errors in one line."""

    def error(self, message: str) -> NoReturn:
        print(f"error: {' '.join(message.split())}; see --help", file=sys.stderr)
        raise SystemExit(2)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m lgatr.attention", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    device = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", default=device, help=f"cpu, cuda … (default {device})")
    parser.add_argument("--measure", type=Path, metavar="DATA", help="file with lengths of events")
    parser.add_argument(
        "--model", type=Path, metavar="DIR", help="measure a network that save_pretrained wrote"
    )
    parser.add_argument("--events", type=int, default=128, help="events in a batch (default 128)")
    parser.add_argument("--heads", type=int, default=8, help="attention heads (default 8)")
    parser.add_argument("--width", type=int, default=72, help="width of a head (default 72)")
    parser.add_argument("--dtype", default="float32", help="number format (default float32)")
    parser.add_argument("--repeats", type=int, default=5, help="timed calls of each (default 5)")
    parser.add_argument("--markdown", action="store_true", help="print the tables for a page")
    return parser


def main(arguments: list[str] | None = None) -> None:
    """Command line; see the module's text."""
    options = _parser().parse_args(arguments)
    try:
        backends()
    except ValueError as error:  # of another package
        sys.exit(f"error: {error}")
    if options.markdown:
        print(markdown())
        return
    try:
        where = torch.device(options.device)
        torch.empty(0, device=where)
    except (RuntimeError, AssertionError):
        sys.exit(f"error: --device {options.device} is not there; try --device cpu")
    for name in ("events", "heads", "width", "repeats"):
        if getattr(options, name) < 1:
            sys.exit(f"error: --{name} must be at least 1")
    print(text(where))
    if options.measure is None:
        return
    try:
        lengths = read_lengths(options.measure)[: options.events]
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    dtype = getattr(torch, options.dtype, None)
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        sys.exit(f"error: --dtype {options.dtype} is no number format of torch to compute in")
    packing = Packing.from_lengths(lengths)
    job, what = _job(options, where, dtype)
    print(
        f"\n{len(lengths)} events of {min(lengths)} to {max(lengths)} tokens, {what}, "
        f"{options.dtype} on {where.type}"
    )

    def show(line: str) -> None:
        print(line, file=sys.stderr)

    width = options.width if options.model is None else None
    results = measure(job, packing, where, dtype, options.repeats, show, width)
    print(f"\n{'':24}{'forward':>12}{'with backward':>16}")
    for name, seconds in sorted(results.items(), key=lambda item: item[1].both):
        print(f"{name:24}{1e3 * seconds.forward:9.2f} ms{1e3 * seconds.both:13.2f} ms")
    packed = {n: t for n, t in results.items() if n.endswith("packed")}
    best = min(packed, key=lambda n: packed[n].both).split(",")[0]
    if results["native, padded"].both < packed[f"{best}, packed"].both:
        print("padding is faster here: events are few, short or nearly equal")
    try:
        target = measured_choice.save_fastest_backend(where, dtype, True, best)
    except OSError as error:
        print(f"use attention={best}; it could not be remembered ({error.strerror})")
    else:
        print(f"use attention={best}; backend=auto will from now on ({target})")


def _job(options: Any, device: torch.device, dtype: torch.dtype) -> tuple[Job, str]:
    """What to time, and its name."""
    if options.model is None:
        title = f"{options.heads} heads of {options.width}"
        return attention_job(options.heads, options.width, device, dtype), title
    from lgatr.nets.base import Network

    try:
        net = Network.from_pretrained(options.model, device).to(dtype).train()
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    return network_job(net), f"{type(net).__name__} of {options.model}"


if __name__ == "__main__":
    with quiet_output():
        main()
