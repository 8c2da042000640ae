"""From the keyword arguments of a forward call to attention that is ready to run.

Legend: T tokens, H heads, D head width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lgatr.attention.backends.base import Backend
from lgatr.attention.packing import Packing
from lgatr.attention.registry import select_backend
from lgatr.attention.spec import AttentionSpec

_KEYWORDS = "spec, packing, backend, strict, attn_mask, attn_bias, is_causal, dropout_p, scale"


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
    """

    spec: AttentionSpec
    requested: str
    backend: Backend
    plan: Any

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend; see :meth:`lgatr.attention.backends.base.Backend.attend`."""
        return self.backend.attend(q, k, v, self.spec, self.plan)


def _spec_from_bias(bias: Any) -> dict[str, Any]:
    """Read a pattern from an ``attn_bias`` as users of xFormers write it."""
    if bias is None:
        return {}
    if isinstance(bias, Tensor):
        return {"mask": bias}
    kind = type(bias).__name__
    if kind in ("BlockDiagonalMask", "BlockDiagonalCausalMask"):
        starts, keys = bias.q_seqinfo.seqstart_py, bias.k_seqinfo.seqstart_py
        if starts != keys:
            raise ValueError(f"attn_bias {kind} with different query and key lengths")
        lengths = [b - a for a, b in zip(starts, starts[1:], strict=False)]
        packing = Packing.from_lengths(lengths, bias.q_seqinfo.seqstart.device)
        return {"packing": packing, "causal": kind == "BlockDiagonalCausalMask"}
    if kind == "LowerTriangularMask":
        return {"causal": True}
    raise TypeError(
        f"attn_bias of type {kind} is not supported; give a tensor, BlockDiagonalMask, "
        "BlockDiagonalCausalMask or LowerTriangularMask"
    )


def prepare_attention(
    device: torch.device,
    dtype: torch.dtype,
    *,
    spec: AttentionSpec | None = None,
    packing: Packing | None = None,
    backend: str = "auto",
    strict: bool = False,
    attn_mask: Tensor | None = None,
    attn_bias: Any = None,
    is_causal: bool = False,
    dropout_p: float = 0.0,
    scale: float | None = None,
    **unknown: Any,
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
    backend
        Name of the backend, or ``"auto"``.
    strict
        Raise if the backend has no kernel on this device, instead of running natively.
    attn_mask, is_causal, dropout_p, scale
        As for :func:`torch.nn.functional.scaled_dot_product_attention`.
    attn_bias
        As for xFormers: a tensor added to the scores, or a block-diagonal mask object.

    Raises
    ------
    TypeError
        If an argument is unknown.
    ValueError
        If the pattern contradicts itself or no backend can run it.
    """
    if unknown:
        raise TypeError(f"attention takes {_KEYWORDS}; not {', '.join(sorted(unknown))}")
    pattern: dict[str, Any] = {
        "packing": packing,
        "mask": attn_mask,
        "causal": is_causal,
        "dropout": dropout_p,
        "scale": scale,
    }
    given: dict[str, Any] = {
        name: value
        for name, value in pattern.items()
        # By type first: a tensor compares element by element.
        if isinstance(value, Tensor) or value not in (None, False, 0.0)
    }
    from_bias = _spec_from_bias(attn_bias)
    if given.keys() & from_bias.keys() or (spec is not None and (given or from_bias)):
        raise ValueError("the attention pattern is described twice; give one description")
    if spec is None:
        spec = AttentionSpec(**given, **from_bias)
    planner, executor = select_backend(backend, spec, device, dtype, strict=strict)
    plan = planner.plan(spec, device)
    if executor is not planner:
        plan = executor.plan(spec, device)
    return Attention(spec, backend, executor, plan)
