"""Scores that depend on the distance between query and key."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lgatr.attention.pattern.number_checks import check_real_table, whole_number
from lgatr.attention.pattern.positions import Positions
from lgatr.attention.pattern.scores.base import Bias, check_heads
from lgatr.attention.pattern.shapes import Layout
from lgatr.ops._runtime.stage import needs_plain_formula
from lgatr.utils.described import described
from lgatr.utils.devices import checked_device
from lgatr.utils.lengths import is_readable


@dataclass(frozen=True, eq=False)
class ALiBi(Bias):
    r""":math:`s_{ij} - m_h\,|i + U - T - j|`: linear in the distance (arXiv:2108.12409).

    Distances are counted so that the last query meets the last key, as in flash-attention; in
    self-attention this is the plain distance.

    Parameters
    ----------
    slopes
        :math:`m_h`, ``(heads,)``.
    """

    slopes: Tensor
    feature = "alibi"

    @classmethod
    def geometric(cls, heads: int, device: torch.device | str = "cpu") -> ALiBi:
        """Slopes :math:`2^{-8h/H}` for h = 1 … H, as in the paper."""
        heads = whole_number(heads, "heads", 1)
        exponents = torch.arange(1, heads + 1, device=checked_device(device), dtype=torch.float32)
        return cls(torch.exp2(-8.0 * exponents / heads))

    def __post_init__(self) -> None:
        check_real_table(self.slopes, "slopes of ALiBi", "(heads,)", (1,))
        # Reading a tensor on a GPU would synchronise with it.
        known = is_readable(self.slopes) and not needs_plain_formula()
        if known and not bool(self.slopes.isfinite().all()):
            raise ValueError(f"slopes of ALiBi are finite, not {described(self.slopes.tolist())}")

    def check(self, layout: Layout) -> None:
        """One slope for each head."""
        check_heads(self.slopes, layout, "ALiBi has slopes")

    def bias(self, at: Positions) -> Tensor:
        distance = (at.q - at.k + (at.k_length - at.q_length)).abs()
        return -self.slopes[at.head] * distance


@dataclass(frozen=True, eq=False)
class RelativePosition(Bias):
    r""":math:`s_{ij} + t_{h,\,\mathrm{clip}(j - i)}` (arXiv:1803.02155 in the form of T5).

    Parameters
    ----------
    table
        ``(heads, 2 n + 1)`` for distances j - i from -n to n; larger ones count as n. Learned if it
        requires gradients.
    """

    table: Tensor
    feature = "relative_position"

    def __post_init__(self) -> None:
        check_real_table(self.table, "relative positions", "(heads, 2 n + 1)")
        if self.table.dim() != 2 or self.table.shape[1] % 2 == 0:
            raise ValueError(
                f"a table of relative positions is (heads, 2 n + 1), not {tuple(self.table.shape)}"
            )

    def check(self, layout: Layout) -> None:
        """One row for each head."""
        check_heads(self.table, layout, "RelativePosition has a table")

    def bias(self, at: Positions) -> Tensor:
        reach = self.table.shape[1] // 2
        return self.table[at.head, (at.k - at.q).clamp(-reach, reach) + reach]
