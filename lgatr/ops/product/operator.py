"""The geometric product as one operator of torch, for programs that it compiles.

The terms of the formula would be hundreds of nodes to trace and to compile. The operator runs the
same passes as everything else.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lgatr.layout import Sectors
from lgatr.ops._runtime.choice import CPP, TRITON, Operation
from lgatr.ops.product.formula import product_by_matrices

PRODUCT_OPERATION = Operation(__package__, "product", CPP, TRITON)

_LIBRARY = torch.library.Library("lgatr", "FRAGMENT")
_STATE = "Tensor z{0}, Tensor v{0}, Tensor b{0}"
_LIBRARY.define(
    f"geometric_product({_STATE.format('x')}, {_STATE.format('y')}) -> (Tensor, Tensor, Tensor)"
)
_LIBRARY.define(
    f"geometric_product_gradients({_STATE.format('x')}, {_STATE.format('y')}, {_STATE.format('g')})"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
)


def _product(*factors: Tensor) -> tuple[Tensor, ...]:
    passes = PRODUCT_OPERATION.choose(factors[0]) if factors[0].numel() else None
    if passes is not None:
        outputs, _ = passes.forward(None, *factors)
    else:
        outputs = product_by_matrices(Sectors(*factors[:3]), Sectors(*factors[3:]))
    return tuple(x.contiguous() for x in outputs)


def _gradients(*tensors: Tensor) -> tuple[Tensor, ...]:
    factors, grads = tensors[:6], tensors[6:]
    passes = PRODUCT_OPERATION.choose(factors[0]) if factors[0].numel() else None
    if passes is not None and passes.backward is not None:
        return tuple(passes.backward(None, factors, (), (), grads))
    with torch.enable_grad():
        given = [x.detach().requires_grad_() for x in factors]
        outputs = product_by_matrices(Sectors(*given[:3]), Sectors(*given[3:]))
    return torch.autograd.grad(tuple(outputs), given, grads)


def _like(*factors: Tensor) -> tuple[Tensor, ...]:
    return tuple(x.new_empty(x.shape) for x in factors)


def _backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
    found: tuple[Tensor, ...] = torch.ops.lgatr.geometric_product_gradients(
        *ctx.saved_tensors, *grads
    )
    return found


def _save(ctx: Any, inputs: tuple[Tensor, ...], output: Any) -> None:
    ctx.save_for_backward(*inputs)


_LIBRARY.impl("geometric_product", _product, "CompositeExplicitAutograd")
_LIBRARY.impl("geometric_product_gradients", _gradients, "CompositeExplicitAutograd")
torch.library.register_fake(
    "lgatr::geometric_product", lambda *factors: _like(*factors[:3]), lib=_LIBRARY
)
torch.library.register_fake(
    "lgatr::geometric_product_gradients", lambda *tensors: _like(*tensors[:6]), lib=_LIBRARY
)
torch.library.register_autograd(
    "lgatr::geometric_product", _backward, setup_context=_save, lib=_LIBRARY
)


def traced_product(x: Sectors, y: Sectors) -> Sectors:
    """The product while torch traces a program."""
    return Sectors(*torch.ops.lgatr.geometric_product(*x, *y))
