"""Packed attention as one operator that torch can trace: for compiled and exported networks.

Legend: T query tokens, U key tokens, B events, H heads, K key-value heads (H or a divisor), D head
width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lgatr.attention.backends.native.events import attention_of_events
from lgatr.attention.backends.native.torch_efficient import efficient_attention
from lgatr.utils.lengths import check_token_count, checked_offsets


class _CheckedOffsets:
    """Offsets of events in a traced program, checked before a kernel follows them.

    The device is waited for: the lengths are not known before.
    """

    def __init__(self, ptr: Tensor, tokens: int) -> None:
        self.ptr, self.lengths = ptr.int(), checked_offsets(ptr)
        check_token_count(sum(self.lengths), tokens)
        self.max_length = max(self.lengths)


# In traced programs the lengths of events are data, which only an operator may read.
_LIBRARY = torch.library.Library("lgatr", "FRAGMENT")
_ARGUMENTS = "Tensor q, Tensor k, Tensor v, Tensor ptr_q, Tensor ptr_k, bool causal, float? scale"
_LIBRARY.define(f"packed_attention({_ARGUMENTS}) -> Tensor")
_LIBRARY.define(f"packed_attention_backward(Tensor grad, {_ARGUMENTS}) -> (Tensor, Tensor, Tensor)")


def packed_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    ptr_q: Tensor,
    ptr_k: Tensor,
    causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """:func:`~lgatr.attention.backends.native.events.attention_of_events`, as an operator.

    Parameters
    ----------
    q
        ``(T, H, D)``.
    k, v
        ``(U, K, D)``.
    ptr_q, ptr_k
        ``(B + 1,)`` offsets of the events.
    causal, scale
        As for :func:`torch.nn.functional.scaled_dot_product_attention`.
    """
    return torch.ops.lgatr.packed_attention(q, k, v, ptr_q, ptr_k, causal, scale)


def _forward(
    q: Tensor, k: Tensor, v: Tensor, ptr_q: Tensor, ptr_k: Tensor, causal: bool, scale: float | None
) -> Tensor:
    queries, keys = _CheckedOffsets(ptr_q, len(q)), _CheckedOffsets(ptr_k, len(k))
    if len(queries.lengths) != len(keys.lengths):
        raise ValueError(
            f"queries come from {len(queries.lengths)} events, keys from {len(keys.lengths)}; "
            "there must be one for each"
        )
    if q.is_cuda and q.dtype != torch.float64:
        out = efficient_attention(
            q, k, v, queries, keys, (None, 0, False) if causal else None, 0.0, scale
        )
        assert out is not None  # it has both masks
        return out.contiguous()
    lengths = queries.lengths, keys.lengths
    return attention_of_events(q, k, v, *lengths, causal, scale).contiguous()


def _backward(grad: Tensor, q: Tensor, k: Tensor, v: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    # The forward pass is computed again, as flash attention does with its scores.
    with torch.enable_grad():
        q, k, v = (x.detach().requires_grad_() for x in (q, k, v))
        out = _forward(q, k, v, *rest)
        return tuple(g.contiguous() for g in torch.autograd.grad(out, (q, k, v), grad))


def _fake(q: Tensor, k: Tensor, v: Tensor, *rest: Any) -> Tensor:
    return q.new_empty(*q.shape[:-1], v.shape[-1])


def _fake_backward(grad: Tensor, q: Tensor, k: Tensor, v: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    return tuple(x.new_empty(x.shape) for x in (q, k, v))


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.causal, ctx.scale = inputs
    ctx.save_for_backward(*tensors)


def _autograd(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    grads = torch.ops.lgatr.packed_attention_backward(
        grad, *ctx.saved_tensors, ctx.causal, ctx.scale
    )
    return (*grads, None, None, None, None)


_LIBRARY.impl("packed_attention", _forward, "CompositeExplicitAutograd")
_LIBRARY.impl("packed_attention_backward", _backward, "CompositeExplicitAutograd")
torch.library.register_fake("lgatr::packed_attention", _fake, lib=_LIBRARY)
torch.library.register_fake("lgatr::packed_attention_backward", _fake_backward, lib=_LIBRARY)
torch.library.register_autograd(
    "lgatr::packed_attention", _autograd, setup_context=_setup, lib=_LIBRARY
)
