"""The simplest attention backend: one event after the other, by the formula."""

from __future__ import annotations

import torch
from torch import Tensor

from lgatr.attention import AttentionSpec, Backend, Capabilities


class LoopBackend(Backend):
    """Attention of packed events in a Python loop."""

    name = "loop"
    priority = -100  # only who asks for it gets it
    capabilities = Capabilities(
        features=frozenset({"packed", "cross"}),
        devices=frozenset({"cpu", "cuda"}),
        dtypes=frozenset({torch.float32, torch.float64}),
    )

    def plan(
        self, spec: AttentionSpec, device: torch.device
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Lengths of queries and keys; made once for all layers."""
        return spec.packing.lengths, spec.key_packing.lengths

    def attend(self, q: Tensor, k: Tensor, v: Tensor, spec: AttentionSpec, plan) -> Tensor:
        """Softmax of the scaled scores, event by event."""
        queries, keys = plan
        outputs = []
        for a, b, c in zip(q.split(queries), k.split(keys), v.split(keys), strict=True):
            scores = torch.einsum("thd,uhd->htu", a, b) / q.shape[-1] ** 0.5
            outputs.append(torch.einsum("htu,uhd->thd", scores.softmax(-1), c))
        return torch.cat(outputs)
