"""Attention prepared for one forward pass: a pattern, and the backend that was chosen for it.

Legend: T tokens, U key tokens, H heads, K key-value heads (H or a divisor), D head width.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lgatr.attention.backends.base import Backend
from lgatr.attention.backends.native import NativeBackend
from lgatr.attention.pattern.packing import BoundedPacking
from lgatr.attention.pattern.shapes import check_formats
from lgatr.attention.pattern.spec import AttentionSpec
from lgatr.attention.registry import NATIVE_RUNS, backends, select_backend
from lgatr.utils.autocast import full_precision
from lgatr.utils.inputs import FLOATS


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

    def __init__(
        self,
        spec: AttentionSpec,
        requested: str,
        backend: Backend,
        plan: Any,
        dtype: torch.dtype | None = None,
        head_width: int | None = None,
    ) -> None:
        self.spec, self.requested, self.backend, self.plan = spec, requested, backend, plan
        self.dtype, self.head_width = dtype, head_width
        self._lowered, self._query_factor = positive_scale(spec)
        # Lengths of a bounded packing may change between two calls.
        self._checks_once = not (
            isinstance(spec.packing, BoundedPacking) or isinstance(spec.kv_packing, BoundedPacking)
        )
        self._checked: tuple[Any, ...] | None = None

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Scaled dot-product attention of the pattern.

        Parameters
        ----------
        q
            ``(T, H, D)`` for packed batches, ``(..., items, H, D)`` for dense ones.
        k, v
            ``(U, K, D)`` or ``(..., items, K, D)``; values may have another width.

        Returns
        -------
        Tensor shaped like ``q``, with the width of ``v``.

        Raises
        ------
        ValueError
            If shapes, formats or devices do not fit each other, the pattern or the backend.
        """
        if torch.compiler.is_dynamo_compiling() and not self.fits_one_graph(q):
            from lgatr.attention.graph_break import run_eagerly

            out: Tensor = run_eagerly(self, q, k, v)
            return out
        return self._attend(q, k, v)

    def partial(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Attention to a part of the keys; see :func:`lgatr.attention.partial_attention`."""
        if torch.compiler.is_dynamo_compiling():
            from lgatr.attention.graph_break import run_eagerly

            parts: tuple[Tensor, Tensor] = run_eagerly(_partial, self, q, k, v)
            return parts
        return _partial(self, q, k, v)

    def fits_one_graph(self, q: Tensor) -> bool:
        """Whether a traced program can hold it, without the numbers of each event."""
        return self.spec.fits_one_graph(q.dim())

    def check_tokens(self, queries: int, keys: int) -> None:
        """Raise ``ValueError`` unless the pattern is made for so many packed tokens."""
        # A traced program does not know the lengths; there the operator itself compares them.
        if self.spec.packing is not None and not torch.compiler.is_compiling():
            self.spec.check_tokens(queries, keys)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        self._check(q, k, v)
        inputs, device = self._inputs(q, k, v), q.device.type
        with full_precision(device) if torch.is_autocast_enabled(device) else nullcontext():
            out = self.backend.attend(*inputs, self._lowered, self.plan)
        return out if out.dtype == q.dtype else out.to(q.dtype)

    def _inputs(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The tensors in the format to compute in."""
        if self.dtype is not None:
            q, k, v = q.to(self.dtype), k.to(self.dtype), v.to(self.dtype)
        if self._query_factor != 1.0:
            q = q * self._query_factor
        return q, k, v

    def _check(self, q: Tensor, k: Tensor, v: Tensor) -> None:
        """Check tensors, unless those of the layer before had the same shapes and formats."""
        ordinary = type(q) is type(k) is type(v) is Tensor and not (
            q.is_nested or k.is_nested or v.is_nested
        )
        seen: tuple[Any, ...] | None = None
        if ordinary and not torch.compiler.is_compiling():
            seen = (
                q.shape, k.shape, v.shape, q.dtype, k.dtype, v.dtype,
                q.device, k.device, v.device, q.layout, k.layout, v.layout,
            )  # fmt: skip
            if seen == self._checked:
                return
        if not (
            ordinary
            and q.dtype is k.dtype is v.dtype
            and q.dtype in FLOATS
            and q.device == k.device == v.device
            and q.device.type in ("cpu", "cuda")
            and q.layout is k.layout is v.layout is torch.strided
        ):
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
                if b.why_unusable(self.spec, q.device, q.dtype, q.requires_grad, width) is None
            ]
            raise ValueError(
                f"attention={self.backend.name} takes heads up to {widest} numbers wide, not "
                f"{width}; use more heads or attention={' or '.join(able)}"
            )
        if seen is not None and self._checks_once:
            self._checked = seen


def _partial(attention: Attention, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    attention._check(q, k, v)
    backend = attention.backend
    if "partial" not in backend.capabilities.features:
        able = [n for n, b in backends().items() if "partial" in b.capabilities.features]
        raise ValueError(f"attention={backend.name} gives no log-sum-exp; {', '.join(able)} do")
    with full_precision(q.device.type):
        inputs = attention._inputs(q, k, v)
        out, lse = backend.attend_partial(*inputs, attention._lowered, attention.plan)
        return out.to(q.dtype), lse


def positive_scale(spec: AttentionSpec) -> tuple[AttentionSpec, float]:
    """The pattern with a scale above zero, and what the queries are multiplied by for it.

    Kernels multiply scores that a mask has set to minus infinity, or look for the largest score
    before they multiply.
    """
    if spec.scale is None or spec.scale > 0.0:
        return spec, 1.0
    if spec.scale == 0.0:
        return replace(spec, scale=1.0), 0.0
    return replace(spec, scale=-spec.scale), -1.0  # exact in every format


def _chosen(
    name: str,
    spec: AttentionSpec,
    device: torch.device,
    dtype: torch.dtype,
    strict: bool,
    width: int | None,
) -> tuple[Backend, Backend]:
    """:func:`select_backend`, which small batches should not wait for in every forward pass."""
    known = None
    if name == "native" and not torch.compiler.is_compiling():
        known = spec.features(), device.type, dtype, torch.is_grad_enabled()
        if known in NATIVE_RUNS and backends()[name] is NativeBackend:
            return NativeBackend(), NativeBackend()
    found = select_backend(name, spec, device, dtype, strict=strict, width=width)
    if known is not None and type(found[0]) is type(found[1]) is NativeBackend:
        NATIVE_RUNS.add(known)
    return found


def plan_attention(
    spec: AttentionSpec,
    device: torch.device,
    dtype: torch.dtype,
    *,
    backend: str = "auto",
    strict: bool = False,
    compute_dtype: torch.dtype | None = None,
    head_width: int | None = None,
) -> Attention:
    """Choose a backend for a pattern, and lower the pattern for it.

    Parameters
    ----------
    spec
        The pattern.
    device, dtype
        Of the queries.
    backend, strict, compute_dtype, head_width
        See :func:`lgatr.attention.prepare_attention`.

    Raises
    ------
    ValueError
        If no backend can run the pattern.
    """
    lowered, _ = positive_scale(spec)
    compute = compute_dtype or dtype
    planner, executor = _chosen(backend, lowered, device, compute, strict, head_width)
    plan = planner.plan(lowered, device)
    if executor is not planner:
        plan = executor.plan(lowered, device)
    return Attention(spec, backend, executor, plan, compute_dtype, head_width)
