"""On one device: accuracy of the taggers, kernels of a block, and attention alone."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu_device import kernels, phase_seconds
from benchmarks.gpu_models import (
    BLOCKS,
    TINY_BLOCKS,
    OnTokens,
    Training,
    jets,
    normal_tokens,
    tagger,
    tokens_of,
)
from benchmarks.number_formats import FORMATS, number_format
from benchmarks.speed import batch_lengths
from experiments.data.batch import EventBatch
from experiments.models.token_tagger import Tokens, TokenTagger
from lgatr import Packing
from lgatr.attention import prepare_attention
from lgatr.testing import equivariance_error, random_lorentz

RAPIDITY = 2.0
TRIALS = 3


INPUTS = ("normal", "jets")
"""Normally distributed tokens, as tests have them; and jets, whose masses vanish, so that
invariants are small differences of large numbers."""


def _tokens(network: TokenTagger, batch: EventBatch, inputs: str) -> Tokens:
    tokens = tokens_of(network, batch)
    return normal_tokens(tokens) if inputs == "normal" else tokens


def _double(tokens: Tokens) -> Tokens:
    return replace(tokens, channels=tokens.channels.double(), scalars=tokens.scalars.double())


def relative_difference(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference over the largest entry of ``theirs``."""
    largest = theirs.abs().max().clamp(min=torch.finfo(theirs.dtype).tiny)
    return float((ours.double() - theirs.double()).abs().max() / largest)


def _logits_and_gradients(training: Training) -> tuple[Tensor, list[Tensor]]:
    with torch.no_grad():
        logits = training.run(training.batch)
    training.gradients()
    found = [p.grad for p in training.model.parameters() if p.grad is not None]
    return logits, [g.clone() for g in found]


def accuracy(model: str, format: str, inputs: str, batch: EventBatch, tiny: bool) -> dict[str, Any]:
    """Logits and gradients beside float64, for which there are plain formulas alone on a GPU.

    Returns
    -------
    Largest differences over the largest entry: of the logits; of all gradients together; and of
    the parameter whose gradient is worst for its own size.
    """
    network = tagger(model, tiny).to(batch.fourmomenta.device)
    tokens = _tokens(network, batch, inputs)
    double = OnTokens(copy.deepcopy(network).double(), _double(tokens))
    exact = Training(double, batch, FORMATS["float64"])
    ours = Training(OnTokens(network, tokens), batch, FORMATS[format])
    logits, gradients = _logits_and_gradients(ours)
    logits64, gradients64 = _logits_and_gradients(exact)
    if len(gradients) != len(gradients64):
        raise RuntimeError(f"{len(gradients)} gradients, but {len(gradients64)} in float64")
    largest = max(float(g.abs().max()) for g in gradients64)
    pairs = list(zip(gradients, gradients64, strict=True))
    return {
        "logits": relative_difference(logits, logits64),
        "gradients": max(float((a.double() - b).abs().max()) for a, b in pairs) / largest,
        "worst_parameter": max(
            relative_difference(a, b) for a, b in pairs if float(b.abs().max()) > 1e-6 * largest
        ),
    }


def equivariance(
    model: str, format: str, inputs: str, batch: EventBatch, tiny: bool
) -> dict[str, Any]:
    """How far the network of a tagger is from commuting with boosts of rapidity 2, at worst."""
    device = batch.fourmomenta.device
    network: Any = tagger(model, tiny).to(device).eval()
    tokens = _tokens(network, batch, inputs)

    def outputs(*values: Tensor) -> Any:
        with torch.no_grad(), number_format(FORMATS[format], device.type):
            found = network.network(*values, packing=tokens.packing)
        # Transformations are of the format of what they transform: none is rounded to bf16.
        return tuple(None if x is None else x.float() for x in found)

    generator = torch.Generator().manual_seed(0)
    errors = [
        equivariance_error(
            outputs,
            (tokens.channels, tokens.scalars),
            random_lorentz(RAPIDITY, generator),
            *network.network.representations,
        )
        for _ in range(TRIALS)
    ]
    return {"equivariance": max(errors), "rapidity": RAPIDITY}


def kernels_per_block(model: str, device: torch.device, events: int, tiny: bool) -> dict:
    """Kernels of one block forward and backward, in training: from networks of different depth."""
    deep = TINY_BLOCKS if tiny else BLOCKS
    counts = []
    for blocks in (deep, deep // 2):
        network: TokenTagger = tagger(model, tiny, blocks).to(device)
        training = Training(network, jets(events, device, tiny), FORMATS["float32"])
        for _ in range(2):  # compiles, and chooses among kernels
            training.gradients()
        forward = len(kernels(training.loss, device))
        counts.append((forward, len(kernels(training.gradients, device)) - forward))
    (forward_deep, backward_deep), (forward, backward) = counts
    more = deep - deep // 2
    return {
        "forward": (forward_deep - forward) / more,
        "backward": (backward_deep - backward) / more,
        "forward_of_all": forward_deep,
        "backward_of_all": backward_deep,
    }


def attention(
    backend: str, width: int, heads: int, events: int, dtype: torch.dtype, device: torch.device,
    tiny: bool,
) -> dict:  # fmt: skip
    """Packed self-attention of one layer, in microseconds on the device alone.

    Parameters
    ----------
    backend
        Its name; another one that would run in its place is an error.
    width, heads
        Of queries, keys and values, which lie side by side for each token.
    events
        Jets of 20 to 90 tokens, or a tenth of that if ``tiny``.
    dtype, device
        Of the tensors.
    tiny
        Whether this is to try the code.
    """
    lengths: Iterable[int] = (n // 10 if tiny else n for n in sorted(batch_lengths(events)))
    packing = Packing.from_lengths(tuple(lengths), device)
    attend = prepare_attention(device, dtype, packing=packing, backend=backend, strict=True)
    if attend.backend.name != backend:
        raise RuntimeError(f"{attend.backend.name} would run in place of {backend}")
    generator = torch.Generator().manual_seed(0)
    shape = (4, packing.num_tokens, heads, width)
    q, k, v, probe = torch.randn(shape, generator=generator).to(device, dtype).unbind()
    inputs = tuple(x.detach().requires_grad_() for x in (q, k, v))

    def forward() -> None:
        with torch.no_grad():
            attend(q, k, v)

    def both() -> None:
        torch.autograd.grad(attend(*inputs), inputs, probe)

    return {
        "tokens": packing.num_tokens,
        "forward_us": 1e6 * phase_seconds([forward], device, queued=True)[1],
        "forward_backward_us": 1e6 * phase_seconds([both], device, queued=True)[1],
        "forward_kernels": len(kernels(forward, device)),
        "forward_backward_kernels": len(kernels(both, device)),
    }
