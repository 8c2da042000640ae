"""The linear map on CPUs: torch's matrix products, and parameters into matrices by look-up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lgatr.ops._runtime.choice import Passes
from lgatr.ops._runtime.matmul import as_rows, input_gradient, products, weight_gradient
from lgatr.ops._runtime.stage import Optionals, Tensors
from lgatr.ops.linear.matrices import Placement

if TYPE_CHECKING:
    from lgatr.ops.linear.stage import Assembly, Linear


def place(placement: Placement, parameters: Optionals) -> list[Tensor]:
    """The matrices, and the bias if there is one."""
    given = [x.flatten() for x in parameters if x is not None]
    (source, sign), _ = placement.tables(given[0].device, given[0].dtype)
    entries = torch.cat([given[0].new_zeros(1), *given])
    out = entries.index_select(0, source).mul_(sign)
    parts = out.split(placement.out_sizes)
    return [x.view(shape) for x, shape in zip(parts, placement.out_shapes, strict=True)]


def place_gradients(
    placement: Placement, parameters: Optionals, grads: Optionals
) -> list[Tensor | None]:
    """The gradients of the parameters from those of the matrices and the bias."""
    given = [g.flatten() for g in grads if g is not None]
    _, (target, sign) = placement.tables(given[0].device, given[0].dtype)
    entries = torch.cat([*given, given[0].new_zeros(1)])
    total = entries.index_select(0, target[0]).mul_(sign[0])
    for places, signs in zip(target[1:], sign[1:], strict=True):
        total.addcmul_(entries.index_select(0, places), signs)
    parts = total.split(placement.sizes)
    return [
        None if x is None else part.view(x.shape) for x, part in zip(parameters, parts, strict=True)
    ]


def assembly(settings: Assembly, *parameters: Tensor | None) -> tuple[Tensors, Tensors]:
    """Forward pass of :class:`~lgatr.ops.linear.stage.Assembly`."""
    return tuple(place(settings.placement, parameters)), ()


def assembly_gradients(
    settings: Assembly, inputs: Optionals, outputs: Tensors, kept: Tensors, grads: Tensors
) -> Optionals:
    """Backward pass likewise."""
    return place_gradients(settings.placement, inputs, grads)


def linear(
    settings: Linear, z: Tensor, v: Tensor, b: Tensor, *given: Tensor | None
) -> tuple[Tensors, Tensors]:
    """Forward pass of :class:`~lgatr.ops.linear.stage.Linear`."""
    if settings.placement is None:
        of_z, of_v, of_b, bias = given
        kept: Tensors = ()
    else:
        of_z, of_v, of_b, *rest = place(settings.placement, given)
        bias, kept = rest[0] if rest else None, (of_z, of_v, of_b)
    assert of_z is not None and of_v is not None and of_b is not None
    # Not as rows: a view of rows would be another kind of input for compiled blocks.
    x = z.contiguous(), v.contiguous(), b.contiguous()
    return products(x, (of_z, of_v, of_b), (bias, None, None)), kept


def linear_gradients(
    settings: Linear, inputs: Optionals, outputs: Tensors, kept: Tensors, grads: Tensors
) -> Optionals:
    """Backward pass likewise."""
    given = inputs[3:]
    matrices = kept if settings.placement is not None else given[:3]
    of_states, of_matrices = [], []
    for x, matrix, grad in zip(inputs[:3], matrices, grads, strict=True):
        assert x is not None and matrix is not None
        rows = as_rows(grad)
        of_states.append(input_gradient(rows, matrix).view(x.shape))
        of_matrices.append(weight_gradient(rows, as_rows(x)))
    return *of_states, *of_parameters(settings, given, of_matrices, grads[0])


def of_parameters(
    settings: Linear, given: Optionals, of_matrices: list[Tensor], grad: Tensor
) -> Optionals:
    """The gradients of ``given``, from those of the matrices and of the first output."""
    placement = settings.placement
    if placement is None:
        return *of_matrices, None if given[3] is None else as_rows(grad).sum(0)
    if len(placement.out_shapes) > len(of_matrices):
        of_matrices = [*of_matrices, as_rows(grad).sum(0)]
    return place_gradients(placement, given, of_matrices)


ASSEMBLY = Passes(assembly, assembly_gradients)
LINEAR = Passes(linear, linear_gradients)
