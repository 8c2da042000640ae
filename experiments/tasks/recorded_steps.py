"""Training steps as CUDA graphs: the launches of a step are recorded once and replayed.

A step of a small network is some thousand launches, each of which costs the host 50 microseconds
and the device five; replayed, they cost the host nothing. A graph has fixed shapes, so each batch
is filled up with events of stand-in particles to the next of few sizes. Events do not see each
other, and the logits of stand-ins are cut off: results are those of the batch alone.

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
"""Particles; batches of the published sizes are filled up by some 5 %."""
FILLER_LENGTH = 64
"""Particles of a stand-in event, about; long ones would cost more attention than the jets."""
RECORDED_ATTENTION = ("auto", "native", "xformers", "varlen")
"""Backends that need no more than offsets and limits; compiled ones are not recorded unasked."""
LENGTH_STEP = 64
"""Limits on the length of events are multiples of this many particles."""


class Shape(NamedTuple):
    """What a graph is recorded for."""

    events: int
    tokens: int
    longest: int


def _rounded_up(number: int, step: int) -> int:
    return -(-number // step) * step


def fill(batch: EventBatch, step: int) -> tuple[EventBatch, Shape]:
    """Fill a batch up with stand-in events to a multiple of ``step`` particles.

    Stand-ins are particles along the z axis with an energy of 1 GeV and no features.

    Parameters
    ----------
    batch
        Events, the number of which is kept by all batches of a training.
    step
        Particles.

    Returns
    -------
    filled
        The events of ``batch`` first, then those of stand-ins, as many for each batch; its targets
        are those of ``batch``.
    shape
        Shared by most batches.
    """
    like, packing = batch.fourmomenta, batch.packing
    fillers = max(step // FILLER_LENGTH, 1)
    tokens = _rounded_up(packing.num_tokens + fillers, step)
    rest = tokens - packing.num_tokens
    # As equal as they can be: some have one particle more.
    count = torch.arange(1, fillers + 1, device=packing.device)
    ends = packing.num_tokens + count * rest // fillers
    ptr = torch.cat([packing.ptr, ends.to(packing.ptr.dtype)])
    longest = _rounded_up(max(packing.max_length, -(-rest // fillers)), LENGTH_STEP)
    stand_ins = like.new_zeros(rest, 4)
    stand_ins[:, 0] = stand_ins[:, 3] = 1.0
    filled = EventBatch(
        torch.cat([like, stand_ins]),
        torch.cat([batch.scalars, batch.scalars.new_zeros(rest, batch.scalars.shape[1])]),
        BoundedPacking(ptr, tokens, longest),
        batch.target,
    )
    return filled, Shape(packing.num_events + fillers, tokens, longest)


class _Tensors(nn.Module):
    """A model as a function of tensors of one shape."""

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
    """The module, with forward and backward pass recorded on the GPU, in the memory of ``pool``."""
    # The recorder works on a stream of its own, which the gradients' nodes then name: intended.
    quiet = getattr(torch.autograd.graph, "set_warn_on_accumulate_grad_stream_mismatch", None)
    if quiet is not None:
        quiet(False)
    recorded: Forward = torch.cuda.make_graphed_callables(  # type: ignore[assignment]
        module, arguments, allow_unused_input=True, pool=pool
    )
    return recorded


class GraphedForward:
    """A model in training whose launches are recorded for each shape of batches.

    Parameters
    ----------
    model
        Maps an :class:`EventBatch` to logits ``(B, outputs)``.
    step
        See :func:`fill`.
    most
        Graphs to keep. They share the memory of their activations, since one step ends before the
        next begins. Batches of further shapes run launch by launch.
    recorder
        Makes a function of tensors from a module and sample arguments.
    """

    def __init__(
        self, model: nn.Module, step: int, most: int = 16, recorder: Callable[..., Forward] = record
    ) -> None:
        self.model, self.step, self.most, self.recorder = model, step, most, recorder
        self.graphs: dict[Shape, Forward] = {}
        self.pool = torch.cuda.graph_pool_handle() if torch.cuda.is_available() else None

    def __call__(self, batch: EventBatch) -> Tensor:
        """Logits ``(B, outputs)`` of the batch."""
        filled, shape = fill(batch, self.step)
        arguments = (filled.fourmomenta, filled.scalars, filled.packing.ptr)
        if shape not in self.graphs:
            if len(self.graphs) == self.most:
                logits: Tensor = self.model(batch)
                return logits
            # Samples of their own: the recorder takes their memory for the graph's inputs.
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
    """Options that would have to be otherwise for recorded steps."""
    needed = {
        "trainer.accumulate_grad_batches=1": accumulate == 1,
        "trainer.devices=1": processes == 1,
        "trainer.precision=32-true": precision == "32-true",
    }
    return [text for text, given in needed.items() if not given]


def refuse(accumulate: int, processes: int, precision: str) -> None:
    """Raise ``UserError`` where recorded steps would give wrong gradients.

    Replays write gradients to the same memory each time, where accumulated ones already lie;
    hooks of distributed training and the casts of autocast are not part of a recorded step.
    """
    if needed := _obstacles(accumulate, processes, precision):
        raise UserError(f"task.graph_step needs {' and '.join(needed)}; or set task.graph_step=0")


def default_step(
    model: nn.Module, batches: Any, accumulate: int, processes: int, precision: str
) -> int:
    """What ``task.graph_step=null`` stands for on a GPU: recorded steps wherever they are safe.

    Parameters
    ----------
    model
        With ``recordable = True`` where its forward pass depends on shapes and offsets alone.
    batches
        The data; batches by token budget have ever other numbers of events, so shapes never recur.
    accumulate, processes, precision
        See :func:`refuse`.
    """
    attention = getattr(getattr(model, "attention", None), "name", "auto")
    safe = (
        getattr(model, "recordable", False)
        and attention in RECORDED_ATTENTION
        and not getattr(batches, "token_budget", 0)
        and not _obstacles(accumulate, processes, precision)
    )
    return DEFAULT_STEP if safe else 0
