"""From xFormers' shapes and arguments to our own, for :mod:`lgatr.attention.memory_efficient`.

Legend: B batch, M queries, N keys, G groups, H heads (of each group), K head width, E width of
values.
"""

from __future__ import annotations

import importlib
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lgatr.attention.pattern.interop import from_bias
from lgatr.attention.pattern.shapes import check_formats, check_output_format
from lgatr.attention.pattern.spec import AttentionSpec
from lgatr.attention.prepare import prepare_attention
from lgatr.attention.prepared import Attention

_SHAPES = "[B, M, K], [B, M, H, K] or [B, M, G, H, K]"


class Inputs(NamedTuple):
    """What all of xFormers' functions take; see :func:`memory_efficient_attention`."""

    query: Tensor
    key: Tensor
    value: Tensor
    attn_bias: Any = None
    p: float = 0.0
    scale: float | None = None


class XformersCall(NamedTuple):
    """Prepared attention, and a call's tensors in this library's shapes."""

    attend: Attention
    q: Tensor
    k: Tensor
    v: Tensor
    packed: bool
    query_shape: torch.Size

    def output(self, out: Tensor, dtype: torch.dtype) -> Tensor:
        """Shaped like the query, with the width of the values."""
        return out.reshape(*self.query_shape[:-1], out.shape[-1]).to(dtype)

    def lse(self, lse: Tensor) -> Tensor:
        """From ``(..., M, heads)`` to ``[B, H, M]``, or ``[B, G, H, M]``."""
        lse = (lse.unsqueeze(0) if self.packed else lse).transpose(1, 2)
        if len(self.query_shape) == 5:
            lse = lse.unflatten(1, self.query_shape[2:4])
        return lse.contiguous()


def _check(query: Tensor, key: Tensor, value: Tensor) -> None:
    shapes = [tuple(x.shape) for x in (query, key, value)]
    told = f"query {shapes[0]}, key {shapes[1]}, value {shapes[2]}"
    if query.dim() not in (3, 4, 5) or len({len(s) for s in shapes}) > 1:
        raise ValueError(f"query, key and value are all {_SHAPES}; got {told}")
    q, k, v = shapes
    if k[:-1] != v[:-1] or q[0] != k[0] or q[2:] != k[2:]:
        raise ValueError(
            f"query, key and value fit each other as {_SHAPES}, with heads expanded; got {told}"
        )
    check_formats(query, key, value, exact=True)


def _bias(bias: Any, query: Tensor, keys: int) -> Any:
    """``attn_bias`` for heads in one dimension."""
    table = getattr(bias, "_bias", bias)
    if not isinstance(table, Tensor):
        return bias
    if not table.is_floating_point():
        raise ValueError(f"attn_bias is added to the scores: floating-point, not {table.dtype}")
    batch, queries, *heads = query.shape[:-1]
    shape = (batch, *heads, queries, keys)
    if table.shape != shape and not (table.dim() == 3 and table.shape == (1, *shape[1:])):
        raise ValueError(
            f"attn_bias has shape {tuple(table.shape)}, and {shape} is needed (expand it)"
        )
    table = table.unsqueeze(1) if query.dim() == 3 else table.flatten(1, -3)
    return table if isinstance(bias, Tensor) else type(bias)(table)


def _one_head_dimension(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, ...]:
    """All as ``(B, items, heads, width)``; keys that groups share stay shared."""
    if query.dim() == 3:
        return tuple(x.unsqueeze(2) for x in (query, key, value))
    if query.dim() == 4:
        return query, key, value
    learned = torch.is_grad_enabled() and (key.requires_grad or value.requires_grad)
    shared = all(x.shape[3] == 1 or x.stride(3) == 0 for x in (key, value))
    if shared and not learned:
        return query.flatten(2, 3), key[:, :, :, 0], value[:, :, :, 0]
    return tuple(x.flatten(2, 3) for x in (query, key, value))


def prepare(inputs: Inputs, op: Any, inside: torch.dtype) -> XformersCall:
    """Check a call, choose a backend, and bring the tensors into this library's shapes.

    Parameters
    ----------
    inputs, op
        See :func:`lgatr.attention.memory_efficient_attention`.
    inside
        Format to compute in.
    """
    query, key, value, attn_bias, p, scale = inputs
    _check(query, key, value)
    bias = _bias(attn_bias, query, key.shape[1])
    q, k, v = (x.to(inside) for x in _one_head_dimension(query, key, value))
    packed = hasattr(bias, "q_seqinfo")
    if packed:
        if len(q) != 1:
            raise ValueError(
                f"{type(bias).__name__} takes events end to end in a batch of 1, not of {len(q)}"
            )
        q, k, v = q[0], k[0], v[0]
    backend = "auto" if op is None else "xformers"
    if backend == "auto" and v.shape[-1] > q.shape[-1]:
        backend = "native"  # has no widest heads
    attend = prepare_attention(
        q.device,
        inside,
        spec=AttentionSpec(**from_bias(bias), dropout=p, scale=scale),
        backend=backend,
        head_width=q.shape[-1],
    )
    return XformersCall(attend, q, k, v, packed, query.shape)


def _operator(op: Any) -> bool:
    return op is None or (isinstance(op, type) and hasattr(op, "SUPPORTED_ATTN_BIAS_TYPES"))


def check_op(op: Any, pair: bool, single: bool) -> None:
    """Raise ``TypeError`` unless ``op`` is None, a pair of operators, or a single one."""
    if single and _operator(op):
        return
    if pair and (
        op is None or (isinstance(op, tuple) and len(op) == 2 and all(map(_operator, op)))
    ):
        return
    wanted = [name for name, able in (("(FwOp, BwOp)", pair), ("one of them", single)) if able]
    raise TypeError(f"op is None or operators of xFormers, {' or '.join(wanted)}; not {op!r}")


def by_xformers(name: str, op: Any, *arguments: Any, **options: Any) -> Any:
    """The call as xFormers itself computes it, or None if it does not."""
    if op is None or arguments[0].device.type != "cuda":
        return None
    fmha = importlib.import_module("xformers.ops.fmha")
    return getattr(fmha, name)(*arguments, op=op, **options)


def compute_format(inputs: torch.dtype, output: torch.dtype | None) -> torch.dtype:
    """Format to compute in: at least as wide as that of the output."""
    if output is None:
        return inputs
    check_output_format(output)
    return torch.promote_types(inputs, output)
