"""What a measurement was made on, and how fast that can be at best."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import torch


def description() -> dict[str, object]:
    """Date, processor, threads and versions."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        name = names[0].split(":", 1)[1].strip() if names else name
    return {
        "date": date.today().isoformat(),
        "processor": name,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def _median(run: Callable[[], object], repeats: int = 15) -> float:
    times = []
    for _ in range(repeats + 2):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times[2:])


def ceilings() -> dict[str, float]:
    """Floating-point operations per second of a large float32 product, bytes per second of a copy.

    The product is the faster of the libraries that torch has.
    """
    from lgatr.ops._runtime.matmul import product

    n = 2048
    a, b = torch.randn(n, n), torch.randn(n, n)
    flops = 2 * n**3 / min(_median(lambda: product(a, b)), _median(lambda: a @ b))
    x, y = torch.randn(64_000_000), torch.empty(64_000_000)
    return {"flop_per_s": flops, "byte_per_s": 8 * x.numel() / _median(lambda: y.copy_(x), 5)}
