"""The parameters of a linear map, put into the matrices of its sectors.

Legend: O and I multivector channels out and in, S' and S scalar channels out and in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from lgatr.algebra import NUM_GRADES
from lgatr.layout import constant
from lgatr.utils.autocast import full_precision

# Grades of p and of p I in each sector: scalar pair, vector pairs, bivector pairs.
_SECTOR_GRADES = ((0, 4), (1, 3), (2, 2))


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


class Weights(NamedTuple):
    """The parameters of a linear map.

    Parameters
    ----------
    weight
        Coefficients of the ten equivariant maps ``(O, I, 10)``, or ``(O, I, 5)`` for the full
        group.
    s2mvs
        ``(2 O, S)``, rows ordered (O, scalar | pseudoscalar); ``(O, S)`` for the full group.
    mvs2s
        ``(S', 2 I)``, columns ordered alike; ``(S', I)`` for the full group.
    s2s
        ``(S', S)``.
    mv_bias
        ``(2 O,)``, ordered like the rows of ``s2mvs``; or ``(O, 1)``, for the scalars alone.
    s_bias
        ``(S',)``.
    """

    weight: Tensor
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


@dataclass(frozen=True)
class Assembly:
    """From :class:`Weights` to the matrices of the sectors z, v, b and the bias of z, or None.

    Channels may come in groups (attention heads): rows then run over groups first, and within a
    group over the coefficients of p, of p I, and the group's scalars.

    Parameters
    ----------
    out_groups, in_groups
        Number of channel groups, each of which holds equally many channels.
    parts
        If above 0, output channels are ordered (part, channel, head) and are put in order
        (part, head, channel), so that groups are heads; of small weights rather than of large
        activations.
    """

    out_groups: int = 1
    in_groups: int = 1
    parts: int = 0
    count: ClassVar[int] = len(Weights._fields)

    def __call__(self, *parameters: Tensor | None) -> tuple[Tensor | None, ...]:
        """The matrices and the bias."""
        return _assembled(self.out_groups, self.in_groups, self.parts, *parameters)


@dataclass(frozen=True)
class SideBySide:
    """Two maps as one with the outputs of both, sector by sector.

    Parameters
    ----------
    left, right
        Of them, each from as many parameters.
    """

    left: Formula
    right: Formula

    @property
    def count(self) -> int:
        """Number of parameters."""
        return self.left.count + self.right.count

    def __call__(self, *parameters: Tensor | None) -> tuple[Tensor | None, ...]:
        """The matrices and the bias."""
        *first, left = self.left(*parameters[: self.left.count])
        *second, right = self.right(*parameters[self.left.count :])
        matrices = [torch.cat([a, b]) for a, b in zip(first, second, strict=True)]  # type: ignore[list-item]
        if left is None and right is None:
            return *matrices, None
        assert first[0] is not None and second[0] is not None
        left, right = (
            z.new_zeros(len(z)) if bias is None else bias
            for z, bias in ((first[0], left), (second[0], right))
        )
        return *matrices, torch.cat([left, right])


Formula = Assembly | SideBySide
"""From parameters to matrices."""


def _assembled(
    out_groups: int, in_groups: int, parts: int, *parameters: Tensor | None
) -> tuple[Tensor | None, ...]:
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
        _sector_bias(mv_bias, s_bias, o, 0 if mvs2s is None else mvs2s.shape[0], go),
    )


def _sector_bias(
    mv_bias: Tensor | None, s_bias: Tensor | None, channels: int, scalars: int, groups: int
) -> Tensor | None:
    """The bias of the scalar sector, group by group; None if neither part has one."""
    given = mv_bias if s_bias is None else s_bias
    if given is None:
        return None
    # What stands for an inner linear map may have a bias where others have none.
    mv = given.new_zeros(channels) if mv_bias is None else mv_bias.flatten()
    s = given.new_zeros(scalars) if s_bias is None else s_bias
    bias = _with_pseudoscalar(mv, channels, 0).view(groups, channels // groups, 2)
    return torch.cat([bias.transpose(1, 2).flatten(1), s.view(groups, -1)], dim=-1).flatten()
