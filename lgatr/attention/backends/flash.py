"""The package flash-attn: packed and dense sequences in half precision on CUDA.

FlashAttention 3 is used where its package is installed and the pattern needs nothing that only
version 2 has (dropout, ALiBi).
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lgatr.attention.backends.base import Backend, Capabilities
from lgatr.attention.backends.cu_seqlens import (
    bottom_right_band,
    pad_to_common_width,
    unsupported_band,
    varlen_arguments,
    window_of,
)
from lgatr.attention.pattern.scores import ALiBi, SoftCap
from lgatr.attention.pattern.spec import AttentionSpec

VERSION_2, VERSION_3 = "flash_attn", "flash_attn_interface"


class FlashPlan(NamedTuple):
    """Which function of which module, and its keyword arguments."""

    module: str
    function: str
    arguments: dict[str, Any]


def lower(spec: AttentionSpec, device: torch.device, newest: bool) -> FlashPlan:
    """The call that runs ``spec``; ``newest`` allows version 3."""
    dense_causal = spec.packing is None and spec.causal
    window = (-1, 0) if dense_causal else window_of(bottom_right_band(spec))
    # The kernels skip more work when told that a window is plain causality.
    causal = window == (-1, 0)
    arguments: dict[str, Any] = {"causal": causal, "window_size": (-1, -1) if causal else window}
    if spec.scale is not None:
        arguments["softmax_scale"] = spec.scale
    if isinstance(spec.score, SoftCap):
        arguments["softcap"] = spec.score.cap
    old: dict[str, Any] = {}
    if isinstance(spec.score, ALiBi):
        old["alibi_slopes"] = spec.score.slopes.to(device, torch.float32)
    if spec.dropout > 0.0:
        old["dropout_p"] = spec.dropout
    if spec.packing is not None:
        offsets = varlen_arguments(spec, device)
        names = ("cu_seqlens_q", "cu_seqlens_k", "max_seqlen_q", "max_seqlen_k")
        arguments.update(zip(names, offsets[:4], strict=True))
    function = "flash_attn_func" if spec.packing is None else "flash_attn_varlen_func"
    return FlashPlan(VERSION_3 if newest and not old else VERSION_2, function, arguments | old)


class FlashBackend(Backend):
    """FlashAttention 2 and 3, on CUDA in half precision."""

    name = "flash"
    priority = 20
    capabilities = Capabilities(
        features=frozenset(
            {
                "dense",
                "packed",
                "cross",
                "causal",
                "causal_bottom_right",
                "window",
                "softcap",
                "alibi",
                "dropout",
                "scale",
            }
        ),
        devices=frozenset({"cuda"}),
        dtypes=frozenset({torch.bfloat16, torch.float16}),
        max_head_width=256,
    )

    @classmethod
    def import_error(cls) -> str | None:
        """Whether the package is there, without importing it."""
        if any(importlib.util.find_spec(name) for name in (VERSION_2, VERSION_3)):
            return None
        return "not installed; pip install flash-attn"

    @classmethod
    def unsupported(cls, spec: AttentionSpec) -> str | None:
        """Bands from the bottom right; no learned slopes."""
        if spec.score is not None and spec.score.learned():
            return "no gradients of ALiBi slopes"
        if isinstance(spec.score, SoftCap) and spec.dropout > 0.0:
            return "no soft-capped scores together with dropout"
        if spec.packing is None and spec.causal:
            # Dense batches of self-attention: both corners are the same. Others do not tell here.
            return None
        return unsupported_band(spec)

    def plan(self, spec: AttentionSpec, device: torch.device) -> FlashPlan:
        """Module, function and arguments."""
        newest = importlib.util.find_spec(VERSION_3) is not None
        return lower(spec, device, newest)

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, spec: AttentionSpec, plan: FlashPlan
    ) -> Tensor:
        function = getattr(importlib.import_module(plan.module), plan.function)
        shape = q.shape
        if spec.packing is None and spec.causal and q.shape[-3] != k.shape[-3]:
            raise ValueError(
                "attention=flash counts causality from the last query and key; give "
                "Causal(bottom_right=True), or as many queries as keys"
            )
        if spec.packing is None:
            q, k, v = (x.reshape(-1, *x.shape[-3:]) for x in (q, k, v))
        arguments = {"softmax_scale": shape[-1] ** -0.5, **plan.arguments}
        q, k, v, width = pad_to_common_width(q, k, v)
        out = function(q, k, v, **arguments)
        return out[..., :width].reshape(*shape[:-1], width)


BACKEND = FlashBackend
