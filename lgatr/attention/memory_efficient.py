"""Attention with xFormers' own functions, shapes and arguments, on every device.

Code written for ``xformers.ops`` runs unchanged with these, on a CPU too. Everywhere else in this
package queries are ``(T, H, D)`` for packed batches and ``(..., items, H, D)`` for dense ones.

``op``: None computes with what :func:`lgatr.attention.prepare_attention` chooses. Operators of
xFormers name kernels for CUDA: there, the call goes to xFormers itself; on other devices it is one
with ``backend="xformers"``, which computes natively and says so in a warning.

Legend: B batch, M queries, N keys, G groups, H heads (of each group), K head width, E width of
values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lgatr.attention.merge import merge_attentions as _merge
from lgatr.attention.pattern.number_checks import real_number
from lgatr.attention.pattern.shapes import check_tensors
from lgatr.attention.prepare import prepare_attention
from lgatr.attention.xformers_shapes import Inputs, by_xformers, check_op, compute_format, prepare
from lgatr.utils.described import described


def memory_efficient_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_bias: Any = None,
    p: float = 0.0,
    scale: float | None = None,
    *,
    op: tuple[Any, Any] | None = None,
    output_dtype: torch.dtype | None = None,
) -> Tensor:
    """``xformers.ops.memory_efficient_attention``, with gradients.

    Parameters
    ----------
    query
        ``[B, M, H, K]``; or ``[B, M, K]``, which is one head; or ``[B, M, G, H, K]`` with keys
        shared in groups.
    key
        Likewise with N keys; heads expanded to those of the queries.
    value
        Likewise, of any width E.
    attn_bias
        A tensor to add to the scores, ``[B, H, M, N]``, ``[B, M, N]`` or ``[B, G, H, M, N]`` as the
        query has it, or a mask object of xFormers. Block-diagonal ones take a batch of 1.
    p
        Dropout of attention weights.
    scale
        Factor on the scores; None is ``K ** -0.5``.
    op
        See the text of this file.
    output_dtype
        Format of the result; None is that of the query.

    Returns
    -------
    Shaped like ``query``, with the width of ``value``.

    Raises
    ------
    ValueError
        If shapes or formats do not fit.
    TypeError
        If a mask object or an operator is unknown.
    """
    check_op(op, pair=True, single=False)
    check_tensors(query, key, value)
    inputs = Inputs(query, key, value, attn_bias, p, scale)
    found = by_xformers("memory_efficient_attention", op, *inputs, output_dtype=output_dtype)
    if found is not None:
        result: Tensor = found
        return result
    call = prepare(inputs, op, compute_format(query.dtype, output_dtype))
    return call.output(call.attend(call.q, call.k, call.v), output_dtype or query.dtype)


@torch.no_grad()
def memory_efficient_attention_forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_bias: Any = None,
    p: float = 0.0,
    scale: float | None = None,
    *,
    op: Any = None,
    output_dtype: torch.dtype | None = None,
) -> Tensor:
    """:func:`memory_efficient_attention` without gradients; ``op`` is a forward operator alone."""
    check_op(op, pair=False, single=True)
    return memory_efficient_attention(
        query, key, value, attn_bias, p, scale,
        op=None if op is None else (op, None), output_dtype=output_dtype,
    )  # fmt: skip


def _check_no_dropout(p: Any) -> None:
    if real_number(p, "p") != 0.0:
        raise NotImplementedError(
            "dropout goes with gradients of its own; call memory_efficient_attention"
        )


def _with_lse(
    name: str, inputs: Inputs, op: Any, output_dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """By xFormers itself (its function ``name``) where ``op`` asks for it, else by our own."""
    _check_no_dropout(inputs.p)
    found = by_xformers(name, op, *inputs, output_dtype=output_dtype)
    if found is not None:
        result: tuple[Tensor, Tensor] = found
        return result
    call = prepare(inputs, op, compute_format(inputs.query.dtype, output_dtype))
    attend = call.attend
    if "partial" not in attend.backend.capabilities.features:
        attend = prepare_attention(call.q.device, call.q.dtype, spec=attend.spec, backend="native")
    out, lse = attend.partial(call.q, call.k, call.v)
    return call.output(out, output_dtype), call.lse(lse)


@torch.no_grad()
def memory_efficient_attention_forward_requires_grad(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_bias: Any = None,
    p: float = 0.0,
    scale: float | None = None,
    *,
    op: Any = None,
    output_dtype: torch.dtype | None = None,
) -> tuple[Tensor, Tensor]:
    """Output, and what :func:`memory_efficient_attention_backward` needs; outside of autograd.

    Returns
    -------
    out
        As of :func:`memory_efficient_attention`.
    lse
        Log-sum-exp of the scores, ``[B, H, M]`` or ``[B, G, H, M]``; of block-diagonal masks
        ``[1, H, M]``, of three-dimensional queries ``[B, 1, M]``.
    """
    check_op(op, pair=False, single=True)
    check_tensors(query, key, value)
    name = "memory_efficient_attention_forward_requires_grad"
    dtype = output_dtype or query.dtype
    return _with_lse(name, Inputs(query, key, value, attn_bias, p, scale), op, dtype)


def memory_efficient_attention_partial(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_bias: Any = None,
    p: float = 0.0,
    scale: float | None = None,
    *,
    op: Any = None,
    output_dtype: torch.dtype | None = None,
) -> tuple[Tensor, Tensor]:
    """Attention to a part of the keys, for :func:`merge_attentions`; with gradients.

    The output is in single precision at least, unless ``output_dtype`` says otherwise. See
    :func:`memory_efficient_attention_forward_requires_grad`.
    """
    check_op(op, pair=True, single=True)
    check_tensors(query, key, value)
    dtype = output_dtype or torch.promote_types(query.dtype, torch.float32)
    name = "memory_efficient_attention_partial"
    return _with_lse(name, Inputs(query, key, value, attn_bias, p, scale), op, dtype)


def memory_efficient_attention_backward(
    grad: Tensor,
    output: Tensor,
    lse: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_bias: Any = None,
    p: float = 0.0,
    scale: float | None = None,
    *,
    op: Any = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the attention whose output and log-sum-exp are given.

    They may be those of attention to more keys than ``key``, of which this is a part: then so are
    the gradients.

    Parameters
    ----------
    grad
        Gradient of the output.
    output, lse
        As of :func:`memory_efficient_attention_forward_requires_grad`.
    query, key, value, attn_bias, p, scale, op
        As for it; ``op`` is a backward operator alone.

    Returns
    -------
    Gradients of query, key and value.
    """
    check_op(op, pair=False, single=True)
    check_tensors(grad, output, lse, query, key, value)
    _check_no_dropout(p)
    inputs = Inputs(query, key, value, attn_bias, p, scale)
    found = by_xformers("memory_efficient_attention_backward", op, grad, output, lse, *inputs)
    if found is not None:
        result: tuple[Tensor, Tensor, Tensor] = found
        return result
    with torch.enable_grad():
        q, k, v = (x.detach().requires_grad_() for x in (query, key, value))
        inside = torch.promote_types(query.dtype, torch.float32)
        own, own_lse = _with_lse("", Inputs(q, k, v, attn_bias, p, scale), op, inside)
    if grad.shape != own.shape or output.shape != own.shape:
        raise ValueError(
            f"grad and output are shaped {tuple(own.shape)}, not {tuple(grad.shape)} and "
            f"{tuple(output.shape)}"
        )
    if lse.shape[:-1] != own_lse.shape[:-1] or lse.shape[-1] < own_lse.shape[-1]:
        raise ValueError(f"lse is {tuple(own_lse.shape)}, not {tuple(lse.shape)}")
    # xFormers pads it in the end.
    lse = lse[..., : own_lse.shape[-1]]
    # The whole is the mean of its parts with weights exp(own_lse - lse), and that follows.
    dead = own_lse == -torch.inf
    weight = torch.exp(own_lse - lse.masked_fill(dead, 0.0)).masked_fill(dead, 0.0).detach()
    weight = (weight.movedim(-1, 1) if query.dim() > 3 else weight.transpose(1, 2)[..., 0])[
        ..., None
    ]
    weighted = grad.to(own.dtype) * weight
    of_lse = (weighted * (own.detach() - output.to(own.dtype))).sum(-1)
    of_lse = of_lse.movedim(1, -1) if query.dim() > 3 else of_lse[:, None]
    dq, dk, dv = torch.autograd.grad((own, own_lse), (q, k, v), (weighted, of_lse))
    return dq, dk, dv


