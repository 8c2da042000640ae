"""The taggers on one NVIDIA card: steps, kernels by kind, floors, accuracy, attention.

    python -m benchmarks.gpu [--minutes 6] [--out FILE.json] [--only table,kinds] [--models lgatr]
    python -m benchmarks.gpu --quick      tiny networks on the card
    python -m benchmarks.gpu --dry-run    tiny networks on the CPU, to try the code

For a bare machine with torch, Triton and NumPy. The parts are ``card``, ``table`` (training and
inference, launched kernel by kernel and recorded as a CUDA graph), ``attention``, ``kinds``,
``accuracy`` and ``blocks``. The most important measurements come first; what no longer fits into
the minutes is left out and named. The file is written after each measurement. Times are medians
of CUDA events; "recorded" steps are those of the training itself, with stand-in jets that fill
the batch; their kernels include the replayed ones. What fails is an entry of the report.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import signal
import sys
import time
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from benchmarks import gpu_device, gpu_models, gpu_table
from benchmarks.gpu_plan import PARTS, Bench, Task, plan
from data.command import Parser, program

MARGIN = 10.0
"""Seconds kept for the end."""


class OutOfTime(BaseException):
    """The minutes are over. No ``Exception``, which a measurement would report as its own."""


class Report:
    """What was measured so far, in a file that is always whole.

    Parameters
    ----------
    path
        The JSON file, or None.
    budget
        Seconds that may be spent, from now on.
    """

    def __init__(self, path: Path | None, budget: float) -> None:
        self.path, self.begin, self.running = path, time.monotonic(), ""
        self.found: dict[str, Any] = {
            "card": {}, "rates": {}, "budget_s": budget, "elapsed_s": 0.0,
            **{part: [] for part in PARTS if part != "card"}, "skipped": [], "ended": None,
        }  # fmt: skip

    @property
    def left(self) -> float:
        """Seconds until the end."""
        return self.begin + self.found["budget_s"] - time.monotonic()

    def save(self) -> None:
        """Write the file under another name first, so that a killed run leaves the one before."""
        self.found["elapsed_s"] = self.found["budget_s"] - self.left
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        new = self.path.with_name(self.path.name + ".part")
        new.write_text(json.dumps(self.found, indent=1) + "\n")
        os.replace(new, self.path)


def _free(device: torch.device) -> None:
    """Let go of networks and graphs, some of which are in cycles."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _one_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]


def measure(tasks: list[Task], report: Report, device: torch.device) -> None:
    """Run the tasks in order, each if it is likely to end in time."""
    took: dict[str, float] = {}
    for task in tasks:
        expected = took.get(task.kind, task.seconds)
        if expected > report.left - MARGIN:
            report.found["skipped"].append(task.name)
            continue
        report.running = task.name
        begin = time.monotonic()
        row = dict(task.row)
        try:
            row |= task.run()
        except Exception as error:
            row["error"] = _one_line(error)
        took[task.kind] = row["took_s"] = time.monotonic() - begin
        if task.part != "card":
            report.found[task.part].append(row)
        elif "error" in row:
            report.found["card"]["rates_error"] = row["error"]
        report.save()
        print(f"{report.found['elapsed_s']:6.1f} s  {task.name} {row.get('error', '')}",
              file=sys.stderr, flush=True)  # fmt: skip
        try:
            _free(device)
            gpu_device.synchronize(device)
        except RuntimeError as error:  # after an illegal access nothing runs any more
            report.found["ended"] = f"the device is lost after {task.name}: {_one_line(error)}"
            return


def _stop(*_: Any) -> None:
    raise OutOfTime


def options_of(arguments: list[str] | None) -> argparse.Namespace:
    """The command line, checked."""
    parser = Parser("benchmarks.gpu", __doc__)
    parser.add_argument("--minutes", type=float, default=6.0, help="for everything (default 6)")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    parser.add_argument("--only", default=",".join(PARTS), help=f"of {','.join(PARTS)}")
    parser.add_argument("--models", nargs="+", choices=gpu_models.MODELS,
                        default=list(gpu_models.MODELS))  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="tiny networks on the card")
    parser.add_argument("--dry-run", action="store_true", help="tiny networks on the CPU")
    options = parser.parse_args(arguments)
    options.only = options.only.split(",")
    if unknown := set(options.only) - set(PARTS):
        parser.error(f"--only takes {','.join(PARTS)}, not {','.join(sorted(unknown))}")
    if not options.minutes > 0:
        parser.error("--minutes must be positive")
    if not options.dry_run and not torch.cuda.is_available():
        parser.error("no CUDA device here; --dry-run tries the code on the CPU")
    return options


def main(arguments: list[str] | None = None) -> None:
    """Command line; see the module's text."""
    options = options_of(arguments)
    report = Report(options.out, 60 * options.minutes)
    device = torch.device("cpu" if options.dry_run else "cuda")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if device.type == "cuda":
            # The floors are counted on the CPU, but not by kernels that would first be built.
            os.environ.setdefault("LGATR_NATIVE", "0")
            gpu_device.name_kernels()
        bench = Bench(device, options.quick or options.dry_run)
        report.found["card"] = gpu_device.card(device)
        report.found["rates"] = bench.rates
        # A floor takes its times from what the card can do.
        parts = {*options.only, *(["card"] if "kinds" in options.only else [])}
        tasks = [task for task in plan(bench, options.models) if task.part in parts]
        gc.collect()
        gc.freeze()  # what is there already is not looked through again after each task
        before = signal.signal(signal.SIGALRM, _stop)
        signal.setitimer(signal.ITIMER_REAL, max(report.left - MARGIN / 2, 1.0))
        with suppress(OutOfTime):  # one that comes while another error is looked at
            try:
                measure(tasks, report, device)
            except OutOfTime:
                report.found["ended"] = f"the time was up in {report.running}"
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
        gc.unfreeze()
    report.save()
    print(gpu_table.report(report.found))


if __name__ == "__main__":
    with program():
        main()
