"""Equivariant linear maps and the maps that act grade by grade.

Legend: T tokens, O and I multivector channels out and in, S' and S scalar channels out and in,
H head groups, G = 16 blades.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lgatr.algebra import (
    GRADES,
    INVOLUTION_SIGNS,
    NUM_BLADES,
    NUM_GRADES,
    REVERSE_SIGNS,
)
from lgatr.layout import Sectors, constant, from_sectors, to_sectors
from lgatr.ops._runtime.matmul import linear
from lgatr.ops.linear.stage import LinearStage, Placement, PlacementStage
from lgatr.primitives.config import PrimitivesConfig, primitives_config
from lgatr.utils.autocast import full_precision, keeps_precision
from lgatr.utils.inputs import check_multivectors, check_real

# Grades of p and of p I in each sector: scalar pair, vector pairs, bivector pairs.
_SECTOR_GRADES = ((0, 4), (1, 3), (2, 2))


def num_linear_maps(config: PrimitivesConfig) -> int:
    """Number of independent equivariant linear maps between two multivectors: 10 or 5."""
    return config.num_pin_linear_basis_elements


def _block_table(num_maps: int) -> tuple[float, ...]:
    """How the coefficients enter the 2x2 blocks of the sectors; rows: maps, columns: (3, 2, 2).

    Map g projects on grade g; map 5 + g does so and multiplies by I from the right. On a pair
    (p, p I) that is a rotation, because p I I = -p.
    """
    table = [[0.0] * (len(_SECTOR_GRADES) * 4) for _ in range(num_maps)]
    for sector, (low, high) in enumerate(_SECTOR_GRADES):
        column = 4 * sector
        table[low][column] += 1.0
        table[high][column + 3] += 1.0
        if num_maps > NUM_GRADES:
            table[NUM_GRADES + high][column + 1] -= 1.0
            table[NUM_GRADES + low][column + 2] += 1.0
    return tuple(entry for row in table for entry in row)


class SectorMatrices(NamedTuple):
    """An equivariant linear map as one matrix per sector, and the bias of the scalar sector."""

    z: Tensor
    v: Tensor
    b: Tensor
    bias: Tensor | None


class ScalarMixing(NamedTuple):
    """Weights that connect multivector scalars and auxiliary scalars.

    Parameters
    ----------
    s2mvs
        ``(2 O, S)``, rows ordered (O, scalar | pseudoscalar); ``(O, S)`` for the full group.
    mvs2s
        ``(S', 2 I)``, columns ordered alike; ``(S', I)`` for the full group.
    s2s
        ``(S', S)``.
    mv_bias
        ``(2 O,)``, ordered like the rows of ``s2mvs``; or ``(O,)``, for the scalars alone.
    s_bias
        ``(S',)``.
    """

    s2mvs: Tensor | None = None
    mvs2s: Tensor | None = None
    s2s: Tensor | None = None
    mv_bias: Tensor | None = None
    s_bias: Tensor | None = None


def _with_pseudoscalar(x: Tensor, channels: int, dim: int) -> Tensor:
    """Split ``dim`` into (channels, 2), with zeros for the pseudoscalars where there are none."""
    if x.shape[dim] == channels and channels:
        return torch.stack([x, torch.zeros_like(x)], dim=dim + 1)
    return x.unflatten(dim, (channels, 2))


def _by_head(x: Tensor | None, channels: int, parts: int, heads: int) -> Tensor | None:
    """Rows ordered (part, channel, head) as (part, head, channel).

    A channel has one row, or two where multivectors have a scalar and a pseudoscalar.
    """
    if x is None:
        return None
    split = x.reshape(parts, channels // (parts * heads), heads, -1)
    return split.transpose(1, 2).reshape(x.shape)


def _matrices(
    out_groups: int, in_groups: int, parts: int, *parameters: Tensor | None
) -> tuple[Tensor | None, ...]:
    """The plain formula of :func:`sector_matrices`."""
    weight, s2mvs, mvs2s, s2s, mv_bias, s_bias = parameters
    assert weight is not None
    if parts:
        heads, mv = out_groups // parts, weight.shape[0]
        s = 0 if mvs2s is None else mvs2s.shape[0]
        weight, s2mvs, mv_bias = (_by_head(x, mv, parts, heads) for x in (weight, s2mvs, mv_bias))
        mvs2s, s2s, s_bias = (_by_head(x, s, parts, heads) for x in (mvs2s, s2s, s_bias))
        assert weight is not None
    o, i = weight.shape[0], weight.shape[1]
    go, gi = out_groups, in_groups
    table = constant(_block_table(weight.shape[2]), weight.device, weight.dtype)
    with full_precision(weight.device.type):
        blocks = weight @ table.view(weight.shape[2], -1)
    blocks = blocks.view(go, o // go, gi, i // gi, 3, 2, 2)
    # (sector, group, p | p I, channel) for rows, (group, p | p I, channel) for columns
    blocks = blocks.permute(4, 0, 5, 1, 2, 6, 3).reshape(3, go, 2 * o // go, gi, 2 * i // gi)
    z, v, b = blocks.unbind(0)
    if s2mvs is not None:
        s_in = s2mvs.shape[1]
        columns = _with_pseudoscalar(s2mvs, o, 0).view(go, o // go, 2, gi, s_in // gi)
        z = torch.cat([z, columns.transpose(1, 2).flatten(1, 2)], dim=-1)
    if mvs2s is not None:
        s_out = mvs2s.shape[0]
        rows = _with_pseudoscalar(mvs2s, i, 1).view(go, s_out // go, gi, i // gi, 2)
        rows = rows.transpose(-1, -2).flatten(-2)
        if s2s is not None:
            rows = torch.cat([rows, s2s.view(go, s_out // go, gi, s2s.shape[1] // gi)], dim=-1)
        z = torch.cat([z, rows], dim=1)
    return (
        z.flatten(2).flatten(0, 1),
        v.reshape(2 * o, 2 * i),
        b.reshape(2 * o, 2 * i),
        _sector_bias(mv_bias, s_bias, o, go),
    )


@lru_cache(maxsize=64)
def _placement(
    out_groups: int, in_groups: int, parts: int, *shapes: torch.Size | None
) -> Placement:
    return Placement(partial(_matrices, out_groups, in_groups, parts), shapes)


def sector_matrices(
    weight: Tensor,
    mixing: ScalarMixing,
    out_groups: int = 1,
    in_groups: int = 1,
    parts: int = 0,
) -> SectorMatrices:
    """Assemble the sector matrices of an equivariant linear map from its public parameters.

    Channels may come in groups (attention heads): rows then run over groups first, and within a
    group over the coefficients of p, of p I, and the group's scalars.

    Parameters
    ----------
    weight
        ``(O, I, 10)`` or ``(O, I, 5)``.
    mixing
        Weights of the auxiliary scalars, and the biases.
    out_groups, in_groups
        Number of channel groups, each of which holds equally many channels.
    parts
        If above 0, output channels are ordered (part, channel, head) and are put in order
        (part, head, channel), so that groups are heads; of small weights rather than of large
        activations.
    """
    parameters = (weight, *mixing)
    formula = partial(_matrices, out_groups, in_groups, parts)
    if torch.compiler.is_compiling():
        return SectorMatrices(*formula(*parameters))  # type: ignore[arg-type]
    shapes = (None if x is None else x.shape for x in parameters)
    stage = PlacementStage(formula, _placement(out_groups, in_groups, parts, *shapes))
    z, v, b, *bias = stage(*parameters)
    return SectorMatrices(z, v, b, bias[0] if bias else None)


def _sector_bias(
    mv_bias: Tensor | None, s_bias: Tensor | None, channels: int, groups: int
) -> Tensor | None:
    parts = []
    if mv_bias is not None:
        bias = _with_pseudoscalar(mv_bias, channels, 0)
        bias = bias.view(groups, channels // groups, 2)
        parts.append(bias.transpose(1, 2).flatten(1))
    if s_bias is not None:
        parts.append(s_bias.view(groups, -1))
    return torch.cat(parts, dim=-1).flatten() if parts else None


def sector_linear(x: Sectors, matrices: SectorMatrices) -> Sectors:
    """Apply an equivariant linear map: three dense matrix products.

    Under autocast the invariants are multiplied in its format, vectors and bivectors in that of
    the weights; see :mod:`lgatr.utils.autocast`.
    """
    return Sectors(*LINEAR(*x, *matrices))


def _linear(
    z: Tensor, v: Tensor, b: Tensor, of_z: Tensor, of_v: Tensor, of_b: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """The plain formula of :func:`sector_linear`."""
    z = linear(z, of_z, bias)
    if not keeps_precision(z.device.type):
        return z, linear(v, of_v), linear(b, of_b)
    precise = of_v.dtype
    with full_precision(z.device.type):
        return z.to(precise), linear(v.to(precise), of_v), linear(b.to(precise), of_b)


LINEAR = LinearStage(_linear)
"""What :func:`sector_linear` runs, to be joined with other stages."""


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
    matrices = sector_matrices(coeffs, ScalarMixing())
    return from_sectors(sector_linear(to_sectors(x), matrices))[0]


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
    "ScalarMixing",
    "SectorMatrices",
    "equi_linear",
    "grade_involute",
    "grade_project",
    "num_linear_maps",
    "reverse",
    "sector_linear",
    "sector_matrices",
]
