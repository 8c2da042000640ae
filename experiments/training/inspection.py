"""Inspect a trained model: its symmetry, operations and memory."""

from __future__ import annotations

import math
import resource
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.module_tracker import ModuleTracker

from experiments.data.batch import EventBatch
from experiments.data.features import SETS, compute_features
from lgatr import Packing
from lgatr.testing import SymmetryReport, report


def last_events(batch: EventBatch, count: int) -> EventBatch:
    """The last events of a batch, which are its longest."""
    count = min(count, len(batch))
    lengths = batch.packing.lengths[-count:]
    rows = sum(lengths)
    packing = Packing.from_lengths(lengths).to(batch.fourmomenta.device)
    condition = None if batch.condition is None else batch.condition[-count:]
    columns = {name: values[-count:] for name, values in batch.columns.items()}
    return EventBatch(
        batch.fourmomenta[-rows:], batch.scalars[-rows:], packing, batch.target[-count:],
        condition, columns,
    )  # fmt: skip


def symmetry(model: nn.Module, batch: EventBatch, features: Sequence[str]) -> SymmetryReport:
    """Measure the symmetry of logits as functions of momenta.

    Kinematic features are recomputed from the transformed momenta; particle identification and
    displacements are kept.

    Parameters
    ----------
    model
        Maps a batch to logits; tested as a copy in float64.
    batch
        A few events.
    features
        Names of the scalar features, in order.
    """
    kinematic = [i for i, name in enumerate(features) if name in SETS["kinematics"]]
    names = [features[i] for i in kinematic]

    class Chain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, fourmomenta: Tensor) -> Tensor:
            scalars = batch.scalars.to(fourmomenta.dtype)
            if kinematic:
                scalars = scalars.clone()
                scalars[:, kinematic] = compute_features(fourmomenta, batch.packing, names)
            moved = EventBatch(fourmomenta, scalars, batch.packing, batch.target)
            logits: Tensor = self.model(moved)
            return logits

    return report(Chain(), batch.fourmomenta, inputs="vector", outputs="scalar", trials=3)


def _linear_flops(x: Sequence[int], weight: Sequence[int], *_: Any, **__: Any) -> int:
    """Operations of oneDNN's linear layer, which torch does not count; from shapes."""
    return 2 * math.prod(x) * weight[0]


def _attention_flops(
    q: Sequence[int], k: Sequence[int], v: Sequence[int], *_: Any, **__: Any
) -> int:
    """Operations of attention with ``(..., tokens, width)`` each, which torch does not count."""
    return 2 * math.prod(q[:-1]) * k[-2] * (q[-1] + v[-1])


_UNKNOWN = {
    torch.ops.mkldnn._linear_pointwise: _linear_flops,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
}


class _TotalOnly(ModuleTracker):
    """Module tracker that attributes operations to no module.

    Torch's own registers gradient hooks, which fails without gradients if a parameter, such as a
    class token, is the input of a module.
    """

    def __enter__(self) -> _TotalOnly:
        return self

    def __exit__(self, *_: Any) -> None:
        pass


def flops_per_event(
    model: nn.Module, given: Any, call: Callable[[Any], Any] | None = None
) -> float:
    """Count floating-point operations of matrix products and attention per event, forward.

    As is customary, elementwise operations are left out, and a multiply-add counts as two. What is
    counted are the formulas in plain torch: inside of the counter, they run in place of kernels.

    Parameters
    ----------
    model
        Is counted.
    given
        A batch, or what else ``call`` takes, whose length is the number of events.
    call
        Calls the model; None for the model itself.
    """
    call = model if call is None else call
    training = model.training
    model.eval()
    counter = FlopCounterMode(display=False, custom_mapping=_UNKNOWN)
    counter.mod_tracker = _TotalOnly()
    with torch.no_grad():
        call(given)  # what is built once, on first use, does not count
        with counter:
            call(given)
    model.train(training)
    return counter.get_total_flops() / len(given)


def peak_memory(device: torch.device) -> float:
    """Peak memory so far in GB: of the GPU, or of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
