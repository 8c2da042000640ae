"""From the keyword arguments of a forward call to attention that is ready to run.

Legend: T tokens, H heads, D head width.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lgatr.attention.backends.base import Backend
from lgatr.attention.pattern.kernel_keywords import spelled_out, translated
from lgatr.attention.pattern.key_storage import KeyStorage
from lgatr.attention.pattern.keywords import (
    LIMITS,
    compute_format,
    given_keywords,
    pattern_of,
    read_keywords,
)
from lgatr.attention.pattern.masks import Mask
from lgatr.attention.pattern.packing import Packing
from lgatr.attention.pattern.scores import ScoreMod
from lgatr.attention.pattern.shapes import check_formats
from lgatr.attention.pattern.spec import AttentionSpec
from lgatr.attention.registry import backends, may_be_traced, select_backend
from lgatr.utils.autocast import full_precision
from lgatr.utils.described import described
from lgatr.utils.devices import checked_device
from lgatr.utils.inputs import FLOATS


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
    head_width
        Width that the heads must have; None is any.
    """

    spec: AttentionSpec
    requested: str
    backend: Backend
    plan: Any
    dtype: torch.dtype | None = None
    head_width: int | None = None

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend; see :meth:`lgatr.attention.backends.base.Backend.attend`."""
        if torch.compiler.is_dynamo_compiling() and not self.fits_one_graph(q):
            from lgatr.attention.graph_break import attend

            return attend(self, q, k, v)
        return self._attend(q, k, v)

    def fits_one_graph(self, q: Tensor) -> bool:
        """Whether a traced program can hold it, without the numbers of each event."""
        return self.spec.fits_one_graph(q.dim())

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        self._check(q, k, v)
        with full_precision(q.device.type):
            return self.backend.attend(*self._lowered(q, k, v), self.plan).to(q.dtype)

    def partial(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Attend to a part; see :meth:`lgatr.attention.backends.base.Backend.attend_partial`."""
        if torch.compiler.is_dynamo_compiling():
            from lgatr.attention.graph_break import attend_partial

            return attend_partial(self, q, k, v)
        self._check(q, k, v)
        if "partial" not in self.backend.capabilities.features:
            able = [n for n, b in backends().items() if "partial" in b.capabilities.features]
            raise ValueError(
                f"attention={self.backend.name} gives no log-sum-exp; {', '.join(able)} do"
            )
        with full_precision(q.device.type):
            out, lse = self.backend.attend_partial(*self._lowered(q, k, v), self.plan)
            return out.to(q.dtype), lse

    def _lowered(
        self, q: Tensor, k: Tensor, v: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, AttentionSpec]:
        """The tensors in the format to compute in, and the pattern for them."""
        if self.dtype is not None:
            q, k, v = q.to(self.dtype), k.to(self.dtype), v.to(self.dtype)
        spec, factor = _positive_scale(self.spec)
        if spec is not self.spec:
            q = q * factor
        return q, k, v, spec

    def _check(self, q: Tensor, k: Tensor, v: Tensor) -> None:
        check_formats(q, k, v, exact=self.dtype is None)
        self.spec.check(q.shape, k.shape, v.shape)
        width = max(q.shape[-1], v.shape[-1])
        if self.head_width not in (None, width, q.shape[-1]):
            raise ValueError(f"head_width={self.head_width}, but heads are {width} numbers wide")
        widest = self.backend.capabilities.max_head_width
        if widest is not None and width > widest:
            able = [
                name
                for name, b in backends().items()
                if b.problem(self.spec, q.device, q.dtype, q.requires_grad, width) is None
            ]
            raise ValueError(
                f"attention={self.backend.name} takes heads up to {widest} numbers wide, not "
                f"{width}; use more heads or attention={' or '.join(able)}"
            )

    def check_tokens(self, queries: int, keys: int) -> None:
        """Raise ``ValueError`` unless the pattern is made for so many packed tokens."""
        # A traced program does not know the lengths; there the operator itself compares them.
        if self.spec.packing is not None and not torch.compiler.is_compiling():
            self.spec.check_tokens(queries, keys)


def _positive_scale(spec: AttentionSpec) -> tuple[AttentionSpec, float]:
    """The pattern with a scale above zero, and what the queries are multiplied by for it.

    Kernels multiply scores that a mask has set to minus infinity, or look for the largest score
    before they multiply.
    """
    if spec.scale is None or spec.scale > 0.0:
        return spec, 1.0
    if spec.scale == 0.0:
        return replace(spec, scale=1.0), 0.0
    return replace(spec, scale=-spec.scale), -1.0  # exact in every format


