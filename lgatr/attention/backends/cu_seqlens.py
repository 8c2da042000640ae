"""Lower a pattern to the arguments of flash-attention kernels: cu_seqlens, causality, window.

Their masks count from the bottom right: the last query meets the last key.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from lgatr.attention.pattern.masks import Band
from lgatr.attention.pattern.packing import Packing
from lgatr.attention.pattern.spec import AttentionSpec


class VarlenArguments(NamedTuple):
    """Arguments of a kernel for packed sequences; a window of -1 has no limit."""

    cu_seqlens_q: Tensor
    cu_seqlens_k: Tensor
    max_seqlen_q: int
    max_seqlen_k: int
    window: tuple[int, int]

    @property
    def causal(self) -> bool:
        """Whether the window ends at the query itself."""
        return self.window[1] == 0


def bottom_right_band(spec: AttentionSpec) -> Band | None:
    """The mask as a band from the bottom right.

    Raises
    ------
    ValueError
        If the mask is no such band.
    """
    if spec.mask is None:
        return None
    band = spec.mask.band()
    if band is None:
        raise ValueError("masks other than causal ones and windows")
    if band.bottom_right or _same_lengths(spec):
        return band._replace(bottom_right=True)
    raise ValueError("causality or windows from the first key; give bottom_right=True")


def _same_lengths(spec: AttentionSpec) -> bool:
    # Lengths of dense batches are unknown here; those of cross-attention may agree by chance.
    return spec.packing is not None and (
        spec.kv_packing is None
        or (isinstance(spec.kv_packing, Packing) and spec.kv_packing == spec.packing)
    )


def has_queries_without_keys(spec: AttentionSpec, band: Band) -> bool:
    """Whether some query of a packed batch has no key in the band.

    Kernels with cu_seqlens leave such outputs undefined; they are defined as zero.
    """
    if spec.kv_packing is None:
        return False
    assert spec.packing is not None and spec.key_packing is not None
    pairs = zip(spec.packing.lengths, spec.key_packing.lengths, strict=True)
    if band.bottom_right:
        return any(m < n for n, m in pairs)
    return band.left is not None and any(n - band.left > m for n, m in pairs)


def unsupported_band(spec: AttentionSpec) -> str | None:
    """Why a kernel with cu_seqlens cannot run the mask of ``spec``, or None."""
    try:
        bottom_right_band(spec)
    except ValueError as error:
        return f"no kernel for {error}"
    return None


def window_of(band: Band | None) -> tuple[int, int]:
    """Window ``(left, right)`` of flash-attention, -1 for no limit."""
    if band is None:
        return -1, -1
    return -1 if band.left is None else band.left, -1 if band.right is None else band.right


def varlen_arguments(spec: AttentionSpec, device: torch.device) -> VarlenArguments:
    """Arguments of a kernel with cu_seqlens for a packed pattern."""
    queries, keys = spec.packing, spec.key_packing
    assert queries is not None and keys is not None
    return VarlenArguments(
        queries.ptr.to(device),
        keys.ptr.to(device),
        queries.max_length,
        keys.max_length,
        window_of(bottom_right_band(spec)),
    )


def pad_to_common_width(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor, int]:
    """Pad with zeros to one width that is a multiple of 8; also returns the width of the values."""
    widest = max(q.shape[-1], v.shape[-1])
    widest += -widest % 8
    q, k, w = (
        x if x.shape[-1] == widest else F.pad(x, (0, widest - x.shape[-1])) for x in (q, k, v)
    )
    return q, k, w, v.shape[-1]
