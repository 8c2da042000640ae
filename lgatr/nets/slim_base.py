"""What both slim networks share."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from lgatr.layers.slim import SlimLinear, SlimMLP, SlimRMSNorm
from lgatr.layout import SlimState


def hidden_state(vectors: Tensor, scalars: Tensor) -> SlimState:
    """Tokens ``(..., T, C, 4)`` and ``(..., T, S)`` as a hidden state."""
    return SlimState(vectors.transpose(-1, -2), scalars)


def public_tensors(x: SlimState) -> tuple[Tensor, Tensor]:
    """A hidden state as tokens."""
    return x.vectors.transpose(-1, -2), x.scalars


def require_scalars(**tensors: Tensor | None) -> None:
    """Raise ``ValueError`` for scalars that are missing.

    In a slim network vectors never turn into scalars, so without scalar inputs the scalar stream
    would carry nothing.
    """
    for name, tensor in tensors.items():
        if tensor is None or (isinstance(tensor, Tensor) and tensor.shape[-1:] == (0,)):
            raise ValueError(f"{name} must have at least one channel; slim networks need scalars")


def freeze_unused(norm: SlimRMSNorm, mlp: SlimMLP, out: SlimLinear) -> None:
    """Freeze what cannot reach the output of a network without vector or scalar outputs.

    Otherwise data-parallel training would wait for gradients that never come.
    """
    dead: list[nn.Parameter] = []

    def scalar_part(linear: SlimLinear) -> Iterable[nn.Parameter]:
        return () if linear.linear_s is None else linear.linear_s.parameters()

    linears = [module for module in mlp.modules() if isinstance(module, SlimLinear)]
    if out.out_s_channels == 0:
        dead += [parameter for linear in linears for parameter in scalar_part(linear)]
        dead += [] if norm.weight_s is None else [norm.weight_s]
    if out.out_v_channels == 0:
        dead += [linear.weight_v for linear in (*linears, out)]
        dead += [] if norm.weight_v is None else [norm.weight_v]
    for parameter in dead:
        parameter.requires_grad_(False)
