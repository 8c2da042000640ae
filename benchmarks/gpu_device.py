"""A device to measure on: times, kernels by kind, and what the card can do at best.

On a CPU, where all of this is only tried out, the clock stands in for CUDA's events and torch's
operations for kernels.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity
from torch.profiler import profile as torch_profile

import lgatr
from benchmarks.kernels import copy_bandwidth
from benchmarks.machine import description
from lgatr.utils.cache import cache_directory

Run = Callable[[], object]

WARM = 3
LEAST_RUNS, MOST_RUNS = 5, 25
SECONDS = 0.5
"""Aimed at for each measurement, so that slow steps run fewer times."""
PAUSE = 40_000_000
"""Clock cycles, some 20 ms: the time that the host has to queue short work ahead of the card."""
OURS = "lgatr_"
"""What the names of our kernels begin with; see :func:`name_kernels`."""
KINDS: dict[str, tuple[str, ...]] = {
    "attention": ("fmha", "flash", "attention", "sdpa", OURS + "attention"),
    "optimizer": ("multi_tensor_apply", "adam", "lpnorm"),
    "matrix products": ("gemm", "gemv", "nvjet", "cutlass", "splitk", "xmma", "cublas",
                        "aten::mm", "aten::addmm", "aten::bmm", "aten::linear"),
    "copies and cat": ("memcpy", "memset", "copy", "catarray", "aten::cat", "fill", "index",
                       "gather", "scatter"),
    "reductions": ("reduce", "norm", "gammabeta", "softmax", "aten::sum", "aten::mean"),
    "elementwise": ("elementwise", "aten::"),
}  # fmt: skip
"""Kinds of kernels by parts of their names, in lower case; the first that fits counts."""


def synchronize(device: torch.device) -> None:
    """Wait until a GPU has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def phase_seconds(
    phases: Sequence[Run], device: torch.device, queued: bool = False
) -> tuple[list[float], float, int]:
    """How long the parts of a step take on the device: medians over several steps.

    Parameters
    ----------
    phases
        The parts, in order.
    device
        Where they compute.
    queued
        Whether steps wait until all of them are queued, so that the host's time does not count.

    Returns
    -------
    parts
        Seconds of each part.
    total
        Seconds of a step.
    runs
        Number of steps that were measured.
    """
    for _ in range(WARM):
        for phase in phases:
            phase()
    synchronize(device)
    begin = time.perf_counter()
    for phase in phases:
        phase()
    synchronize(device)
    once = time.perf_counter() - begin
    runs = min(max(int(SECONDS / max(once, 1e-9)), LEAST_RUNS), MOST_RUNS)
    laps = (_event_laps if device.type == "cuda" else _clock_laps)(phases, runs, queued)
    parts = [statistics.median(lap[i] for lap in laps) for i in range(len(phases))]
    return parts, statistics.median(map(sum, laps)), runs


def _event_laps(phases: Sequence[Run], runs: int, queued: bool) -> list[list[float]]:
    marks = [[torch.cuda.Event(enable_timing=True) for _ in phases] for _ in range(runs)]
    end = torch.cuda.Event(enable_timing=True)
    if queued:
        torch.cuda._sleep(PAUSE)
    for row in marks:
        for mark, phase in zip(row, phases, strict=True):
            mark.record()
            phase()
    end.record()
    end.synchronize()
    flat = [*(mark for row in marks for mark in row), end]
    times = [a.elapsed_time(b) / 1e3 for a, b in zip(flat, flat[1:], strict=False)]
    width = len(phases)
    return [times[i : i + width] for i in range(0, len(times), width)]


def _clock_laps(phases: Sequence[Run], runs: int, queued: bool) -> list[list[float]]:
    laps = []
    for _ in range(min(runs, 3)):
        lap = []
        for phase in phases:
            begin = time.perf_counter()
            phase()
            lap.append(time.perf_counter() - begin)
        laps.append(lap)
    return laps


def kernels(run: Run, device: torch.device) -> list[tuple[str, float]]:
    """Name and seconds of each kernel, copy and fill that a call leaves to the device."""
    synchronize(device)
    cuda = device.type == "cuda"
    found: list[tuple[str, float]] = []
    # Events of the host make reading the record slow, so they are asked for only where there is
    # nothing without them.
    for activities in (
        [[ProfilerActivity.CUDA], [ProfilerActivity.CPU, ProfilerActivity.CUDA]]
        if cuda
        else [[ProfilerActivity.CPU]]
    ):
        with torch_profile(activities=activities) as recorded:
            run()
            synchronize(device)
        wanted = DeviceType.CUDA if cuda else DeviceType.CPU
        for event in recorded.events() or ():
            # Ranges that somebody named, and waiting, are no kernels.
            named = getattr(event, "is_user_annotation", False) or "Optimizer." in event.name
            if event.device_type != wanted or named or event.name.endswith(" Sync"):
                continue
            if cuda or event.name.startswith("aten::"):
                span = event.time_range
                found.append((event.name, (span.end - span.start) * 1e-6))
        if found:
            break
    return found


