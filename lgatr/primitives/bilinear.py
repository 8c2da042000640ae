"""The geometric product."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lgatr.layout import Sectors, from_sectors, to_sectors
from lgatr.ops._runtime.stage import Then
from lgatr.ops.product.stage import ProductStage, signed_products
from lgatr.primitives.config import PrimitivesConfig, primitives_config
from lgatr.primitives.linear import LINEAR, SectorMatrices
from lgatr.utils.inputs import broadcast, check_multivectors


def sector_product(x: Sectors, y: Sectors, bivector: bool = True) -> Sectors:
    """The geometric product of two states, channel by channel; auxiliary scalars are not used.

    Parameters
    ----------
    x, y
        States with equal multivector channels and no auxiliary scalars.
    bivector
        If False, the bivectors of the result are set to zero.
    """
    out = signed_products(x, y)
    return out if bivector else out._replace(b=torch.zeros_like(out.b))


# Both factors are computed again for the gradients: they are the largest tensors of a block.
_BILINEAR = Then(LINEAR, ProductStage(), count=7, middle="again")


def sector_bilinear(
    x: Sectors, left: SectorMatrices, right: SectorMatrices, bivector: bool = True
) -> Sectors:
    """The geometric product of two linear maps of a state, by one matrix product per sector.

    Parameters
    ----------
    x
        The state.
    left, right
        The maps, to multivectors without auxiliary scalars; both with a bias, or neither.
    bivector
        If False, the bivectors of the result are set to zero.
    """
    matrices = [torch.cat([a, b]) for a, b in zip(left[:3], right[:3], strict=True)]
    bias = None
    if left.bias is not None and right.bias is not None:
        bias = torch.cat([left.bias, right.bias])
    out = Sectors(*_BILINEAR(*x, *matrices, bias))
    return out if bivector else out._replace(b=torch.zeros_like(out.b))


def geometric_product(
    x: Tensor, y: Tensor, *, config: PrimitivesConfig | Mapping[str, Any] | None = None
) -> Tensor:
    """The geometric product ``x y`` in Cl(1,3).

    Parameters
    ----------
    x, y
        Multivectors ``(..., 16)``; leading dimensions broadcast.
    config
        Accepted for compatibility; every setting gives the full product.

    Returns
    -------
    Multivectors ``(..., 16)``.
    """
    primitives_config(config)
    check_multivectors("x", x, pointwise=True)
    check_multivectors("y", y, like=x, pointwise=True)
    x, y = broadcast(x, y)
    left, right = to_sectors(x.unsqueeze(-2)), to_sectors(y.unsqueeze(-2))
    return from_sectors(signed_products(left, right))[0].squeeze(-2)
