"""Torch's own attention for packed sequences: flash-attention's kernel, half precision on CUDA."""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any

import torch
from torch import Tensor

from lgatr.attention.backends.base import Backend, Capabilities
from lgatr.attention.backends.cu_seqlens import (
    VarlenArguments,
    pad_to_common_width,
    unsupported_band,
    varlen_arguments,
)
from lgatr.attention.pattern.spec import AttentionSpec


@cache
def _arguments() -> frozenset[str]:
    from torch.nn.attention.varlen import varlen_attn

    return frozenset(inspect.signature(varlen_attn).parameters)


class VarlenBackend(Backend):
    """``torch.nn.attention.varlen``, on CUDA in half precision."""

    name = "varlen"
    priority = 15
    capabilities = Capabilities(
        features=frozenset({"packed", "cross", "causal", "causal_bottom_right", "window", "scale"}),
        devices=frozenset({"cuda"}),
        dtypes=frozenset({torch.bfloat16, torch.float16}),
        max_head_width=256,
    )

    @classmethod
    def import_error(cls) -> str | None:
        """Whether torch has the function."""
        try:
            import torch.nn.attention.varlen
        except ImportError:
            return f"needs torch >= 2.10, this is {torch.__version__}"
        return None

    @classmethod
    def unsupported(cls, spec: AttentionSpec) -> str | None:
        """Bands from the bottom right; other windows than causality need a newer torch."""
        reason = unsupported_band(spec)
        band = None if spec.mask is None else spec.mask.band()
        if reason is None and band is not None and (band.left, band.right) != (None, 0):
            return None if "window_size" in _arguments() else "no windows in this torch; update it"
        return reason

    def plan(self, spec: AttentionSpec, device: torch.device) -> VarlenArguments:
        """The offsets, maxima and window."""
        return varlen_arguments(spec, device)

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, spec: AttentionSpec, plan: VarlenArguments
    ) -> Tensor:
        from torch.nn.attention.varlen import varlen_attn

        width, options = q.shape[-1], dict[str, Any]()
        if "window_size" in _arguments():
            options["window_size"] = plan.window
        else:
            options["is_causal"] = plan.causal
        scale = width**-0.5 if spec.scale is None else spec.scale
        q, k, v, out_width = pad_to_common_width(q, k, v)
        # Heads are padded to what the kernel reads at a time, which changes its default scale; the
        # factor goes into the queries, so that it does not matter which torch takes ``scale``.
        q = q * (scale * q.shape[-1] ** 0.5)
        k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
        out: Any = varlen_attn(q, k, v, *plan[:4], **options)
        return out[..., :out_width]


BACKEND = VarlenBackend
