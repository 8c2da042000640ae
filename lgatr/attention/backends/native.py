"""PyTorch's own scaled dot-product attention, on every device.

Dense batches go to torch as they are. Packed batches are cut into runs of neighbouring events
with equal length; each run is one batched call on a view, so nothing is padded and no dense
block-diagonal mask is ever built. A batch sorted by length has the fewest runs.

While torch traces a program (compilation, export) the lengths are data, not numbers; there the same
computation is one operator of its own, :func:`lgatr.kernels.packed.packed_attention`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lgatr.attention.backends.base import Backend, Capabilities
from lgatr.attention.spec import AttentionSpec
from lgatr.kernels.packed import attention_by_runs, dense_attention, packed_attention, runs_of


class NativeBackend(Backend):
    """See the text of this file."""

    name = "native"
    capabilities = Capabilities(
        features=frozenset({"dense", "packed", "cross", "mask", "causal", "dropout", "scale"}),
        devices=frozenset({"cpu", "cuda", "mps"}),
        dtypes=frozenset({torch.float64, torch.float32, torch.bfloat16, torch.float16}),
    )

    def plan(self, spec: AttentionSpec, device: torch.device) -> None:
        """Nothing to prepare: the runs follow from the lengths, which the packing keeps."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor, spec: AttentionSpec, plan: None) -> Tensor:
        """See :meth:`Backend.attend`."""
        queries, keys = spec.packing, spec.key_packing
        if queries is None or keys is None:
            return dense_attention(q, k, v, spec.mask, spec.causal, spec.dropout, spec.scale)
        if torch.compiler.is_compiling():
            if spec.dropout > 0.0:
                raise ValueError("a compiled network has no dropout of packed attention weights")
            return packed_attention(q, k, v, queries.ptr, keys.ptr, spec.causal, spec.scale)
        runs = runs_of(queries.lengths, keys.lengths)
        return attention_by_runs(q, k, v, runs, spec.causal, spec.dropout, spec.scale)


BACKEND = NativeBackend
