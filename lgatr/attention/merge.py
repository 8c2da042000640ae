r"""Merge attention to parts of the keys into attention to all of them.

The softmax over a union of keys is a weighted mean of the softmaxes over its parts, with weights
:math:`\exp(\mathrm{lse}_p)`, where :math:`\mathrm{lse}_p = \log\sum_{j \in p} \exp s_{ij}`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lgatr.attention.pattern.shapes import check_output_format, check_tensors
from lgatr.utils.described import described
from lgatr.utils.inputs import check_real


def merge_attentions(
    outputs: Sequence[Tensor] | Tensor,
    lses: Sequence[Tensor] | Tensor,
    write_lse: bool = True,
    output_dtype: torch.dtype | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Merge attention to disjoint sets of keys.

    Parameters
    ----------
    outputs
        ``(..., H, D)`` each; or one tensor ``(parts, ..., H, D)``.
    lses
        ``(..., H)`` each, as :func:`lgatr.attention.partial_attention` gives them; or one
        tensor. For those of xFormers, with heads before queries, see
        :func:`lgatr.attention.memory_efficient.merge_attentions`.
    write_lse
        Whether to give the log-sum-exp.
    output_dtype
        Format of the merged output; None is that of ``outputs``.

    Returns
    -------
    out
        Attention to all keys, ``(..., H, D)``; zeros where a query has none.
    lse
        Their log-sum-exp, ``(..., H)``, or None.

    Raises
    ------
    ValueError
        If there are no parts, not one log-sum-exp for each, or shapes that do not fit.
    """
    for name, parts in (("outputs", outputs), ("lses", lses)):
        if not isinstance(parts, (Tensor, Sequence)) or isinstance(parts, (str, bytes)):
            raise TypeError(f"{name} are a sequence of tensors, not {described(parts)}")
        if isinstance(parts, Tensor):
            check_real(name, parts, "(parts, ..., heads, width)")
            if not parts.dim():
                raise ValueError(f"{name} are (parts, ...), not {described(parts)}")
    outputs, lses = list(outputs), list(lses)
    if output_dtype is not None:
        check_output_format(output_dtype)
    if not outputs or len(outputs) != len(lses):
        raise ValueError(f"{len(outputs)} outputs and {len(lses)} log-sum-exps cannot be merged")
    for out, lse in zip(outputs, lses, strict=True):
        check_tensors(out, lse)
        check_real("outputs", out, "(..., heads, width)")
        check_real("lses", lse, "(..., heads)")
        if out.shape != outputs[0].shape or lse.shape != out.shape[:-1]:
            raise ValueError(
                f"an output of shape {tuple(out.shape)} and a log-sum-exp of shape "
                f"{tuple(lse.shape)} cannot be merged with outputs of {tuple(outputs[0].shape)}; "
                "outputs are (..., heads, width), log-sum-exps (..., heads)"
            )
    double = any(x.dtype == torch.float64 for x in (*outputs, *lses))
    inside = torch.float64 if double else torch.float32
    lses = [lse.to(inside) for lse in lses]
    # Relative to the largest, so that no exponential overflows; the result does not depend on it.
    top = torch.stack([lse.detach() for lse in lses]).amax(0)
    top = top.masked_fill(top == -math.inf, 0.0)
    weights = [torch.exp(lse - top) for lse in lses]
    total = torch.stack(weights).sum(0)
    dead = total == 0.0
    total = total.masked_fill(dead, 1.0)
    merged = torch.zeros_like(outputs[0], dtype=inside)
    for weight, out in zip(weights, outputs, strict=True):
        # The output of a part without keys is undefined.
        seen = out.to(inside).masked_fill((weight == 0.0).unsqueeze(-1), 0.0)
        merged = merged + seen * (weight / total).unsqueeze(-1)
    merged = merged.to(outputs[0].dtype if output_dtype is None else output_dtype)
    if not write_lse:
        return merged, None
    return merged, (torch.log(total) + top).masked_fill(dead, -math.inf)
