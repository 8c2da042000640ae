"""Attention that a program of torch.compile calls, but does not contain.

Imported while torch traces, so that nobody else imports its compiler.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from lgatr.attention.prepare import Attention, prepared

F = TypeVar("F", bound=Callable[..., Any])
_REASON = (
    "only native runs inside of one graph, packed with Causal() or no mask, dense also with a "
    "tensor; no scores, no dropout of packed attention weights, no max_seqlen and no cache. Leave "
    "out fullgraph=True for anything else"
)


def _outside(function: F) -> F:
    try:
        return torch.compiler.disable(function, reason=_REASON)  # type: ignore[no-any-return]
    except TypeError:  # torch before 2.7 takes no reason
        return torch.compiler.disable(function)  # type: ignore[no-any-return]


@_outside
def prepare(
    device: torch.device, dtype: torch.dtype, keywords: dict[str, Any], others: dict[str, Any]
) -> Attention:
    """See :func:`lgatr.attention.prepare.prepared`."""
    return prepared(device, dtype, keywords, others)


@_outside
def attend(attention: Attention, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Call ``attention``."""
    return attention(q, k, v)


@_outside
def attend_partial(attention: Attention, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """See :meth:`lgatr.attention.Attention.partial`."""
    return attention.partial(q, k, v)
