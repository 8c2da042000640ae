"""Launch options of the CUDA kernels, measured once on each kind of GPU and remembered.

Which block size and how many warps are fastest depends on the GPU and on the number of channels.
The first launch of a kernel for some channels tries all candidates on the data at hand; the answer
is kept for the process, and in a file for later ones. ``LGATR_TUNE=0`` takes the first candidate,
and so does whatever cannot be timed: Triton's interpreter on a CPU, or a size first seen while a
CUDA graph is captured (runs before the capture choose).
"""

from __future__ import annotations

import math
import os
import statistics
import zlib
from collections.abc import Callable, Hashable
from functools import cache
from pathlib import Path

import torch

from lgatr.utils.cache import add_to_table, cache_directory, read_table

Options = dict[str, int]
Launch = Callable[[Options], None]
Timer = Callable[[Callable[[], None]], float]

SWITCH = "LGATR_TUNE"
_WARM, _RUNS = 2, 7
_PAUSE = 4_000_000  # clock cycles, some milliseconds
_NO_ROOM = ("OutOfResources", "PTXASError")


def seconds_on_gpu(run: Callable[[], None]) -> float:
    """Time of a launch on the device itself, in seconds: median of some.

    Launches are queued behind a pause, so that what the host needs for each does not count. In a
    recorded step nothing else does; launched one by one, all candidates cost the host the same.
    """
    for _ in range(_WARM):
        run()
    torch.cuda._sleep(_PAUSE)
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(_RUNS + 1)]
    for mark in marks[:-1]:
        mark.record()
        run()
    marks[-1].record()
    marks[-1].synchronize()
    times = [a.elapsed_time(b) / 1e3 for a, b in zip(marks, marks[1:], strict=False)]
    return statistics.median(times)


@cache
def _device_name(index: int) -> str:
    import triton

    name = torch.cuda.get_device_name(index)
    return f"{name}, Triton {triton.__version__}"


def path() -> Path:
    """The file that remembers."""
    return cache_directory() / "launch_options.json"


def _remembered(key: str) -> object:
    try:
        return read_table(path()).get(key)
    except OSError:
        return None


def _remember(key: str, options: Options) -> None:
    """Add an entry; a folder that cannot be written costs a measurement, not a run."""
    try:
        add_to_table(path(), key, options)
    except OSError:
        pass


class Tuned:
    """A kernel with the launch options to choose from.

    Parameters
    ----------
    name
        Of the kernel, in the file.
    candidates
        Options; the first is taken where nothing can be measured.
    timer
        Measures a launch.
    """

    def __init__(
        self, name: str, candidates: tuple[Options, ...], timer: Timer = seconds_on_gpu
    ) -> None:
        self.name, self.candidates, self.timer = name, candidates, timer
        self._chosen: dict[Hashable, Options] = {}
        self._ready: dict[Hashable, Options] = {}

    def options(
        self, device: str | None, sizes: tuple[int, ...], launch: Launch, measure: bool = True
    ) -> Options:
        """The options for some sizes.

        Parameters
        ----------
        device
            Name of the GPU and compiler, or None where nothing can be measured.
        sizes
            What the best options depend on, such as numbers of channels; of tokens at most a
            rough size, as each new one is measured.
        launch
            Runs the kernel with given options. It may run several times, so a kernel must not
            add to its outputs.
        measure
            Whether it may do so now; else what was chosen before counts.
        """
        # Tests exchange the candidates of a kernel, and versions of this library do.
        tried = zlib.crc32(repr(self.candidates).encode())
        single = len(self.candidates) == 1
        if single or device is None or os.environ.get(SWITCH, "1") == "0":
            return self.candidates[0]
        if (device, sizes, tried) not in self._chosen:
            if not measure:
                return self.candidates[0]
            key = f"{device}: {self.name} {', '.join(map(str, sizes))} of {tried:08x}"
            remembered = _remembered(key)
            chosen = next((o for o in self.candidates if o == remembered), None)
            if chosen is None:
                chosen = min(self.candidates, key=lambda o: self._seconds(o, launch))
                _remember(key, chosen)
            self._chosen[device, sizes, tried] = chosen
        return self._chosen[device, sizes, tried]

    def _seconds(self, options: Options, launch: Launch) -> float:
        """Time of a launch; without end where the GPU has no room for it."""
        try:
            return self.timer(lambda: launch(options))
        except Exception as error:
            # By name: Triton need not be installed here. The first candidate must always run.
            if type(error).__name__ not in _NO_ROOM or options is self.candidates[0]:
                raise
            return math.inf

    def __call__(self, x: torch.Tensor, sizes: tuple[int, ...], launch: Launch) -> None:
        """Launch with the best options for the device of ``x``."""
        if not x.is_cuda:
            launch(self.options(None, sizes, launch))
            return
        key = x.get_device(), sizes, id(self.candidates)
        found = self._ready.get(key)
        if found is None:
            measure = not torch.cuda.is_current_stream_capturing()
            found = self.options(_device_name(key[0]), sizes, launch, measure)
            if measure:
                self._ready[key] = found
        launch(found)
