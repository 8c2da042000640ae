"""Equivariant linear maps and the maps that act grade by grade.

Legend: T tokens, O and I multivector channels out and in, S' and S scalar channels out and in,
H head groups, G = 16 blades.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lgatr.algebra import (
    GRADES,
    INVOLUTION_SIGNS,
    NUM_BLADES,
    NUM_GRADES,
    REVERSE_SIGNS,
)
from lgatr.kernels.matmul import linear
from lgatr.layout import Sectors, constant, from_sectors, to_sectors
from lgatr.primitives.config import PrimitivesConfig
from lgatr.utils.autocast import full_precision, keeps_precision

# Grades of p and of p I in each sector: scalar pair, vector pairs, bivector pairs.
_SECTOR_GRADES = ((0, 4), (1, 3), (2, 2))


def num_linear_maps(config: PrimitivesConfig) -> int:
    """Number of independent equivariant linear maps between two multivectors: 10 or 5."""
    return 2 * NUM_GRADES if config.subgroup else NUM_GRADES


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


def sector_matrices(
    weight: Tensor, mixing: ScalarMixing, out_groups: int = 1, in_groups: int = 1
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
    """
    o, i = weight.shape[0], weight.shape[1]
    go, gi = out_groups, in_groups
    table = constant(_block_table(weight.shape[2]), weight.device, weight.dtype)
    with full_precision(weight.device.type):
        blocks = weight @ table.view(weight.shape[2], -1)
    blocks = blocks.view(go, o // go, gi, i // gi, 3, 2, 2)
    # (sector, group, p | p I, channel) for rows, (group, p | p I, channel) for columns
    blocks = blocks.permute(4, 0, 5, 1, 2, 6, 3).reshape(3, go, 2 * o // go, gi, 2 * i // gi)
    z, v, b = blocks.unbind(0)
    if mixing.s2mvs is not None:
        s_in = mixing.s2mvs.shape[1]
        s2mvs = _with_pseudoscalar(mixing.s2mvs, o, 0).view(go, o // go, 2, gi, s_in // gi)
        z = torch.cat([z, s2mvs.transpose(1, 2).flatten(1, 2)], dim=-1)
    if mixing.mvs2s is not None:
        s_out = mixing.mvs2s.shape[0]
        mvs2s = _with_pseudoscalar(mixing.mvs2s, i, 1)
        rows = mvs2s.view(go, s_out // go, gi, i // gi, 2).transpose(-1, -2).flatten(-2)
        if mixing.s2s is not None:
            s_in = mixing.s2s.shape[1]
            s2s = mixing.s2s.view(go, s_out // go, gi, s_in // gi)
            rows = torch.cat([rows, s2s], dim=-1)
        z = torch.cat([z, rows], dim=1)
    return SectorMatrices(
        z.flatten(2).flatten(0, 1),
        v.reshape(2 * o, 2 * i),
        b.reshape(2 * o, 2 * i),
        _sector_bias(mixing, o, go),
    )


def _sector_bias(mixing: ScalarMixing, channels: int, groups: int) -> Tensor | None:
    parts = []
    if mixing.mv_bias is not None:
        bias = _with_pseudoscalar(mixing.mv_bias, channels, 0)
        bias = bias.view(groups, channels // groups, 2)
        parts.append(bias.transpose(1, 2).flatten(1))
    if mixing.s_bias is not None:
        parts.append(mixing.s_bias.view(groups, -1))
    return torch.cat(parts, dim=-1).flatten() if parts else None


def sector_linear(x: Sectors, matrices: SectorMatrices) -> Sectors:
    """Apply an equivariant linear map: three dense matrix products.

    Under autocast the invariants are multiplied in its format, vectors and bivectors in that of
    the weights; see :mod:`lgatr.utils.autocast`.
    """
    z = linear(x.z, matrices.z, matrices.bias)
    if not keeps_precision(x.z.device.type):
        return Sectors(z, linear(x.v, matrices.v), linear(x.b, matrices.b))
    precise = matrices.v.dtype
    with full_precision(x.z.device.type):
        v, b = linear(x.v.to(precise), matrices.v), linear(x.b.to(precise), matrices.b)
    return Sectors(z.to(precise), v, b)


def equi_linear(x: Tensor, coeffs: Tensor, *, config: PrimitivesConfig | None = None) -> Tensor:
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
    expected = (5, 10) if config is None else (num_linear_maps(config),)
    if coeffs.dim() != 3 or coeffs.shape[1] != x.shape[-2] or coeffs.shape[2] not in expected:
        raise ValueError(
            f"coeffs has shape {tuple(coeffs.shape)}; {x.shape[-2]} input channels need "
            f"(out, {x.shape[-2]}, {' or '.join(map(str, expected))})"
        )
    matrices = sector_matrices(coeffs, ScalarMixing())
    return from_sectors(sector_linear(to_sectors(x), matrices))[0]


def grade_project(x: Tensor) -> Tensor:
    """The five grades of multivectors ``(..., 16)``, each a multivector: ``(..., 5, 16)``."""
    mask = [float(g == grade) for grade in range(NUM_GRADES) for g in GRADES]
    table = constant(tuple(mask), x.device, x.dtype).view(NUM_GRADES, NUM_BLADES)
    return x.unsqueeze(-2) * table


def reverse(x: Tensor) -> Tensor:
    """Reverse the order of basis vectors in every blade of multivectors ``(..., 16)``."""
    return x * constant(REVERSE_SIGNS, x.device, x.dtype)


def grade_involute(x: Tensor) -> Tensor:
    """Change the sign of every basis vector in multivectors ``(..., 16)``."""
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
