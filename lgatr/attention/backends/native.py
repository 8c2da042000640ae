"""PyTorch's own scaled dot-product attention, on every device.

Dense batches go to torch as they are. Packed batches are cut into runs of neighbouring events
with equal length; each run is one batched call on a view, so nothing is padded and no dense
block-diagonal mask is ever built. A batch sorted by length has the fewest runs.
"""

from __future__ import annotations

from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from lgatr.attention.backends.base import Backend, Capabilities
from lgatr.attention.spec import AttentionSpec


class _Runs(NamedTuple):
    """Neighbouring events of equal length, in order."""

    events: tuple[int, ...]
    lengths: tuple[int, ...]

    @property
    def tokens(self) -> list[int]:
        return [n * length for n, length in zip(self.events, self.lengths, strict=True)]


class NativeBackend(Backend):
    """See the text of this file."""

    name = "native"
    capabilities = Capabilities(
        features=frozenset({"dense", "packed", "mask", "causal", "dropout", "scale"}),
        devices=frozenset({"cpu", "cuda", "mps"}),
        dtypes=frozenset({torch.float64, torch.float32, torch.bfloat16, torch.float16}),
    )

    def plan(self, spec: AttentionSpec, device: torch.device) -> _Runs | None:
        """The runs of a packed batch; dense batches need no plan."""
        if spec.packing is None:
            return None
        runs = [(len(list(group)), n) for n, group in groupby(spec.packing.lengths)]
        return _Runs(tuple(r[0] for r in runs), tuple(r[1] for r in runs))

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, spec: AttentionSpec, plan: _Runs | None
    ) -> Tensor:
        """See :meth:`Backend.attend`."""
        if plan is None:
            return self._dense(q, k, v, spec, spec.mask)
        # One split is one autograd node whose gradient is one concatenation; slices by index
        # would each allocate and zero-fill a gradient of the whole batch.
        parts = zip(*(x.split(plan.tokens) for x in (q, k, v)), plan.lengths, strict=True)
        outputs = []
        for run_q, run_k, run_v, length in parts:
            q, k, v = (x.unflatten(0, (-1, length)) for x in (run_q, run_k, run_v))
            outputs.append(self._dense(q, k, v, spec, None).flatten(0, 1))
        return torch.cat(outputs)

    @staticmethod
    def _dense(q: Tensor, k: Tensor, v: Tensor, spec: AttentionSpec, mask: Tensor | None) -> Tensor:
        heads = q.shape[-2]
        # Torch wants heads before items; multi-query keys are views, not copies.
        q, k, v = (x.transpose(-3, -2) for x in (q, k, v))
        if k.shape[-3] != heads:
            k, v = (x.expand(*x.shape[:-3], heads, *x.shape[-2:]) for x in (k, v))
        out = F.scaled_dot_product_attention(
            q, k, v, mask, dropout_p=spec.dropout, is_causal=spec.causal, scale=spec.scale
        )
        return out.transpose(-3, -2)


BACKEND = NativeBackend
