"""From the keyword arguments of a forward call to attention that is ready to run.

Legend: T tokens, H heads, D head width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lgatr.attention import foreign
from lgatr.attention.backends.base import Backend
from lgatr.attention.keys import KeyStorage
from lgatr.attention.masks import Causal, Mask
from lgatr.attention.masks.block_mask import BlockMaskMod
from lgatr.attention.packing import Packing
from lgatr.attention.registry import backends, select_backend
from lgatr.attention.scores import ScoreMod, ScoreModFunction
from lgatr.attention.shapes import check_formats
from lgatr.attention.spec import AttentionSpec
from lgatr.utils.autocast import full_precision

_KEYWORDS = (
    "spec, packing, kv_packing, mask, score, dropout_p, scale, backend, strict, compute_dtype, "
    "head_width, attn_mask, attn_bias, is_causal, block_mask, score_mod, cu_seqlens_q, "
    "cu_seqlens_k, max_seqlen_q, max_seqlen_k, cache"
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
    dtype
        Format to compute in; None is that of the queries.
    """

    spec: AttentionSpec
    requested: str
    backend: Backend
    plan: Any
    dtype: torch.dtype | None = None

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend; see :meth:`lgatr.attention.backends.base.Backend.attend`."""
        self._check(q, k, v)
        with full_precision(q.device.type):
            return self.backend.attend(*self._inside(q, k, v), self.spec, self.plan).to(q.dtype)

    def partial(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Attend to a part; see :meth:`lgatr.attention.backends.base.Backend.attend_partial`."""
        self._check(q, k, v)
        if "partial" not in self.backend.capabilities.features:
            able = [n for n, b in backends().items() if "partial" in b.capabilities.features]
            raise ValueError(
                f"attention={self.backend.name} gives no log-sum-exp; {', '.join(able)} do"
            )
        with full_precision(q.device.type):
            inside = self._inside(q, k, v)
            out, lse = self.backend.attend_partial(*inside, self.spec, self.plan)
            return out.to(q.dtype), lse

    def _inside(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The same in the format to compute in."""
        return (
            (q, k, v)
            if self.dtype is None
            else (q.to(self.dtype), k.to(self.dtype), v.to(self.dtype))
        )

    def _check(self, q: Tensor, k: Tensor, v: Tensor) -> None:
        # A traced program does not know the numbers; there the operator itself compares them.
        if torch.compiler.is_compiling():
            return
        check_formats(q, k, v, exact=self.dtype is None)
        self.spec.check(q.shape, k.shape, v.shape)
        widest = self.backend.capabilities.max_head_width
        if widest is not None and max(q.shape[-1], v.shape[-1]) > widest:
            able = [
                name
                for name, b in backends().items()
                if b.problem(self.spec, q.device, q.dtype, q.requires_grad, q.shape[-1]) is None
            ]
            raise ValueError(
                f"attention={self.backend.name} takes heads up to {widest} numbers wide, not "
                f"{q.shape[-1]}; use more heads or attention={' or '.join(able)}"
            )

    def check_tokens(self, queries: int, keys: int) -> None:
        """Raise ``ValueError`` unless the pattern is made for so many packed tokens."""
        if self.spec.packing is not None and not torch.compiler.is_compiling():
            self.spec.check_tokens(queries, keys)


def _given(**values: Any) -> dict[str, Any]:
    """What was given at all: not None, and not a dropout of zero."""
    return {
        name: value
        for name, value in values.items()
        if not (value is None or (isinstance(value, float) and value == 0.0))
    }


def _as_score(score: ScoreMod | None, function: Any) -> ScoreMod:
    if score is not None:
        raise ValueError("give score or score_mod; modifications are joined by >>")
    return ScoreModFunction(function)


def _dtype(name: torch.dtype | str | None) -> torch.dtype | None:
    if name is None or isinstance(name, torch.dtype):
        return name
    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ValueError(f"compute_dtype is float32, float16, bfloat16 or float64, not {name!r}")
    return found


def prepare_attention(
    device: torch.device,
    dtype: torch.dtype,
    *,
    spec: AttentionSpec | None = None,
    packing: Packing | None = None,
    kv_packing: Packing | KeyStorage | None = None,
    mask: Mask | Tensor | None = None,
    score: ScoreMod | None = None,
    backend: str = "auto",
    strict: bool = False,
    compute_dtype: torch.dtype | str | None = None,
    head_width: int | None = None,
    attn_mask: Tensor | None = None,
    attn_bias: Any = None,
    is_causal: bool = False,
    block_mask: Any = None,
    score_mod: Any = None,
    dropout_p: float = 0.0,
    scale: float | None = None,
    cu_seqlens_q: Tensor | None = None,
    cu_seqlens_k: Tensor | None = None,
    max_seqlen_q: int | None = None,
    max_seqlen_k: int | None = None,
    cache: tuple[Any, Any] | None = None,
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
        Events of the keys and values, where they differ (cross-attention), or where they lie.
    mask, score
        Which keys are seen and how scores change; see :mod:`lgatr.attention.masks` and
        :mod:`lgatr.attention.scores`.
    backend
        Name of the backend, or ``"auto"``.
    strict
        Raise if the backend has no kernel on this device, instead of running natively.
    compute_dtype
        Format to compute attention in, such as ``torch.bfloat16`` or its name; the result has that
        of the queries again. None computes in that.
    head_width
        Width of the heads, if known; ``"auto"`` leaves out backends that end before it.
    attn_mask, is_causal, dropout_p, scale
        As for :func:`torch.nn.functional.scaled_dot_product_attention`.
    attn_bias
        As for xFormers: a tensor added to the scores, or a mask object.
    block_mask, score_mod
        As for FlexAttention: a ``BlockMask`` over dense batches, ``score_mod(s, b, h, q, k)``.
    cu_seqlens_q, cu_seqlens_k
        As for flash-attention: offsets ``(B + 1,)`` of the events of queries and keys.
    max_seqlen_q, max_seqlen_k
        Accepted for compatibility; not needed.
    cache
        ``(PagedCache, sequences)`` for a step of a causal decoder, with ``packing`` of the new
        tokens; see :func:`lgatr.attention.cache.decoding`.

    Raises
    ------
    TypeError
        If an argument is unknown.
    ValueError
        If the pattern contradicts itself or no backend can run it.
    """
    if unknown:
        raise TypeError(f"attention takes {_KEYWORDS}; not {', '.join(sorted(unknown))}")
    inside = _dtype(compute_dtype)
    if cache is not None:
        from lgatr.attention.cache import decoding

        if packing is None or is_causal or mask is not None or spec is not None:
            raise ValueError("a cache goes with the packing of the new tokens and nothing else")
        pages, sequences = cache
        return decoding(pages, sequences, packing, device, dtype, backend, strict)
    given = _given(
        packing=packing,
        kv_packing=kv_packing,
        score=score if score_mod is None else _as_score(score, score_mod),
        dropout=dropout_p,
        scale=scale,
    )
    masks = _given(
        mask=mask,
        attn_mask=attn_mask,
        is_causal=Causal() if is_causal else None,
        block_mask=None if block_mask is None else BlockMaskMod(block_mask),
    )
    if len(masks) > 1:
        raise ValueError(f"give one of {', '.join(masks)}; masks are joined by &")
    if masks:
        (given["mask"],) = masks.values()
    foreigners = (
        foreign.from_bias(attn_bias, not given),
        foreign.from_offsets(cu_seqlens_q, cu_seqlens_k),
    )
    for pattern in foreigners:
        if given.keys() & pattern.keys():
            raise ValueError("the attention pattern is described twice; give one description")
        given |= pattern
    if spec is not None and given:
        raise ValueError("the attention pattern is described twice; give one description")
    if spec is None:
        spec = AttentionSpec(**given)
    planner, executor = select_backend(
        backend, spec, device, inside or dtype, strict=strict, width=head_width
    )
    plan = planner.plan(spec, device)
    if executor is not planner:
        plan = executor.plan(spec, device)
    return Attention(spec, backend, executor, plan, inside)
