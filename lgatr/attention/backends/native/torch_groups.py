"""Packed attention on CPUs: one call of torch's fused kernel for each group of equal events.

Outputs and gradients are written into their places: nothing is split, and nothing joined.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from lgatr.attention.backends.native.layout import places_of_gradients
from lgatr.ops._runtime.stage import Optionals, Stage, Tensors

_FLASH: Any = getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu", None)
_FLASH_BACKWARD: Any = getattr(
    torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu_backward", None
)


@dataclass(frozen=True, eq=False)
class GroupsStage(Stage):
    """Attention inside groups of events; inputs q ``(T, H, D)``, k and v ``(U, H, D)``.

    Parameters
    ----------
    formula
        The plain formula.
    events, queries, keys
        Of each group: how many events, and how many queries and keys each has.
    causal, scale
        As for :func:`torch.nn.functional.scaled_dot_product_attention`.
    """

    formula: Callable[..., Tensor]
    events: tuple[int, ...]
    queries: tuple[int, ...]
    keys: tuple[int, ...]
    causal: bool
    scale: float | None
    needs_outputs = True

    @staticmethod
    def applies(q: Tensor, k: Tensor, v: Tensor) -> bool:
        """Whether torch's fused kernel exists and takes these tensors."""
        return (
            _FLASH is not None
            and _FLASH_BACKWARD is not None
            and q.device.type == "cpu"
            and q.dtype in (torch.float32, torch.float64)
            and q.shape[1:] == k.shape[1:] == v.shape[1:]
            and q.stride(-1) == k.stride(-1) == v.stride(-1) == 1
        )

    def plain(self, *inputs: Tensor | None) -> Tensors:
        with sdpa_kernel(SDPBackend.MATH):  # the one whose derivatives have derivatives
            return (self.formula(*inputs),)

    def _views(self, queries: Tensors, keys: Tensors) -> Iterator[list[Tensor]]:
        """Views of each group's part of the tensors: ``(events, H, items, D)``."""
        q_start = k_start = 0
        layouts = [[(x, x.stride(), x.storage_offset()) for x in xs] for xs in (queries, keys)]
        _, heads, width = queries[0].shape
        for events, n, m in zip(self.events, self.queries, self.keys, strict=True):
            # One view each instead of a slice, a split and a transposition.
            yield [
                x.as_strided(
                    (events, heads, items, width),
                    (items * token, head, token, one),
                    offset + start * token,
                )
                for group, items, start in zip(layouts, (n, m), (q_start, k_start), strict=True)
                for x, (token, head, one), offset in group
            ]
            q_start, k_start = q_start + events * n, k_start + events * m

    def forward(self, *inputs: Tensor | None) -> tuple[Tensors, Tensors]:
        q, k, v = inputs
        assert q is not None and k is not None and v is not None
        out = torch.empty(q.shape, dtype=q.dtype)
        sums = []
        for q_part, place, k_part, v_part in self._views((q, out), (k, v)):
            result, lse = _FLASH(q_part, k_part, v_part, 0.0, self.causal, scale=self.scale)
            place.copy_(result)
            sums.append(lse)
        return (out,), tuple(sums)

    def backward(
        self, inputs: Optionals, outputs: Tensors, kept: Tensors, grads: Tensors
    ) -> Optionals:
        q, k, v = inputs
        assert q is not None and k is not None and v is not None
        gradients = places_of_gradients(q, k, v)
        of_queries = (grads[0], q, outputs[0], gradients[0])
        views = self._views(of_queries, (k, v, *gradients[1:]))
        for (grad, q_part, out, to_q, k_part, v_part, *to_kv), lse in zip(views, kept, strict=True):
            found = _FLASH_BACKWARD(
                grad, q_part, k_part, v_part, out, lse, 0.0, self.causal, scale=self.scale
            )
            for place, gradient in zip((to_q, *to_kv), found, strict=True):
                place.copy_(gradient)
        return gradients