def merge_attentions(
    attn_split: Sequence[Tensor] | Tensor,
    lse_split: Sequence[Tensor] | Tensor,
    write_lse: bool = True,
    output_dtype: torch.dtype | None = None,
) -> tuple[Tensor, Tensor | None]:
    """``xformers.ops.fmha.merge_attentions``, with gradients.

    Parameters
    ----------
    attn_split
        Outputs ``[B, M, H, K]`` or ``[B, M, G, H, K]`` of each part, or one tensor of all.
    lse_split
        Log-sum-exps ``[B, H, M]`` or ``[B, G, H, M]`` of each part, or one tensor.
    write_lse
        Whether to give the log-sum-exp.
    output_dtype
        Format of the merged output; None is that of the parts.
    """
    outputs, lses = _parts("attn_split", attn_split), _parts("lse_split", lse_split)
    for out, lse in zip(outputs, lses, strict=False):
        if out.dim() not in (4, 5) or lse.shape != (out.shape[0], *out.shape[2:-1], out.shape[1]):
            raise ValueError(
                "parts are [B, M, H, K] with [B, H, M], or [B, M, G, H, K] with [B, G, H, M]; not "
                f"{tuple(out.shape)} with {tuple(lse.shape)}"
            )
    merged, total = _merge(outputs, [x.movedim(-1, 1) for x in lses], write_lse, output_dtype)
    return merged, None if total is None else total.movedim(1, -1)


def _parts(name: str, given: Any) -> list[Tensor]:
    parts = list(given) if isinstance(given, (Tensor, Sequence)) else []
    if not parts or not all(isinstance(part, Tensor) for part in parts):
        raise TypeError(f"{name} is a list of tensors or a stack of them, not {described(given)}")
    return parts
