"""xFormers' memory-efficient attention: packed sequences in float32 and half on CUDA.

A pattern is lowered to xFormers' own mask classes. xFormers has no CPU operator: there the mask is
still built, so that mistakes in a pattern show, and the native backend computes (the registry says
so in a warning, and refuses with ``strict``).
"""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lgatr.attention.backends.base import Backend, Capabilities
from lgatr.attention.backends.cu_seqlens import has_queries_without_keys
from lgatr.attention.backends.xformers_bias import WIDTH_STEP, dense_bias, has_wider_bias
from lgatr.attention.backends.xformers_library import mismatch, operations
from lgatr.attention.pattern.key_storage import GappyKeys, PaddedKeys, PagedKeys
from lgatr.attention.pattern.masks import Band, DenseMask
from lgatr.attention.pattern.number_formats import format_of_scores
from lgatr.attention.pattern.packing import BoundedPacking, Packing
from lgatr.attention.pattern.scores import DenseBias
from lgatr.attention.pattern.spec import AttentionSpec


def _band(spec: AttentionSpec) -> Band | None:
    return None if spec.mask is None else spec.mask.band()


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _does(operator: Any, mask: type, dtype: torch.dtype) -> bool:
    """Whether an operator of xFormers knows a mask class and a number format."""
    return mask in operator.SUPPORTED_ATTN_BIAS_TYPES and dtype in operator.SUPPORTED_DTYPES


def _interchangeable(spec: AttentionSpec) -> bool:
    """Whether both corners are the same, queries and keys being the same events."""
    return spec.packing is not None and spec.kv_packing in (None, spec.packing)


def _causal_with_tensor(spec: AttentionSpec) -> bool:
    return spec.packing is None and spec.causal and isinstance(spec.score, DenseBias)


def _as_wide(x: Tensor, width: int) -> Tensor:
    return F.pad(x, (0, width - x.shape[-1])) if x.shape[-1] < width else x


