"""From the keyword arguments of a forward call to attention that is ready to run.

Legend: T tokens, H heads, D head width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lgatr.attention.backends.base import Backend
from lgatr.attention.packing import Packing
from lgatr.attention.registry import select_backend
from lgatr.attention.spec import AttentionSpec
from lgatr.utils.autocast import full_precision

_KEYWORDS = (
    "spec, packing, kv_packing, backend, strict, attn_mask, attn_bias, is_causal, dropout_p, "
    "scale, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k"
)


@dataclass(frozen=True)
class Attention:
    """Attention prepared for one forward pass: made once, called by every layer.

    Parameters
    ----------
    spec
        The pattern.
    requested
        Name of the backend that was asked for.
    backend
        The backend that computes.
    plan
        The pattern as lowered for it.
    """

    spec: AttentionSpec
    requested: str
    backend: Backend
    plan: Any

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend; see :meth:`lgatr.attention.backends.base.Backend.attend`."""
        with full_precision(q.device.type):
            return self.backend.attend(q, k, v, self.spec, self.plan)

    def check_tokens(self, queries: int, keys: int) -> None:
        """Raise ``ValueError`` unless a packed pattern has that many tokens."""
        # A traced program does not know the numbers; there the operator itself compares them.
        if self.spec.packing is None or torch.compiler.is_compiling():
            return
        for packing, tokens in ((self.spec.packing, queries), (self.spec.key_packing, keys)):
            if packing is not None and packing.num_tokens != tokens:
                raise ValueError(
                    f"the packing describes {packing.num_tokens} tokens, but there are {tokens}; "
                    "give packed events as (tokens, channels, ...)"
                )


def _spec_from_bias(bias: Any) -> dict[str, Any]:
    """Read a pattern from an ``attn_bias`` as users of xFormers write it."""
    if bias is None:
        return {}
    if isinstance(bias, Tensor):
        return {"mask": bias}
    kind = type(bias).__name__
    if kind in ("BlockDiagonalMask", "BlockDiagonalCausalMask"):
        starts, keys = bias.q_seqinfo.seqstart_py, bias.k_seqinfo.seqstart_py
        device = bias.q_seqinfo.seqstart.device

        def packing(offsets: list[int]) -> Packing:
            return Packing.from_lengths(
                [b - a for a, b in zip(offsets, offsets[1:], strict=False)], device
            )

        pattern: dict[str, Any] = {"packing": packing(starts)}
        if starts != keys:
            pattern["kv_packing"] = packing(keys)
        if kind == "BlockDiagonalCausalMask":
            pattern["causal"] = True
        return pattern
    if kind == "LowerTriangularMask":
        return {"causal": True}
    raise TypeError(
        f"attn_bias of type {kind} is not supported; give a tensor, BlockDiagonalMask, "
        "BlockDiagonalCausalMask or LowerTriangularMask"
    )


def _spec_from_offsets(queries: Tensor | None, keys: Tensor | None) -> dict[str, Any]:
    """Read a pattern from ``cu_seqlens`` as users of flash-attention write them."""
    if queries is None and keys is None:
        return {}
    if queries is None or keys is None:
        raise ValueError("give both cu_seqlens_q and cu_seqlens_k")
    pattern = {"packing": Packing.from_ptr(queries)}
    if keys is not queries:
        pattern["kv_packing"] = Packing.from_ptr(keys)
    return pattern


def prepare_attention(
    device: torch.device,
    dtype: torch.dtype,
    *,
    spec: AttentionSpec | None = None,
    packing: Packing | None = None,
    kv_packing: Packing | None = None,
    backend: str = "auto",
    strict: bool = False,
    attn_mask: Tensor | None = None,
    attn_bias: Any = None,
    is_causal: bool = False,
    dropout_p: float = 0.0,
    scale: float | None = None,
    cu_seqlens_q: Tensor | None = None,
    cu_seqlens_k: Tensor | None = None,
    max_seqlen_q: int | None = None,
    max_seqlen_k: int | None = None,
    **unknown: Any,
) -> Attention:
    """Build the pattern, choose a backend, and lower the pattern for it.

    Parameters
    ----------
    device, dtype
        Of the queries.
    spec
        A complete pattern; excludes the other descriptions.
    packing
        Events of a packed batch.
    kv_packing
        Events of the keys and values, where they differ (cross-attention).
    backend
        Name of the backend, or ``"auto"``.
    strict
        Raise if the backend has no kernel on this device, instead of running natively.
    attn_mask, is_causal, dropout_p, scale
        As for :func:`torch.nn.functional.scaled_dot_product_attention`.
    attn_bias
        As for xFormers: a tensor added to the scores, or a block-diagonal mask object.
    cu_seqlens_q, cu_seqlens_k
        As for flash-attention: offsets ``(B + 1,)`` of the events of queries and keys.
    max_seqlen_q, max_seqlen_k
        Accepted for compatibility; not needed.

    Raises
    ------
    TypeError
        If an argument is unknown.
    ValueError
        If the pattern contradicts itself or no backend can run it.
    """
    if unknown:
        raise TypeError(f"attention takes {_KEYWORDS}; not {', '.join(sorted(unknown))}")
    pattern: dict[str, Any] = {
        "packing": packing,
        "kv_packing": kv_packing,
        "mask": attn_mask,
        "causal": is_causal,
        "dropout": dropout_p,
        "scale": scale,
    }
    given: dict[str, Any] = {
        name: value
        for name, value in pattern.items()
        if not (value is None or value is False or (isinstance(value, float) and value == 0.0))
    }
    from_bias = _spec_from_bias(attn_bias) | _spec_from_offsets(cu_seqlens_q, cu_seqlens_k)
    if given.keys() & from_bias.keys() or (spec is not None and (given or from_bias)):
        raise ValueError("the attention pattern is described twice; give one description")
    if spec is None:
        spec = AttentionSpec(**given, **from_bias)
    planner, executor = select_backend(backend, spec, device, dtype, strict=strict)
    plan = planner.plan(spec, device)
    if executor is not planner:
        plan = executor.plan(spec, device)
    return Attention(spec, backend, executor, plan)
