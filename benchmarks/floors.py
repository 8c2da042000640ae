"""Where the time of a training step goes, beside what the machine could do at best.

On a CPU by kind of operation; on a GPU by kernel, with the share of the time in which it idles.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, record_function
from torch.profiler import profile as torch_profile

import lgatr
from benchmarks.machine import ceilings
from benchmarks.speed import MODELS, batch_lengths
from lgatr.ops._runtime.choice import Operation
from lgatr.ops._runtime.cpu import KERNELS

GROUPS = {
    "matrix products": ("_linear_pointwise", "aten::mm", "aten::addmm", "aten::bmm"),
    "attention": ("_scaled_dot_product", "native::attention"),
    "kernels in C++": ("native::",),
    "arithmetic by element": ("mul", "add", "sub", "neg", "abs", "sgn", "sign", "gelu", "rsqrt",
                              "clamp", "sum", "layer_norm", "where", "masked_fill", "sigmoid"),
    "moving and filling": ("copy", "cat", "fill", "zero", "clone", "contiguous", "index"),
}  # fmt: skip


def idle_share(busy: Iterable[tuple[float, float]], start: float, end: float) -> float:
    """Share of the time from ``start`` to ``end`` outside all intervals, which may overlap."""
    covered, last = 0.0, start
    for begin, stop in sorted(busy):
        begin, stop = max(begin, last), min(stop, end)
        if stop > begin:
            covered, last = covered + stop - begin, stop
    return 1.0 - covered / (end - start)


def _profile_gpu(model: str, step: Callable[[], None], steps: int = 10) -> None:
    """Print the kernels of some training steps, and how long the GPU idles between them."""
    for _ in range(3):
        step()
    torch.cuda.synchronize()
    with torch_profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as recorded:
        for _ in range(steps):
            step()
        torch.cuda.synchronize()
    kernels = [e for e in recorded.events() if e.device_type == DeviceType.CUDA]
    spans = [(e.time_range.start, e.time_range.end) for e in kernels]
    start, end = min(s for s, _ in spans), max(e for _, e in spans)
    idle = idle_share(spans, start, end)
    print(f"\n{model}: step {(end - start) / steps * 1e-6:.4f} s, {len(kernels) // steps} kernels, "
          f"GPU idle {idle:.0%} of the time")  # fmt: skip
    print(recorded.key_averages().table(sort_by="self_device_time_total", row_limit=25))


def profile(model: str, events: int, device: str = "cpu") -> None:
    """Print time by kind of operation, for one training step."""
    network, arguments, _ = MODELS[model]
    net = getattr(lgatr, network)(**arguments).to(device)
    lengths = batch_lengths(events)
    packing = lgatr.Packing.from_lengths(lengths, device)
    inputs = net.random_inputs(packing.num_tokens)

    def step() -> None:
        net.zero_grad(set_to_none=True)
        out, out_s = net(*inputs, packing=packing)
        (out.square().mean() + (0.0 if out_s is None else out_s.mean())).backward()

    if torch.device(device).type == "cuda":
        _profile_gpu(model, step)
        return
    for _ in range(3):
        step()
    start = time.perf_counter()
    step()
    wall = time.perf_counter() - start
    with (
        _named_kernels(),
        torch_profile(activities=[ProfilerActivity.CPU], record_shapes=True) as recorded,
    ):
        step()
    seconds: dict[str, float] = defaultdict(float)
    calls: dict[str, int] = defaultdict(int)
    flops = 0.0
    for event in recorded.key_averages(group_by_input_shape=True):
        group = _group(event.key)
        seconds[group] += event.self_cpu_time_total * 1e-6
        calls[group] += event.count
        flops += event.count * _flops(event.key, event.input_shapes)
    best = ceilings()
    print(f"\n{model}: {packing.num_tokens} particles, step {wall:.3f} s "
          f"(recorded {sum(seconds.values()):.3f} s)")  # fmt: skip
    print(f"machine: {best['flop_per_s'] / 1e9:.0f} GFLOP/s, {best['byte_per_s'] / 1e9:.0f} GB/s")
    print(f"{'':26}{'seconds':>10}{'share':>8}{'calls':>8}{'floor':>10}")
    total = sum(seconds.values())
    for group, value in sorted(seconds.items(), key=lambda item: -item[1]):
        floor = f"{flops / best['flop_per_s']:10.3f}" if group == "matrix products" else ""
        print(f"{group:26}{value:10.3f}{value / total:8.0%}{calls[group]:8}{floor}")


@contextmanager
def _named_kernels() -> Iterator[None]:
    """Make the kernels in C++, which torch knows nothing of, show up in its profile."""
    Operation.load_all()
    originals = {name: kernel.load(torch.float32) for name, kernel in KERNELS.items()}

    def named(name: str) -> Callable[..., Any]:
        def function(*arguments: Any) -> Any:
            with record_function(f"native::{name}"):
                return originals[name](*arguments)

        return function

    for name, kernel in KERNELS.items():
        kernel.functions[torch.float32] = named(name)
    try:
        yield
    finally:
        for name, kernel in KERNELS.items():
            kernel.functions[torch.float32] = originals[name]


def _group(name: str) -> str:
    for group, parts in GROUPS.items():
        if any(part in name for part in parts):
            return group
    return "views, Python, autograd"


def _flops(name: str, shapes: list[list[int]]) -> float:
    """Of a matrix product of tensors of these shapes."""
    two = [s for s in shapes if len(s) >= 2]
    if len(two) < 2 or not any(part in name for part in GROUPS["matrix products"]):
        return 0.0
    a, b = two[-2:] if name == "aten::addmm" else two[:2]
    rows = 1
    for n in a[:-1]:
        rows *= n
    columns = b[0] if "_linear_pointwise" in name else b[-1]
    return 2.0 * rows * a[-1] * columns
