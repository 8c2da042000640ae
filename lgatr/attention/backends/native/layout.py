"""How gradients of queries, keys and values lie in memory.

Legend: T query tokens, U key tokens, H heads, D head width.
"""

from __future__ import annotations

from torch import Tensor


def places_of_gradients(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, ...]:
    """Memory for the gradients of ``(T, H, D)`` and twice ``(U, H, D)``.

    Where there are as many queries as keys they lie token by token side by side: in self-attention
    the three came from one projection, whose gradient then needs no copy.
    """
    if len(q) == len(k):
        return q.new_empty(len(q), 3, *q.shape[1:]).unbind(1)
    return tuple(x.new_empty(x.shape) for x in (q, k, v))