def prepare_attention(
    device: torch.device,
    dtype: torch.dtype,
    /,
    *,
    spec: AttentionSpec | None = None,
    packing: Packing | None = None,
    kv_packing: Packing | KeyStorage | None = None,
    mask: Mask | Tensor | None = None,
    score: ScoreMod | None = None,
    backend: str | None = None,
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
    **others: Any,
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
        Which keys are seen and how scores change; see :mod:`lgatr.attention.pattern.masks` and
        :mod:`lgatr.attention.pattern.scores`.
    backend
        Name of the backend; None and ``"auto"`` choose one.
    strict
        Raise if the backend has no kernel on this device, instead of running natively.
    compute_dtype
        Format to compute attention in, such as ``torch.bfloat16`` or its name; the result has that
        of the queries again. None computes in that.
    head_width
        Width of the heads, if known; ``"auto"`` leaves out backends that end before it. Heads of
        another width are an error.
    attn_mask, is_causal, dropout_p, scale
        As for :func:`torch.nn.functional.scaled_dot_product_attention`.
    attn_bias
        As for xFormers: a tensor added to the scores, or a mask object.
    block_mask, score_mod
        As for FlexAttention: a ``BlockMask`` over dense batches, ``score_mod(s, b, h, q, k)``.
    cu_seqlens_q, cu_seqlens_k
        As for flash-attention: offsets ``(B + 1,)`` of the events of queries and keys.
    max_seqlen_q, max_seqlen_k
        Accepted for compatibility: no event may be longer. Not needed.
    cache
        ``(PagedCache, sequences)`` for a step of a causal decoder, with ``packing`` of the new
        tokens; ``mask``, ``score`` and ``score_mod`` count positions in the whole sequences. See
        :func:`lgatr.attention.decoding.decoding`.
    **others
        Keywords of other libraries; see :mod:`lgatr.attention.pattern.kernel_keywords`.

    Raises
    ------
    TypeError
        If an argument is unknown, or of another kind than it may be.
    ValueError
        If the pattern contradicts itself or no backend can run it. No keyword is ever ignored.
    """
    keywords: dict[str, Any] = dict(
        spec=spec, packing=packing, kv_packing=kv_packing, mask=mask, score=score,
        backend=backend, strict=strict, compute_dtype=compute_dtype, head_width=head_width,
        attn_mask=attn_mask, attn_bias=attn_bias, is_causal=is_causal, block_mask=block_mask,
        score_mod=score_mod, dropout_p=dropout_p, scale=scale, cu_seqlens_q=cu_seqlens_q,
        cu_seqlens_k=cu_seqlens_k, max_seqlen_q=max_seqlen_q, max_seqlen_k=max_seqlen_k,
        cache=cache,
    )  # fmt: skip
    device = checked_device(device)
    if dtype not in FLOATS:
        raise ValueError(f"dtype is a format such as torch.float32, not {described(dtype)}")
    if torch.compiler.is_dynamo_compiling() and (others or not _fits_one_graph(keywords)):
        from lgatr.attention.graph_break import prepare

        return prepare(device, dtype, keywords, others)
    return prepared(device, dtype, keywords, others)


def _fits_one_graph(keywords: dict[str, Any]) -> bool:
    """Whether a program that torch.compile traces can hold the preparation."""
    given = given_keywords(**keywords)
    traced = may_be_traced(given.get("backend", "auto"), given.get("strict", False))
    if given.keys() & {"cache", *LIMITS} or not traced:
        return False
    return pattern_of(given).fits_one_graph()


def prepared(
    device: torch.device, dtype: torch.dtype, keywords: dict[str, Any], others: dict[str, Any]
) -> Attention:
    """:func:`prepare_attention` with its keywords, and those of other libraries."""
    with spelled_out(others) if others else nullcontext():
        given, pattern = read_keywords(keywords | translated(others, keywords))
        inside, name = compute_format(given.get("compute_dtype")), given.get("backend", "auto")
        if "cache" in given:
            from lgatr.attention.decoding import decoding

            return decoding(given["cache"], pattern, given, device, dtype)
    lowered, _ = _positive_scale(pattern)
    strict, width = given.get("strict", False), given.get("head_width")
    planner, executor = select_backend(
        name, lowered, device, inside or dtype, strict=strict, width=width
    )
    plan = planner.plan(lowered, device)
    if executor is not planner:
        plan = executor.plan(lowered, device)
    return Attention(pattern, name, executor, plan, inside, width)
