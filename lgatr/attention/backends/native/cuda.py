"""Packed attention on CUDA by the kernels in :mod:`.triton_events`: which patterns, and the stage.

Legend: T query tokens, U key tokens, B events, H heads, D head width.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from lgatr.attention.backends.native.score_terms import ScoreTerms
from lgatr.attention.pattern.masks import Band
from lgatr.attention.pattern.packing import Packing
from lgatr.attention.pattern.spec import AttentionSpec
from lgatr.ops._runtime.choice import TRITON
from lgatr.ops._runtime.stage import Optionals, Stage, Tensors, with_dense_rows

FORMATS = (torch.float32, torch.bfloat16, torch.float16)
WIDEST = 128
"""Head width: a tile of queries and one of keys must fit the registers and the shared memory."""

LONGEST = 1024
"""Longest event for which these kernels are faster than torch's, which is for long sequences."""

_FARTHEST = 1 << 31
"""Places inside of an event are numbers of 32 bits."""


@dataclass(frozen=True, eq=False)
class PackedEvents(Stage):
    """Attention inside events; inputs q ``(T, H, D)``, k and v ``(U, H, D)``, on CUDA.

    Parameters
    ----------
    formula
        The plain formula.
    queries, keys
        The events.
    band
        Which keys are seen, or None for all.
    terms
        Changes of the scores.
    scale
        Of the scores; None means :math:`1 / \\sqrt{D}`.
    """

    formula: Callable[..., Tensor]
    queries: Packing
    keys: Packing
    band: Band | None
    terms: ScoreTerms
    scale: float | None
    needs_outputs = True

    def runs_on(self, x: Tensor) -> bool:
        """CUDA tensors of the kernels' formats, where Triton is installed."""
        return x.is_cuda and x.dtype in FORMATS and TRITON.problem(torch.float32) is None

    def accepts(self, q: Tensor, k: Tensor, v: Tensor) -> bool:
        """Whether the kernels take tensors of these shapes and formats."""
        longest = max(self.queries.max_length, self.keys.max_length)
        return (
            q.shape[1:] == k.shape[1:] == v.shape[1:]
            and q.dtype == k.dtype == v.dtype
            and 0 < q.shape[2] <= WIDEST
            and longest * max(x.stride(0) for x in (q, k, v)) < _FARTHEST
            and self.passes(q) is not None
        )

    def plain(self, *inputs: Tensor | None) -> Tensors:
        return (self.formula(*inputs),)

    def scale_of(self, q: Tensor) -> float:
        """The factor of the scores of these queries."""
        return 1.0 / math.sqrt(q.shape[-1]) if self.scale is None else float(self.scale)

    def forward(self, *inputs: Tensor | None) -> tuple[Tensors, Tensors]:
        q, k, v = with_dense_rows(inputs)
        out, *kept = _launches().attention(self, q, k, v)
        return (out,), (*kept, *self.terms.tensors)

    def backward(
        self, inputs: Optionals, outputs: Tensors, kept: Tensors, grads: Tensors
    ) -> Optionals:
        q, k, v, out, grad = with_dense_rows((*inputs, *outputs, *grads))
        lse, largest, *_ = kept
        found: Tensors = _launches().attention_gradients(self, (q, k, v), out, grad, lse, largest)
        return found


def _launches() -> Any:
    """The module that imports Triton."""
    return import_module(f"{__package__}.triton_launch")


def packed_events(spec: AttentionSpec, formula: Callable[..., Tensor]) -> PackedEvents | None:
    """The stage for a pattern of packed events, or None if the kernels do not compute it."""
    queries, keys = spec.packing, spec.key_packing
    if queries is None or keys is None or spec.dropout > 0.0:
        return None
    band = None if spec.mask is None else spec.mask.band()
    if spec.mask is not None and band is None:
        return None
    terms = ScoreTerms.of(spec.score)
    if terms is None:
        return None
    return PackedEvents(formula, queries, keys, band, terms, spec.scale)
