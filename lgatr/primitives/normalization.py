"""Equivariant layer normalisation."""

from __future__ import annotations

import torch
from torch import Tensor

from lgatr.ops.norm.formula import EPSILON
from lgatr.primitives.invariants import abs_squared_norm
from lgatr.utils.arguments import check_floor
from lgatr.utils.inputs import check_channel_dim, check_multivectors


def equi_layer_norm(
    x: Tensor,
    channel_dim: int = -2,
    gain: float | Tensor = 1.0,
    epsilon: float | Tensor = EPSILON,
) -> Tensor:
    r"""Divide multivectors by the root mean square of their norms over the channels.

    :math:`y = g\,x / \sqrt{\max(\mathrm{mean}_c |x_c|^2, \epsilon)}` with the norm of
    :func:`~lgatr.primitives.invariants.abs_squared_norm` (arXiv:2411.00446, section 2).

    Parameters
    ----------
    x
        Multivectors ``(..., C, 16)``.
    channel_dim
        Where the channels are.
    gain
        Factor on the result.
    epsilon
        Floor of the mean squared norm.

    Raises
    ------
    ValueError
        If ``x`` has no last dimension of 16, or ``channel_dim`` is that one or none.
    """
    check_multivectors("x", x, pointwise=True)
    if not isinstance(epsilon, Tensor):
        check_floor("epsilon", epsilon)
    check_channel_dim("x", x, channel_dim, "channel_dim")
    squared = abs_squared_norm(x).mean(dim=channel_dim, keepdim=True)
    floor = torch.as_tensor(epsilon, device=x.device, dtype=x.dtype)
    return gain * x * torch.maximum(squared, floor).rsqrt()
