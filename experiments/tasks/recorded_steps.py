"""Record training steps as CUDA graphs: kernels are launched once and replayed afterwards.

A step of a small network launches some thousand kernels, each of which costs the host 50
microseconds and the device five; a replay costs the host nothing. A graph has fixed shapes, so each
batch is padded with events of dummy particles to one of few sizes. Attention does not cross events
and the logits of padding events are dropped, so results are those of the batch alone.

Legend: T particles, B events.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from experiments.data.batch import EventBatch
from experiments.errors import UserError
from lgatr.attention import BoundedPacking

Forward = Callable[[Tensor, Tensor, Tensor], Tensor]

DEFAULT_STEP = 512
"""Particles; batches of the published sizes grow by some 5 %."""
PADDING_EVENT_LENGTH = 64
"""Approximate particles per padding event; long ones would cost more attention than jets."""
RECORDED_ATTENTION = ("auto", "native", "xformers", "varlen")
"""Backends that need offsets and limits only; compiled ones are not recorded by default."""
LENGTH_STEP = 64
"""The maximum length of events is rounded up to a multiple of this many particles."""


class Shape(NamedTuple):
    """Shapes that a graph is recorded for."""

    events: int
    tokens: int
    longest: int


def _rounded_up(number: int, step: int) -> int:
    return -(-number // step) * step


def pad_batch(batch: EventBatch, step: int) -> tuple[EventBatch, Shape]:
    """Pad a batch with dummy events to a multiple of ``step`` particles.

    Dummy particles move along the z axis with an energy of 1 GeV; their features are zero.

    Parameters
    ----------
    batch
        All batches of a training must have the same number of events.
    step
        Number of particles.

    Returns
    -------
    padded
        The events of ``batch``, then a fixed number of padding events; targets of ``batch`` only.
    shape
        Its shape, which most batches share.
    """
    like, packing = batch.fourmomenta, batch.packing
    padding_events = max(step // PADDING_EVENT_LENGTH, 1)
    tokens = _rounded_up(packing.num_tokens + padding_events, step)
    rest = tokens - packing.num_tokens
    # Lengths differ by one particle at most.
    count = torch.arange(1, padding_events + 1, device=packing.device)
    ends = packing.num_tokens + count * rest // padding_events
    ptr = torch.cat([packing.ptr, ends.to(packing.ptr.dtype)])
    longest = _rounded_up(max(packing.max_length, -(-rest // padding_events)), LENGTH_STEP)
    dummies = like.new_zeros(rest, 4)
    dummies[:, 0] = dummies[:, 3] = 1.0
    padded = EventBatch(
        torch.cat([like, dummies]),
        torch.cat([batch.scalars, batch.scalars.new_zeros(rest, batch.scalars.shape[1])]),
        BoundedPacking(ptr, tokens, longest),
        batch.target,
        columns=batch.columns,
    )
    return padded, Shape(packing.num_events + padding_events, tokens, longest)


class _Tensors(nn.Module):
    """A model as a function of tensors of fixed shape."""

    def __init__(self, model: nn.Module, shape: Shape) -> None:
        super().__init__()
        self.model, self.shape = model, shape
        self.train(model.training)

    def forward(self, fourmomenta: Tensor, scalars: Tensor, ptr: Tensor) -> Tensor:
        packing = BoundedPacking(ptr, self.shape.tokens, self.shape.longest)
        nothing = ptr.new_zeros(0)
        logits: Tensor = self.model(EventBatch(fourmomenta, scalars, packing, nothing))
        return logits


def record(module: nn.Module, arguments: tuple[Tensor, ...], pool: Any = None) -> Forward:
    """Record forward and backward pass of a module on the GPU, in the memory of ``pool``."""
    # Recording uses its own stream, about which autograd nodes would warn.
    quiet = getattr(torch.autograd.graph, "set_warn_on_accumulate_grad_stream_mismatch", None)
    if quiet is not None:
        quiet(False)
    recorded: Forward = torch.cuda.make_graphed_callables(  # type: ignore[assignment]
        module, arguments, allow_unused_input=True, pool=pool
    )
    return recorded


class GraphedForward:
    """A model in training mode with a CUDA graph for each shape of batches.

    Parameters
    ----------
    model
        Maps an :class:`EventBatch` to logits ``(B, outputs)``.
    step
        As of :func:`pad_batch`.
    max_graphs
        Maximum number of graphs, which share the memory of their activations. Batches of further
        shapes run without a graph.
    recorder
        Makes a function of tensors from a module and sample arguments.
    """

    def __init__(
        self,
        model: nn.Module,
        step: int,
        max_graphs: int = 16,
        recorder: Callable[..., Forward] = record,
    ) -> None:
        self.model, self.step, self.max_graphs, self.recorder = model, step, max_graphs, recorder
        self.graphs: dict[Shape, Forward] = {}
        self.pool = torch.cuda.graph_pool_handle() if torch.cuda.is_available() else None

    def __call__(self, batch: EventBatch) -> Tensor:
        """Logits ``(B, outputs)`` of the batch."""
        padded, shape = pad_batch(batch, self.step)
        arguments = (padded.fourmomenta, padded.scalars, padded.packing.ptr)
        if shape not in self.graphs:
            if len(self.graphs) == self.max_graphs:
                logits: Tensor = self.model(batch)
                return logits
            # Clones, because the graph keeps the memory of its sample inputs.
            samples = tuple(x.clone() for x in arguments)
            try:
                graph = self.recorder(_Tensors(self.model, shape), samples, self.pool)
            except RuntimeError as error:
                raise UserError(
                    f"a training step of {shape.tokens} particles cannot be recorded as a CUDA "
                    f"graph ({str(error).splitlines()[0]}); start again with "
                    "task.graph_step=0"
                ) from error
            self.graphs[shape] = graph
        return self.graphs[shape](*arguments)[: len(batch)]


def _obstacles(accumulate: int, processes: int, precision: str) -> list[str]:
    """Settings that recorded steps need and the run does not have."""
    needed = {
        "trainer.accumulate_grad_batches=1": accumulate == 1,
        "trainer.devices=1": processes == 1,
        "trainer.precision=32-true": precision == "32-true",
    }
    return [text for text, given in needed.items() if not given]


def check_recordable(accumulate: int, processes: int, precision: str) -> None:
    """Raise :class:`UserError` where recorded steps would compute wrong gradients.

    Replays overwrite the memory of gradients, which breaks accumulation; hooks of distributed
    training and casts of autocast are not part of a graph.
    """
    if needed := _obstacles(accumulate, processes, precision):
        raise UserError(f"task.graph_step needs {' and '.join(needed)}; or set task.graph_step=0")


def default_step(
    model: nn.Module, batches: Any, accumulate: int, processes: int, precision: str
) -> int:
    """The value that ``task.graph_step=null`` stands for on a GPU: record steps where it is safe.

    Parameters
    ----------
    model
        Has ``recordable = True`` if its forward pass depends on shapes and offsets only.
    batches
        The data module; with a token budget, the number of events differs from batch to batch and
        shapes do not recur.
    accumulate, processes, precision
        As of :func:`check_recordable`.
    """
    attention = getattr(getattr(model, "attention", None), "name", "auto")
    safe = (
        getattr(model, "recordable", False)
        and attention in RECORDED_ATTENTION
        and not getattr(batches, "token_budget", 0)
        and not _obstacles(accumulate, processes, precision)
    )
    return DEFAULT_STEP if safe else 0
