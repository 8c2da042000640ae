"""Taggers of the published sizes, jets like those of top tagging, and steps of both.

The sizes stand here and not only in ``config/model``: a bare machine has no Hydra to read those. A
test holds the two together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.number_formats import Format, matrix_products, number_format
from benchmarks.speed import batch_lengths
from experiments.data.batch import DataSpec, EventBatch
from experiments.models.lgatr import LGATrTagger
from experiments.models.lgatr_slim import SlimTagger
from experiments.models.symmetry import SymmetryBreaking
from experiments.models.token_tagger import NetworkTagger, Tokens, TokenTagger, event_tokens
from experiments.models.transformer import Transformer
from experiments.options.attention_choice import AttentionChoice
from experiments.tasks.recorded_steps import DEFAULT_STEP, Forward, GraphedForward, record
from lgatr import LGATr, LGATrSlim, Packing

MODELS = ("lgatr", "lgatr_slim", "transformer")
SPEC = DataSpec(0, ("qcd", "top"))
BLOCKS = 12
TINY_BLOCKS = 2
UNIT = 20.0  # GeV
JET_PT = 550.0  # GeV
_ATTENTION = AttentionChoice("auto", False)


def tagger(model: str, tiny: bool = False, blocks: int | None = None) -> TokenTagger:
    """A tagger with weights from a fixed seed, on the CPU.

    Parameters
    ----------
    model
        One of :data:`MODELS`.
    tiny
        Few channels, to try the code; else the published size.
    blocks
        Number of blocks, where it is not that of the size.
    """
    torch.manual_seed(0)
    blocks = blocks or (TINY_BLOCKS if tiny else BLOCKS)
    heads = 2 if tiny else 8
    if model == "transformer":
        width = 4 if tiny else 16
        return Transformer(SPEC, blocks, heads, width, 4, 0.0, _ATTENTION, UNIT)
    if model == "lgatr":
        network = partial(
            LGATr,
            num_blocks=blocks,
            hidden_mv_channels=4 if tiny else 16,
            hidden_s_channels=4 if tiny else 32,
            attention={"num_heads": heads, "attn_ratio": 2, "head_scale": True},
            mlp={"mlp_ratio": 2},
            primitives={"subgroup": True},
        )
        breaking = SymmetryBreaking("xyplane", True, True, "tokens")
        return LGATrTagger(SPEC, network, breaking, _ATTENTION, UNIT)
    slim = partial(
        LGATrSlim,
        num_blocks=blocks,
        hidden_v_channels=4 if tiny else 32,
        hidden_s_channels=8 if tiny else 96,
        num_heads=heads,
        mlp_ratio=4,
    )
    breaking = SymmetryBreaking("lightlike", True, True, "tokens")
    return SlimTagger(SPEC, slim, breaking, _ATTENTION, UNIT)


def jets(events: int, device: torch.device, tiny: bool = False) -> EventBatch:
    """A batch of jets of 550 GeV, always the same, sorted by length as the loader does.

    Particles are massless: energy and momentum cancel each other as in real jets.

    Parameters
    ----------
    events
        Number of jets of 20 to 90 particles (28,866 in 512).
    device
        Where they lie.
    tiny
        Jets of a tenth of the particles.
    """
    lengths = sorted(batch_lengths(events))
    if tiny:
        lengths = [n // 10 for n in lengths]
    generator = torch.Generator().manual_seed(0)
    draw = partial(torch.randn, generator=generator, dtype=torch.float64)
    packing = Packing.from_lengths(lengths)
    event, total = packing.batch_index(), packing.num_tokens
    shares = draw(total).mul(1.5).exp()
    pt = JET_PT * shares / shares.new_zeros(events).index_add(0, event, shares)[event]
    axis = draw(events, 2).clamp(-2, 2) * torch.tensor([0.8, 1.5])
    eta, phi = (axis[event] + 0.2 * draw(total, 2)).unbind(1)
    momenta = torch.stack([pt * eta.cosh(), pt * phi.cos(), pt * phi.sin(), pt * eta.sinh()], 1)
    target = torch.randint(0, 2, (events,), generator=generator)
    return EventBatch(momenta.float(), torch.zeros(total, 0), packing, target).to(device)


def tokens_of(model: TokenTagger, batch: EventBatch) -> Tokens:
    """What the network inside a tagger sees: particles, references and global tokens."""
    momenta = batch.fourmomenta / model.momentum_unit
    particles = model.embed(momenta).to(model.references.dtype)
    return event_tokens(batch, particles, model.references, model.as_channels)


def normal_tokens(tokens: Tokens) -> Tokens:
    """Tokens of the same shapes with normally distributed numbers, always the same."""
    generator = torch.Generator().manual_seed(0)

    def drawn(x: Tensor) -> Tensor:
        return torch.randn(x.shape, generator=generator).to(x)

    return replace(tokens, channels=drawn(tokens.channels), scalars=drawn(tokens.scalars))


class OnTokens(nn.Module):
    """A tagger of tokens that are given, whatever the batch."""

    def __init__(self, model: TokenTagger, tokens: Tokens) -> None:
        super().__init__()
        self.model, self.tokens = model, tokens

    def forward(self, batch: EventBatch) -> Tensor:
        """Logits ``(B, outputs)``."""
        logits: Tensor = self.model.logits(self.tokens)
        return logits


def num_parameters(model: nn.Module) -> int:
    """Numbers that the optimizer changes."""
    return sum(p.numel() for p in model.parameters())


def is_equivariant(model: TokenTagger) -> bool:
    """Whether there is a network inside whose inputs and outputs transform."""
    return isinstance(model, NetworkTagger)


class InFormat(nn.Module):
    """A tagger whose forward pass is in a number format.

    Autocast lies inside of what is recorded: outside, torch would keep casts of weights from one
    replay to the next.
    """

    def __init__(self, model: nn.Module, format: Format) -> None:
        super().__init__()
        self.model, self.format = model, format

    def forward(self, batch: EventBatch) -> Tensor:
        """Logits ``(B, 1)`` in float32, or float64 for such a tagger."""
        with number_format(self.format, batch.fourmomenta.device.type):
            logits: Tensor = self.model(batch)
        return logits if logits.dtype == torch.float64 else logits.float()


def record_forward(module: nn.Module, arguments: tuple[Tensor, ...], pool: Any = None) -> Forward:
    """Record a forward pass without gradients on the GPU, in the memory of ``pool``."""
    with torch.no_grad():
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):  # kernels are compiled and chosen before the recording
                module(*arguments)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool):
            logits: Tensor = module(*arguments)

    def replay(*values: Tensor) -> Tensor:
        for own, value in zip(arguments, values, strict=True):
            own.copy_(value)
        graph.replay()
        return logits

    return replay


def _unrecorded(module: nn.Module, arguments: tuple[Tensor, ...], pool: Any = None) -> Forward:
    """Stands for recorders where there is no GPU."""
    return module


def _forward(model: InFormat, recorded: bool, recorder: Callable[..., Forward]) -> Any:
    if not recorded:
        return model
    if next(model.parameters()).device.type != "cuda":
        recorder = _unrecorded
    return GraphedForward(model, DEFAULT_STEP, recorder=recorder)


class Training:
    """Training steps of a tagger on one batch, launched or recorded.

    Parameters
    ----------
    model
        On the device of the batch; it is put into training mode.
    batch
        The jets.
    format
        Number format of the forward pass, and of products in the backward pass.
    recorded
        Whether forward and backward pass are replayed from a CUDA graph, of the jets and as many
        stand-ins as a training adds.
    """

    def __init__(
        self, model: nn.Module, batch: EventBatch, format: Format, recorded: bool = False
    ) -> None:
        self.model, self.batch, self.format = model.train(), batch, format
        cuda = batch.fourmomenta.is_cuda
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=cuda)
        self.run = _forward(InFormat(model, format).train(), recorded, record)

    def loss(self) -> Tensor:
        """Mean cross entropy."""
        logits = self.run(self.batch).squeeze(-1)
        return F.binary_cross_entropy_with_logits(logits, self.batch.target.to(logits.dtype))

    def gradients(self) -> None:
        """Forward and backward pass."""
        self.optimizer.zero_grad(set_to_none=True)
        with matrix_products(self.format):
            self.loss().backward()

    def update(self) -> None:
        """The optimizer's part of a step."""
        self.optimizer.step()

    def step(self) -> None:
        """All of a step."""
        self.gradients()
        self.update()


class Inference:
    """Logits of a tagger without gradients, launched or recorded; parameters as of Training."""

    def __init__(
        self, model: nn.Module, batch: EventBatch, format: Format, recorded: bool = False
    ) -> None:
        self.batch, self.format = batch, format
        self.run = _forward(InFormat(model.eval(), format).eval(), recorded, record_forward)

    def step(self) -> None:
        """One forward pass."""
        with torch.no_grad(), matrix_products(self.format):
            self.run(self.batch)
