"""The geometric product of hidden states, and of two linear maps of one."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from lgatr.layout import Sectors
from lgatr.ops._runtime.choice import CPP, TRITON, Operation
from lgatr.ops._runtime.stage import Fused, Optionals, Stage, Tensors
from lgatr.ops.linear.matrices import SectorMatrices
from lgatr.ops.linear.stage import Linear, SectorMap, side_by_side, stage_of
from lgatr.ops.product import operator
from lgatr.ops.product.formula import product_by_matrices, product_by_table

# Missing in the oldest torch we accept.
_is_exporting = getattr(torch.compiler, "is_exporting", lambda: False)


def _formula(x: Sectors, y: Sectors) -> Sectors:
    """The product by whichever formula suits: traced, exported, or neither."""
    if not torch.compiler.is_compiling():
        return product_by_matrices(x, y)
    return product_by_table(x, y) if _is_exporting() else operator.traced_product(x, y)


class Product(Stage):
    """Inputs are z, v and b of both factors; outputs those of the product."""

    operation = operator.PRODUCT

    def plain(self, *inputs: Tensor | None) -> Tensors:
        """See :class:`~lgatr.ops._runtime.stage.Stage`."""
        return _formula(Sectors(*inputs[:3]), Sectors(*inputs[3:]))  # type: ignore[arg-type]


class ProductOfHalves(Stage):
    """The product of the first half of the channels with the second half.

    Inputs are z, v and b of both factors, side by side in the last dimension.
    """

    operation = Operation(__package__, "product_of_halves", CPP, TRITON)

    def plain(self, *inputs: Tensor | None) -> Tensors:
        """See :class:`~lgatr.ops._runtime.stage.Stage`."""
        return _formula(*halves(inputs))


def halves(joined: Optionals) -> tuple[Sectors, Sectors]:
    """Both factors, as views."""
    left, right = zip(*(x.chunk(2, dim=-1) for x in joined if x is not None), strict=True)
    return Sectors(*left), Sectors(*right)


PRODUCT = Product()
_HALVES = ProductOfHalves()


def sector_product(x: Sectors, y: Sectors, bivector: bool = True) -> Sectors:
    """The geometric product of two states, channel by channel; auxiliary scalars are not used.

    Parameters
    ----------
    x, y
        States with equal multivector channels and no auxiliary scalars.
    bivector
        If False, the bivectors of the result are set to zero.
    """
    out = Sectors(*PRODUCT(*x, *y))
    return out if bivector else out._replace(b=torch.zeros_like(out.b))


# Both factors are computed again for the gradients: they are the largest tensors of a block.
def _bilinear(linear: Linear, inputs: int) -> Fused:
    return Fused(linear, _HALVES, 3 + inputs, "recomputed")


_kept_bilinear = lru_cache(256)(_bilinear)  # dynamo warns of cached functions


def sector_bilinear(
    x: Sectors,
    left: SectorMap | SectorMatrices,
    right: SectorMap | SectorMatrices,
    bivector: bool = True,
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
    linear, inputs = stage_of(side_by_side(left, right))
    make = _bilinear if torch.compiler.is_compiling() else _kept_bilinear
    out = Sectors(*make(linear, len(inputs))(*x, *inputs))
    return out if bivector else out._replace(b=torch.zeros_like(out.b))