def _for_heads(x: Tensor, heads: int) -> Tensor:
    """Keys or values ``(B, items, K, D)`` for each of so many heads."""
    if x.shape[2] == heads:
        return x
    if x.shape[2] == 1:
        return x.expand(*x.shape[:2], heads, x.shape[3])
    return x.repeat_interleave(heads // x.shape[2], dim=2)


class XformersBackend(Backend):
    """``xformers.ops.memory_efficient_attention``, on CUDA."""

    name = "xformers"
    # Behind the native backend: in single precision both run the same kernels, and importing
    # xFormers takes seconds.
    priority = -1
    capabilities = Capabilities(
        features=frozenset(
            {
                "dense",
                "packed",
                "cross",
                "mask",
                "causal",
                "causal_bottom_right",
                "window",
                "padded_keys",
                "gappy_keys",
                "paged_keys",
                "dropout",
                "scale",
                "partial",
            }
        ),
        devices=frozenset({"cuda"}),
        dtypes=frozenset({torch.float32, torch.bfloat16, torch.float16}),
    )

    @classmethod
    def import_error(cls) -> str | None:
        """Whether the package is there, without importing it."""
        if importlib.util.find_spec("xformers") is None:
            return "not installed; pip install xformers"
        return None

    @classmethod
    def load_error(cls, device: torch.device) -> str | None:
        """Whether its library fits this torch."""
        return mismatch() if device.type == "cuda" else None

    @classmethod
    def unsupported(cls, spec: AttentionSpec) -> str | None:
        """Patterns for which xFormers has no mask class."""
        if isinstance(spec.mask, DenseMask) and spec.score is not None:
            return "one tensor, not a mask and a bias; add them up"
        if spec.mask is None or isinstance(spec.mask, DenseMask):
            return None
        band = _band(spec)
        if _causal_with_tensor(spec):
            return None
        if band is None or (spec.score is not None):
            return "no mask class for this combination"
        ahead = band.right != 0
        corner = band.bottom_right or _interchangeable(spec)
        if spec.storage is not None:
            padded = isinstance(spec.storage, PaddedKeys)
            if not band.bottom_right or band.right is None:
                return "no mask class for stored keys but bands with bottom_right=True"
            if (band.left is not None or ahead) and not (padded and band.left is not None):
                return "no mask class for windows over these stored keys"
        elif spec.packing is not None and ahead:
            return "no mask class for packed windows that look ahead"
        elif spec.packing is not None and has_queries_without_keys(spec, band):
            return "no queries without keys"
        elif spec.packing is None and band != Band(None, 0, False) and not corner:
            return "no mask class for dense windows but with bottom_right=True"
        elif spec.packing is None and ahead and None in (band.left, band.right):
            return "no mask class for dense windows without a limit"
        return None

    @classmethod
    def why_unusable(
        cls,
        spec: AttentionSpec,
        device: torch.device,
        dtype: torch.dtype,
        training: bool = False,
        width: int | None = None,
    ) -> str | None:
        reason = super().why_unusable(spec, device, dtype, training, width)
        plain = spec.mask is None and spec.storage is None
        if reason is not None or device.type != "cuda" or plain:
            return reason
        mask = type(cls().plan(spec, torch.device("cpu")))
        if not any(_does(op, mask, dtype) for op in cls._operators(False)):
            return f"no kernel with {mask.__name__} in {_name(dtype)}"
        if training and not any(_does(op, mask, dtype) for op in cls._operators(True)):
            return f"no gradient of {mask.__name__} in {_name(dtype)}"
        return None

    @classmethod
    def _operators(cls, backward: bool) -> tuple[Any, ...]:
        fmha = operations().fmha
        if backward:
            return fmha.flash.BwOp, fmha.cutlass.BwOp
        return fmha.flash.FwOp, fmha.cutlass.FwOp

    def plan(self, spec: AttentionSpec, device: torch.device) -> Any:
        """The ``attn_bias`` object for :func:`xformers.ops.memory_efficient_attention`."""
        masks = operations().fmha.attn_bias
        band = _band(spec)
        if spec.packing is None:
            return self._dense_plan(masks, spec, band)
        if isinstance(spec.packing, BoundedPacking):
            return self._bounded_plan(masks, spec, spec.packing, band)
        queries = list(spec.packing.lengths)
        if spec.storage is not None:
            return self._stored_plan(masks, queries, spec.storage, band, device)
        keys = list(spec.kv_packing.lengths) if isinstance(spec.kv_packing, Packing) else None
        mask = masks.BlockDiagonalMask.from_seqlens(queries, keys, device=device)
        return self._banded(mask, band)

    @staticmethod
    def _banded(mask: Any, band: Band | None) -> Any:
        if band is None:
            return mask
        if band.left is None:
            return mask.make_causal_from_bottomright() if band.bottom_right else mask.make_causal()
        if band.bottom_right:
            return mask.make_local_attention_from_bottomright(band.left + 1)
        return mask.make_local_attention(band.left + 1)

    def _bounded_plan(
        self, masks: Any, spec: AttentionSpec, packing: BoundedPacking, band: Band | None
    ) -> Any:
        """The mask around the offsets themselves, which may change later."""
        if spec.kv_packing not in (None, packing):
            raise ValueError("a bounded packing goes with self-attention")
        # The kernels take the offsets and the limit; the numbers beside them tell the sum alone.
        rest = packing.num_tokens - (packing.num_events - 1)
        info = masks._SeqLenInfo.from_seqlens(
            [1] * (packing.num_events - 1) + [rest], device=torch.device("cpu")
        )
        info.seqstart, info.max_seqlen, info.min_seqlen = packing.ptr, packing.max_length, 1
        return self._banded(masks.BlockDiagonalMask(q_seqinfo=info, k_seqinfo=info), band)

    @staticmethod
    def _dense_plan(masks: Any, spec: AttentionSpec, band: Band | None) -> Any:
        if _causal_with_tensor(spec):
            return masks.LowerTriangularMask()  # the tensor is added when the shapes are known
        if isinstance(spec.mask, DenseMask):
            return spec.mask.table
        if isinstance(spec.score, DenseBias):
            return spec.score.table
        if band is None:
            return None
        if band.right != 0:
            return masks.LocalAttentionFromBottomRightMask(band.left, band.right)
        if not band.bottom_right:
            return masks.LowerTriangularMask()
        mask = masks.LowerTriangularFromBottomRightMask()
        return mask if band.left is None else mask.make_local_attention(band.left + 1)

    @staticmethod
    def _stored_plan(
        masks: Any, queries: list[int], storage: Any, band: Band | None, device: torch.device
    ) -> Any:
        keys = list(storage.lengths)
        if isinstance(storage, PaddedKeys):
            if band is not None and band.left is not None:
                kind = masks.BlockDiagonalLocalAttentionPaddedKeysMask
                mask = kind.from_seqlens_local(
                    queries, storage.padding, keys, band.left, band.right
                )
                return mask.to(device)
            kind = masks.BlockDiagonalPaddedKeysMask
            if band is not None:
                kind = masks.BlockDiagonalCausalWithOffsetPaddedKeysMask
            return kind.from_seqlens(queries, storage.padding, keys, device=device)
        if isinstance(storage, PagedKeys):
            return XformersBackend._paged_plan(masks, queries, storage, band, device)
        assert isinstance(storage, GappyKeys)
        kind = masks.BlockDiagonalGappyKeysMask
        if band is not None:
            kind = masks.BlockDiagonalCausalWithOffsetGappyKeysMask
        # One more start: the end of the storage.
        starts = [*storage.starts, storage.num_places or storage.min_places]
        return kind.from_seqlens(queries, starts, keys, device=device)

    @staticmethod
    def _paged_plan(
        masks: Any, queries: list[int], storage: PagedKeys, band: Band | None, device: torch.device
    ) -> Any:
        tables, size = storage.tables.to(device, torch.int32), storage.page_size
        keys = list(storage.lengths)
        if storage.starts is None:
            kind = masks.PagedBlockDiagonalPaddedKeysMask
            if band is not None:
                kind = masks.PagedBlockDiagonalCausalWithOffsetPaddedKeysMask
            return kind.from_seqlens(queries, keys, tables, size, device=device)
        kind = masks.PagedBlockDiagonalGappyKeysMask
        if band is not None:
            kind = masks.PagedBlockDiagonalCausalWithOffsetGappyKeysMask
        # By way of a mask without pages; the class's own constructor (xFormers 0.0.35) refuses
        # any arguments.
        room = tables.shape[1] * size
        starts = [i * room + start for i, start in enumerate(storage.starts)]
        unpaged = masks.BlockDiagonalGappyKeysMask.from_seqlens(
            queries, [*starts, len(starts) * room], keys, device=device
        )
        return unpaged.make_paged(tables, size, room, kind)

    def _arguments(
        self, q: Tensor, k: Tensor, v: Tensor, spec: AttentionSpec, plan: Any
    ) -> tuple[tuple[Tensor, ...], dict[str, Any]]:
        heads, width = q.shape[-2:]
        scale = width**-0.5 if spec.scale is None else spec.scale
        parts = [x.unsqueeze(0) if x.dim() == 3 else x.flatten(0, -4) for x in (q, k, v)]
        if has_wider_bias(spec, q.dtype):
            parts = [x.to(format_of_scores(x.dtype)) for x in parts]
        # Not every operator has values of another width, or keys that heads share.
        widest = max(width, v.shape[-1])
        widest += -widest % WIDTH_STEP
        q, k, v = (_as_wide(_for_heads(x, heads), widest) for x in parts)
        bias = dense_bias(plan, q, k) if isinstance(plan, Tensor) else plan
        if _causal_with_tensor(spec):
            assert isinstance(spec.score, DenseBias)
            bias = plan.add_bias(dense_bias(spec.score.table, q, k))
        return (q, k, v), {"attn_bias": bias, "p": spec.dropout, "scale": scale}

    def attend(self, q: Tensor, k: Tensor, v: Tensor, spec: AttentionSpec, plan: Any) -> Tensor:
        tensors, options = self._arguments(q, k, v, spec, plan)
        out = operations().memory_efficient_attention(*tensors, **options).to(v.dtype)
        return out[..., : v.shape[-1]].reshape(*q.shape[:-1], v.shape[-1])

    def attend_partial(
        self, q: Tensor, k: Tensor, v: Tensor, spec: AttentionSpec, plan: Any
    ) -> tuple[Tensor, Tensor]:
        """Log-sum-exp in half precision alone, and without gradients."""
        if q.dtype == torch.float32 or has_wider_bias(spec, q.dtype):
            raise ValueError(
                "attention=xformers gives a log-sum-exp in half precision alone; use "
                "attention=native, or q, k, v and a bias in bfloat16"
            )
        tensors, options = self._arguments(q, k, v, spec, plan)
        out, lse = operations().fmha.memory_efficient_attention_partial(*tensors, **options)
        # (batch, heads, queries), possibly padded at the end
        lse = lse.transpose(1, 2)[:, : tensors[0].shape[1]]
        out = out[..., : v.shape[-1]].reshape(*q.shape[:-1], v.shape[-1])
        return out, lse.reshape(q.shape[:-1])


BACKEND = XformersBackend
