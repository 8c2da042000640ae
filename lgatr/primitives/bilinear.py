"""The geometric product."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from lgatr.layout import from_sectors, to_sectors
from lgatr.ops.product.stage import sector_product
from lgatr.primitives.config import PrimitivesConfig, primitives_config
from lgatr.utils.inputs import broadcast, check_multivectors


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
    return from_sectors(sector_product(left, right))[0].squeeze(-2)
