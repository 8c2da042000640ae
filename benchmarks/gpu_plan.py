"""What is measured on a card, the most important first."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch

from benchmarks import gpu_checks, gpu_device, gpu_floor, gpu_models
from benchmarks.number_formats import FORMATS
from lgatr.attention import backends as registered_backends

PARTS = ("card", "table", "attention", "kinds", "accuracy", "blocks")
PRECISIONS = ("float32", "TF32", "bf16 autocast", "bf16 autocast, naive_amp")
OTHER_BACKENDS = ("varlen", "flash", "xformers")
HEAD_WIDTHS = {"lgatr": (8, 72), "lgatr_slim": (8, 28), "transformer": (8, 16)}
"""Number and width of the heads of the published networks."""


class Task(NamedTuple):
    """One measurement.

    Parameters
    ----------
    part
        One of :data:`PARTS`.
    kind
        Tasks of one kind take about equally long.
    seconds
        Expected of the first of its kind.
    row
        What is measured.
    run
        Measures, and returns further entries of the row.
    """

    part: str
    kind: str
    seconds: float
    row: dict[str, Any]
    run: Callable[[], dict[str, Any]]

    @property
    def name(self) -> str:
        """For people."""
        return ", ".join([self.part, *map(str, self.row.values())])


class Bench:
    """All measurements on one device.

    Parameters
    ----------
    device
        The device.
    tiny
        Small networks and batches, to try the code.
    """

    def __init__(self, device: torch.device, tiny: bool) -> None:
        self.device, self.tiny = device, tiny
        self.batches = (8, 4) if tiny else (512, 128)
        self.rates: dict[str, float] = {}

    def card(self) -> dict[str, Any]:
        """Rates of the device."""
        self.rates.update(gpu_device.rates(self.device, self.tiny))
        return {}

    def count(self, run: Callable[[], object]) -> int | None:
        """Kernels, copies and fills of a call; None where the profiler fails: times still count."""
        try:
            return len(gpu_device.kernels(run, self.device))
        except Exception:
            return None

    def step(self, model: str, jets: int, format: str, mode: str, way: str) -> dict[str, Any]:
        """Time, kernels and memory of a step."""
        cuda = self.device.type == "cuda"
        if cuda:
            torch.cuda.reset_peak_memory_stats()
        network = gpu_models.tagger(model, self.tiny).to(self.device)
        batch = gpu_models.jets(jets, self.device, self.tiny)
        kind = gpu_models.Training if mode == "training" else gpu_models.Inference
        step = kind(network, batch, FORMATS[format], way == "recorded")
        training = isinstance(step, gpu_models.Training)
        phases = [step.gradients, step.update] if training else [step.step]
        parts, total, runs = gpu_device.phase_seconds(phases, self.device)
        return {
            "ms": 1e3 * total,
            "gradients_ms": 1e3 * parts[0] if training else None,
            "jets_per_s": jets / total,
            "runs": runs,
            "kernels": self.count(step.step),
            "particles": batch.packing.num_tokens,
            "tokens": gpu_models.tokens_of(network, batch).packing.num_tokens,
            "peak_memory_gb": torch.cuda.max_memory_allocated() / 1e9 if cuda else None,
        }

    def kinds(self, model: str, jets: int, format: str) -> dict[str, Any]:
        """Time by kind of kernel in a launched training step, and its floor."""
        network = gpu_models.tagger(model, self.tiny).to(self.device)
        batch = gpu_models.jets(jets, self.device, self.tiny)
        training = gpu_models.Training(network, batch, FORMATS[format])
        for _ in range(gpu_device.WARM):
            training.step()
        found = gpu_device.kernels(training.step, self.device)
        floor = gpu_floor.floor(model, jets, self.tiny)
        return {
            "gpu_ms": 1e3 * sum(seconds for _, seconds in found),
            "kernels": len(found),
            "kinds": gpu_device.by_kind(found),
            "floor": gpu_floor.with_times(floor["parts"], self.rates),
            "floor_byte_by_stage": floor["stages"],
            "heads": floor["heads"],
        }

    def accuracy(self, model: str, format: str, inputs: str) -> dict[str, Any]:
        """Differences from float64, and from equivariance."""
        batch = gpu_models.jets(self.batches[-1], self.device, self.tiny)
        found = gpu_checks.accuracy(model, format, inputs, batch, self.tiny)
        if gpu_models.is_equivariant(gpu_models.tagger(model, True)):
            found |= gpu_checks.equivariance(model, format, inputs, batch, self.tiny)
        return found

    def attention(self, backend: str, jets: int, heads: int, width: int, dtype: str) -> dict:
        """One layer of attention."""
        kind = getattr(torch, dtype)
        return gpu_checks.attention(backend, width, heads, jets, kind, self.device, self.tiny)

    def blocks(self, model: str) -> dict[str, Any]:
        """Kernels of a block."""
        return gpu_checks.kernels_per_block(model, self.device, self.batches[-1], self.tiny)


def _attention_tasks(bench: Bench, backends: tuple[str, ...], models: list[str]) -> list[Task]:
    compiled = backends == ("flex",)
    known = registered_backends()
    backends = tuple(name for name in backends if known[name].import_error() is None)
    return [
        Task("attention", f"attention {backend}", 45.0 if compiled else 2.0, row,
             partial(bench.attention, **row))
        for model in models
        for backend in backends
        for dtype in ("float32", "bfloat16")
        for jets in bench.batches
        for heads, width in [HEAD_WIDTHS[model]]
        for row in [{"backend": backend, "jets": jets, "heads": heads, "width": width,
                     "dtype": dtype}]
    ]  # fmt: skip


def plan(bench: Bench, models: list[str]) -> list[Task]:
    """All measurements, the most important first."""
    large, small = bench.batches

    def steps(jets: int, format: str, mode: str) -> list[Task]:
        return [
            # The first step of a network compiles its kernels and chooses among them.
            Task("table", f"{model} {mode} {way}", 10.0, row, partial(bench.step, **row))
            for model in models
            for way in ("launched", "recorded")
            for row in [{"model": model, "jets": jets, "format": format, "mode": mode, "way": way}]
        ]

    def of_models(part: str, seconds: float, run: Callable, **row: Any) -> list[Task]:
        rows = [{"model": model, **row} for model in models]
        return [Task(part, f"{part} {r['model']}", seconds, r, partial(run, **r)) for r in rows]

    def accuracies(format: str) -> list[Task]:
        return [
            task
            for inputs in gpu_checks.INPUTS
            for task in of_models("accuracy", 8.0, bench.accuracy, format=format, inputs=inputs)
        ]

    tasks = [Task("card", "card", 10.0, {}, bench.card)]
    tasks += steps(large, "float32", "training")
    tasks += _attention_tasks(bench, ("native",), models)
    tasks += of_models("kinds", 8.0, bench.kinds, jets=large, format="float32")
    tasks += accuracies("float32")
    for jets, mode in ((small, "training"), (small, "inference"), (large, "inference")):
        tasks += steps(jets, "float32", mode)
    tasks += of_models("blocks", 8.0, bench.blocks)
    for format in PRECISIONS[:0:-1]:  # bf16 before TF32
        tasks += accuracies(format)
        tasks += steps(large, format, "training")
    for jets, mode in ((small, "training"), (small, "inference"), (large, "inference")):
        for format in PRECISIONS[:0:-1]:
            tasks += steps(jets, format, mode)
    tasks += _attention_tasks(bench, OTHER_BACKENDS, models)
    return tasks + _attention_tasks(bench, ("flex",), models)
