"""Simulations in several processes, with a progress bar."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Job = TypeVar("Job")
Made = TypeVar("Made")


def simulated(
    make: Callable[[Job], Made],
    jobs: Sequence[Job],
    count: Callable[[Made], int],
    processes: int | None,
    title: str,
    total: int,
) -> Iterator[Made]:
    """What ``make`` returns for all jobs, in the order in which they are done.

    Parameters
    ----------
    make
        A function of a module, called in other processes.
    jobs
        Its arguments.
    count
        How many events or jets a result holds.
    processes
        How many processes; None for as many as there are cores.
    title, total
        Of the progress bar.

    Raises
    ------
    RuntimeError
        If a process was killed.
    """
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    context = multiprocessing.get_context("spawn")
    with Progress(*columns) as progress, ProcessPoolExecutor(processes, context) as pool:
        bar = progress.add_task(title, total=total)
        try:
            for done in as_completed([pool.submit(make, job) for job in jobs]):
                found = done.result()
                progress.advance(bar, count(found))
                yield found
        except BrokenProcessPool as error:
            raise RuntimeError(
                "a process that simulates was killed (out of memory?); lower --processes"
            ) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
