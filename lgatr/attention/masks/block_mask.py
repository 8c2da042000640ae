"""FlexAttention's own mask objects, as existing code hands them over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lgatr.attention.masks.base import Mask
from lgatr.attention.positions import Positions
from lgatr.attention.shapes import Layout


@dataclass(frozen=True, eq=False)
class BlockMaskMod(Mask):
    """A ``torch.nn.attention.flex_attention.BlockMask`` over dense batches.

    FlexAttention takes it as it is; other backends call its ``mask_mod`` where its blocks are not
    empty.

    Parameters
    ----------
    block_mask
        The object.
    """

    block_mask: Any

    def check(self, layout: Layout) -> None:
        """As many queries and keys as it was made for."""
        batch, heads, *tokens = self.block_mask.shape
        fits = batch in (1, len(layout.queries)) and heads in (1, layout.heads)
        if not fits or tokens != [layout.queries[0], layout.keys[0]]:
            raise ValueError(
                f"the block mask is made for (events, heads, queries, keys) = "
                f"{(batch, heads, *tokens)}, but there are "
                f"{(len(layout.queries), layout.heads, layout.queries[0], layout.keys[0])}"
            )

    def allowed(self, at: Positions) -> Tensor:
        """See :class:`Mask`."""
        return self.block_mask.mask_mod(at.event, at.head, at.q, at.k)

    def to(self, device: torch.device | str) -> BlockMaskMod:
        """The same on another device."""
        return BlockMaskMod(self.block_mask.to(device))