def name_kernels() -> None:
    """Give our Triton kernels names that say whose they are: four are called alike.

    Only before they are compiled, and only if this Triton has a place for it. What was compiled
    under the old names is not looked for.
    """
    os.environ.setdefault("TRITON_CACHE_DIR", str(cache_directory() / "triton_named"))
    try:
        from triton.runtime.jit import JITFunction

        from lgatr.ops._runtime.triton_launch import Kernel
    except ImportError:
        return
    for part in pkgutil.walk_packages(lgatr.__path__, "lgatr."):
        if "triton" not in part.name.rsplit(".", 1)[-1]:
            continue
        names = part.name.split(".")
        owner = names[2] if names[1] == "ops" else names[1]
        try:
            members = vars(importlib.import_module(part.name))
        except Exception:  # a kernel that this machine cannot load has no time to be named
            continue
        for kernel in members.values():
            kernel = kernel.fn if isinstance(kernel, Kernel) else kernel
            if isinstance(kernel, JITFunction) and kernel.fn.__module__ == part.name:
                name = f"{OURS}{owner}_{kernel.fn.__name__.strip('_')}"
                place = "_repr" if hasattr(kernel, "_repr") else "repr"
                setattr(kernel, place, lambda _, name=name: name)


def kind_of(name: str) -> str:
    """The kind of a kernel: one of :data:`KINDS`, ours by their names, or the start of its name."""
    low = name.lower()
    if low.startswith(OURS) and not low.startswith(OURS + "attention"):
        return f"Triton: {name[len(OURS) :]}"
    for kind, parts in KINDS.items():
        if any(part in low for part in parts):
            return kind
    return "other"


def by_kind(found: list[tuple[str, float]]) -> dict[str, dict[str, Any]]:
    """Milliseconds, share and number of kernels of each kind, the longest first."""
    total = sum(seconds for _, seconds in found) or 1.0
    kinds: dict[str, list[float]] = {}
    names: dict[str, dict[str, float]] = {}
    for name, seconds in found:
        kind = kind_of(name)
        kinds.setdefault(kind, []).append(seconds)
        longest = names.setdefault(kind, {})
        longest[name[:120]] = longest.get(name[:120], 0.0) + seconds
    return {
        kind: {
            "ms": 1e3 * sum(times),
            "share": sum(times) / total,
            "kernels": len(times),
            "longest_ms": {
                name: 1e3 * t for name, t in sorted(names[kind].items(), key=lambda x: -x[1])[:4]
            },
        }
        for kind, times in sorted(kinds.items(), key=lambda item: -sum(item[1]))
    }


def rates(device: torch.device, tiny: bool) -> dict[str, float]:
    """What the device can do: bytes per second of a copy, operations per second of products."""
    size = 128 if tiny else 8192
    if device.type == "cuda" and not tiny:
        found = {"copy_byte_per_s": copy_bandwidth()}
    else:
        x = torch.ones(1 << 20, device=device)
        y = torch.empty_like(x)
        _, seconds, _ = phase_seconds([lambda: y.copy_(x)], device)
        found = {"copy_byte_per_s": 8 * x.numel() / seconds}
    before = torch.backends.cuda.matmul.allow_tf32
    try:
        for name, dtype, tf32 in (
            ("float32", torch.float32, False),
            ("tf32", torch.float32, True),
            ("bf16", torch.bfloat16, False),
        ):
            torch.backends.cuda.matmul.allow_tf32 = tf32
            a, b = torch.randn(2, size, size, device=device).to(dtype).unbind()
            out = torch.empty_like(a)

            def product(a: Any = a, b: Any = b, out: Any = out) -> None:
                torch.mm(a, b, out=out)

            found[f"{name}_flop_per_s"] = 2 * size**3 / phase_seconds([product], device)[1]
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
    return found


def _answer(*command: str) -> str | None:
    """First line that a program prints, or None where it does not exist or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return next(iter(done.stdout.splitlines()), None)


def card(device: torch.device) -> dict[str, Any]:
    """Date, names and versions, and the commit where it is known."""
    found: dict[str, Any] = {
        **description(),
        "commit": _answer("git", "describe", "--always", "--dirty", "--abbrev=40"),
        "cuda": torch.version.cuda,
    }
    try:
        found["triton"] = importlib.import_module("triton").__version__
    except ImportError:
        found["triton"] = None
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        query = ("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
        found |= {
            "capability": f"{properties.major}.{properties.minor}",
            "memory_gb": properties.total_memory / 1e9,
            "multiprocessors": properties.multi_processor_count,
            "driver": _answer(*query),
        }
    return found
