"""Masks and biases with rows in which no key is seen."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lgatr.ops._runtime.stage import needs_plain_formula


def open_empty_rows(table: Tensor) -> tuple[Tensor, Tensor | None]:
    """A mask or bias whose rows without any key see every key, and which rows those are.

    A softmax over nothing is not a number, and neither is its gradient. Their outputs are to be
    replaced by zeros.

    Parameters
    ----------
    table
        ``(..., queries, keys)``: True where attention is allowed, or added to the scores.

    Returns
    -------
    table
        The same without empty rows.
    empty
        ``(..., queries, 1)``; None where there are none, and a CPU can tell.
    """
    table = table if table.dim() else table.view(1)
    boolean = table.dtype == torch.bool
    if boolean or not table.shape[-1]:
        empty = ~(table if boolean else table.bool()).any(-1, keepdim=True)
    else:
        empty = table.detach().amax(-1, keepdim=True) == -math.inf
    known = table.device.type == "cpu" and not torch.compiler.is_compiling()
    if known and not needs_plain_formula() and not bool(empty.any()):
        return table, None
    return (table | empty if boolean else table.masked_fill(empty, 0.0)), empty
