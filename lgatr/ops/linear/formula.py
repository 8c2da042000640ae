"""The equivariant linear map in plain torch: three matrix products."""

from __future__ import annotations

from torch import Tensor

from lgatr.ops._runtime.matmul import linear
from lgatr.utils.autocast import full_precision, keeps_precision


def linear_map(
    z: Tensor, v: Tensor, b: Tensor, of_z: Tensor, of_v: Tensor, of_b: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """A state ``z (T, I_z)``, ``v (4, T, I)``, ``b (3, T, I)`` times the matrices of its sectors.

    Under autocast the invariants are multiplied in its format, vectors and bivectors in that of
    the weights; see :mod:`lgatr.utils.autocast`.
    """
    z = linear(z, of_z, bias)
    if not keeps_precision(z.device.type):
        return z, linear(v, of_v), linear(b, of_b)
    precise = of_v.dtype
    with full_precision(z.device.type):
        return z.to(precise), linear(v.to(precise), of_v), linear(b.to(precise), of_b)
