"""Run a function eagerly, between two graphs of a program that torch.compile traces.

Imported only while torch traces, since the decorator imports torch's compiler.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

_REASON = (
    "only native runs inside of one graph, packed with Causal() or no mask, dense also with a "
    "tensor; no scores, no dropout of packed attention weights, no max_seqlen and no cache. Leave "
    "out fullgraph=True for anything else"
)


def _run(function: Callable[..., Any], *arguments: Any) -> Any:
    return function(*arguments)


def _disabled(function: Callable[..., Any]) -> Callable[..., Any]:
    try:
        return torch.compiler.disable(function, reason=_REASON)  # type: ignore[no-any-return]
    except TypeError:  # torch before 2.7 takes no reason
        return torch.compiler.disable(function)  # type: ignore[no-any-return]


run_eagerly = _disabled(_run)
