"""xFormers' memory-efficient attention: packed sequences in float32 and half on CUDA.

The packing is lowered to xFormers' own ``BlockDiagonalMask``. xFormers has no CPU operator:
there the mask is still built, so that mistakes in a pattern show, and the native backend computes
(the registry says so in a warning, and refuses with ``strict``).
"""

from __future__ import annotations

import importlib.util
import logging
from typing import Any

import torch
from torch import Tensor

from lgatr.attention.backends.base import Backend, Capabilities
from lgatr.attention.spec import AttentionSpec


class XformersBackend(Backend):
    """See the text of this file."""

    name = "xformers"
    priority = 10
    capabilities = Capabilities(
        features=frozenset({"dense", "packed", "cross", "mask", "causal", "dropout", "scale"}),
        devices=frozenset({"cuda"}),
        dtypes=frozenset({torch.float32, torch.bfloat16, torch.float16}),
    )

    @classmethod
    def unavailable(cls) -> str | None:
        """Whether the package is there, without importing it."""
        if importlib.util.find_spec("xformers") is None:
            return "not installed; pip install 'lgatr[xformers_attention]'"
        return None

    @staticmethod
    def _ops() -> Any:
        # On a machine without CUDA the package warns on import about its missing extension;
        # the registry says in one line what happens instead.
        logger = logging.getLogger("xformers")
        level = logger.level
        logger.setLevel(logging.ERROR)
        try:
            import xformers.ops as ops
        finally:
            logger.setLevel(level)
        return ops

    def plan(self, spec: AttentionSpec, device: torch.device) -> Any:
        """The ``attn_bias`` object for :func:`xformers.ops.memory_efficient_attention`."""
        fmha = self._ops().fmha
        if spec.packing is not None:
            keys = None if spec.kv_packing is None else list(spec.kv_packing.lengths)
            mask = fmha.attn_bias.BlockDiagonalMask.from_seqlens(
                list(spec.packing.lengths), keys, device=device
            )
            return mask.make_causal() if spec.causal else mask
        if spec.causal:
            return fmha.attn_bias.LowerTriangularMask()
        return spec.mask

    def attend(self, q: Tensor, k: Tensor, v: Tensor, spec: AttentionSpec, plan: Any) -> Tensor:
        """See :meth:`Backend.attend`."""
        shape, heads = q.shape, q.shape[-2]
        q, k, v = (x.unsqueeze(0) if x.dim() == 3 else x.flatten(0, -4) for x in (q, k, v))
        k, v = (x.expand(*x.shape[:2], heads, x.shape[-1]) for x in (k, v))
        bias = plan
        if isinstance(plan, Tensor):
            bias = self._dense_bias(plan, q, k)
        out = self._ops().memory_efficient_attention(
            q, k, v, attn_bias=bias, p=spec.dropout, scale=spec.scale
        )
        return out.reshape(shape)

    @staticmethod
    def _dense_bias(mask: Tensor, q: Tensor, k: Tensor) -> Tensor:
        if mask.dtype == torch.bool:
            mask = torch.zeros_like(mask, dtype=q.dtype).masked_fill(~mask, float("-inf"))
        shape = (q.shape[0], q.shape[2], q.shape[1], k.shape[1])
        # The kernels read rows in groups of eight: pad the storage, keep the shape.
        width = -(-shape[-1] // 8) * 8
        storage = q.new_zeros(*shape[:-1], width)
        storage[..., : shape[-1]] = mask.to(q.dtype).expand(shape)
        return storage[..., : shape[-1]]


BACKEND = XformersBackend
