"""The least that a training step must compute and move, counted on a CPU.

Products of matrices are counted by torch over the formulas. Bytes are those that the stages of a
network (linear maps, norms, heads, gates, products), or the layers of the transformer, read and
write if nothing between them is written: residual sums, nonlinearities and copies cost nothing.
Both grow linearly with the tokens, so that two small batches give them for any; attention, which
does not, is computed from its shapes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu_models import Training, jets, num_parameters, tagger, tokens_of
from benchmarks.number_formats import FORMATS
from lgatr.attention import Attention
from lgatr.ops._runtime.stage import Fused, Stage

BYTES = 4  # of a float32 number
FORWARD_AND_BACKWARD = (3, 2)
"""How often a step reads or writes the inputs and the outputs of a stage: forward both once,
backward inputs and both gradients."""
ATTENTION_PRODUCTS = 7
"""Products of queries and keys, or of their size, in a step: two forward, four backward, and the
scores once more, which nobody keeps."""
OPTIMIZER_NUMBERS = 7
"""AdamW reads weight, gradient and two moments of each parameter, and writes all but the
gradient."""


def _numbers(values: Any) -> int:
    if isinstance(values, Tensor):
        return values.numel()
    return sum(map(_numbers, values)) if isinstance(values, (tuple, list)) else 0


def _name(stage: Stage) -> str:
    if isinstance(stage, Fused):
        return f"{_name(stage.first)} + {_name(stage.second)}"
    return type(stage).__name__


class Counts:
    """What a step moves, by name of stage in numbers; and the shapes of its attention."""

    def __init__(self) -> None:
        self.moved: dict[str, int] = {}
        self.heads: list[tuple[int, int]] = []
        """Number and width of the heads of each call of attention."""
        self.flops = 0

    def add(self, name: str, inputs: Any, outputs: Any) -> None:
        """Count one stage."""
        read, written = FORWARD_AND_BACKWARD
        numbers = read * _numbers(inputs) + written * _numbers(outputs)
        self.moved[name] = self.moved.get(name, 0) + numbers


@contextmanager
def _counted(counts: Counts, model: nn.Module) -> Iterator[None]:
    """Count the stages of all networks, the layers of this one, and leave attention out."""
    call, attend = Stage.__call__, Attention.__call__
    depth = 0

    def stage_call(self: Stage, *inputs: Tensor | None) -> Any:
        nonlocal depth
        depth += 1
        try:
            outputs = call(self, *inputs)
        finally:
            depth -= 1
        if not depth:  # a joined stage without passes calls its parts
            counts.add(_name(self), inputs, outputs)
        return outputs

    def attention_call(self: Attention, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        counts.heads.append((q.shape[-2], q.shape[-1]))
        return q + k + v

    def layer_call(layer: nn.Module, inputs: Any, outputs: Any) -> None:
        counts.add(type(layer).__name__, inputs, outputs)

    layers = [m for m in model.modules() if isinstance(m, (nn.Linear, nn.LayerNorm))]
    hooks = [layer.register_forward_hook(layer_call) for layer in layers]
    Stage.__call__, Attention.__call__ = stage_call, attention_call  # type: ignore[method-assign]
    try:
        yield
    finally:
        Stage.__call__, Attention.__call__ = call, attend  # type: ignore[method-assign]
        for hook in hooks:
            hook.remove()


def _count(model: Any, events: int) -> tuple[Counts, int]:
    counts, batch = Counts(), jets(events, torch.device("cpu"), tiny=True)
    training = Training(model, batch, FORMATS["float32"])
    # Torch's counter sees the formulas alone, and those alone where it is on.
    with _counted(counts, model), FlopCounterMode(display=False) as counter:
        training.gradients()
    counts.flops = counter.get_total_flops()
    return counts, tokens_of(model, batch).packing.num_tokens


def floor(model: str, events: int, tiny: bool = False) -> dict[str, Any]:
    """Operations and bytes of a training step of some jets, in float32, by part.

    Returns
    -------
    ``parts``: ``flop`` and ``byte`` of attention, matrix products with the bytes of the linear
    stages, the other stages, and the optimizer. ``stages``: bytes by name. ``heads``: number and
    width of the heads of attention.
    """
    network = tagger(model, tiny)
    (small, few), (large, many) = _count(network, 2), _count(network, 6)
    packing = tokens_of(network, jets(events, torch.device("cpu"), tiny)).packing

    def extended(a: float, b: float) -> float:
        return a + (b - a) * (packing.num_tokens - few) / (many - few)

    stages = {name: BYTES * extended(small.moved[name], large.moved[name]) for name in small.moved}
    linear = sum(byte for name, byte in stages.items() if "Linear" in name)
    pairs = sum(n * n for n in packing.lengths)
    wide = sum(heads * width for heads, width in small.heads)
    parts = {
        "attention": {
            "flop": 2.0 * ATTENTION_PRODUCTS * wide * pairs,
            # Queries, keys, values, output; backward those, its gradient, and three gradients.
            "byte": BYTES * 12.0 * wide * packing.num_tokens,
        },
        "matrix products": {"flop": extended(small.flops, large.flops), "byte": linear},
        "other stages": {"flop": 0.0, "byte": sum(stages.values()) - linear},
        "optimizer": {
            "flop": 0.0,
            "byte": float(BYTES * OPTIMIZER_NUMBERS * num_parameters(network)),
        },
    }
    return {
        "tokens": packing.num_tokens,
        "heads": sorted(set(small.heads)),
        "parts": parts,
        "stages": stages,
    }


def with_times(parts: dict[str, dict[str, float]], rates: dict[str, float]) -> dict[str, Any]:
    """The parts of a floor and their sum, in milliseconds on a card of these rates."""
    total = {unit: sum(part[unit] for part in parts.values()) for unit in ("flop", "byte")}
    shown: dict[str, Any] = {}
    for name, part in {**parts, "all": total}.items():
        shown[name] = {"gflop": part["flop"] / 1e9, "gbyte": part["byte"] / 1e9}
        if rates:
            shown[name]["byte_ms"] = 1e3 * part["byte"] / rates["copy_byte_per_s"]
            for kind in ("float32", "tf32", "bf16"):
                rate = rates[f"{kind}_flop_per_s"]
                shown[name][f"{kind}_ms"] = 1e3 * part["flop"] / rate
            shown[name]["three_tf32_ms"] = 3e3 * part["flop"] / rates["tf32_flop_per_s"]
    return shown
