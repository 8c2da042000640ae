"""Equivariant linear maps and the maps that act grade by grade."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from lgatr.algebra import GRADES, INVOLUTION_SIGNS, NUM_BLADES, NUM_GRADES, REVERSE_SIGNS
from lgatr.layout import Sectors, constant, from_sectors, to_sectors
from lgatr.ops.linear.matrices import Assembly, Weights
from lgatr.ops.linear.stage import Linear
from lgatr.primitives.config import PrimitivesConfig, primitives_config
from lgatr.utils.inputs import check_multivectors, check_real


def num_linear_maps(config: PrimitivesConfig) -> int:
    """Number of independent equivariant linear maps between two multivectors: 10 or 5."""
    return config.num_pin_linear_basis_elements


def equi_linear(
    x: Tensor, coeffs: Tensor, *, config: PrimitivesConfig | Mapping[str, Any] | None = None
) -> Tensor:
    r"""The most general equivariant linear map between multivector channels.

    :math:`y_o = \sum_i \sum_{g=0}^{4} (c_{oig} \langle x_i \rangle_g
    + c_{oi(5+g)} \langle x_i \rangle_g I)`, where the second part exists for the connected
    subgroup only (arXiv:2405.14806, proposition 2).

    Parameters
    ----------
    x
        Multivectors ``(..., I, 16)``.
    coeffs
        ``(O, I, 10)``, or ``(O, I, 5)`` for the full Lorentz group.
    config
        Decides how many coefficients are expected; None takes what ``coeffs`` has.

    Returns
    -------
    Multivectors ``(..., O, 16)``.

    Raises
    ------
    ValueError
        If ``coeffs`` does not fit ``x`` or ``config``.
    """
    check_multivectors("x", x)
    check_real("coeffs", coeffs, "(out, in, 10 or 5)", like=x)
    expected = (5, 10) if config is None else (num_linear_maps(primitives_config(config)),)
    if coeffs.dim() != 3 or coeffs.shape[1] != x.shape[-2] or coeffs.shape[2] not in expected:
        raise ValueError(
            f"coeffs has shape {tuple(coeffs.shape)}; {x.shape[-2]} input channels need "
            f"(out, {x.shape[-2]}, {' or '.join(map(str, expected))})"
        )
    stage = Linear(Assembly())
    return from_sectors(Sectors(*stage(*to_sectors(x), *Weights(coeffs))))[0]


def grade_project(x: Tensor) -> Tensor:
    """The five grades of multivectors ``(..., 16)``, each a multivector: ``(..., 5, 16)``."""
    check_multivectors("x", x, pointwise=True)
    mask = [float(g == grade) for grade in range(NUM_GRADES) for g in GRADES]
    table = constant(tuple(mask), x.device, x.dtype).view(NUM_GRADES, NUM_BLADES)
    return x.unsqueeze(-2) * table


def reverse(x: Tensor) -> Tensor:
    """Reverse the order of basis vectors in every blade of multivectors ``(..., 16)``."""
    check_multivectors("x", x, pointwise=True)
    return x * constant(REVERSE_SIGNS, x.device, x.dtype)


def grade_involute(x: Tensor) -> Tensor:
    """Change the sign of every basis vector in multivectors ``(..., 16)``."""
    check_multivectors("x", x, pointwise=True)
    return x * constant(INVOLUTION_SIGNS, x.device, x.dtype)


__all__ = [
    "equi_linear",
    "grade_involute",
    "grade_project",
    "num_linear_maps",
    "reverse",
]
