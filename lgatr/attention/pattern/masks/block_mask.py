"""FlexAttention's own mask objects, as existing code hands them over."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from lgatr.attention.pattern.masks.base import Mask
from lgatr.attention.pattern.positions import Positions
from lgatr.attention.pattern.shapes import Layout


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
        inside: Tensor = self.block_mask.mask_mod(at.event, at.head, at.q, at.k)
        partial, full = self._blocks
        rows, columns = self.block_mask.BLOCK_SIZE
        # One table serves all events or heads.
        event = at.event if partial.shape[0] > 1 else at.event * 0
        head = at.head if partial.shape[1] > 1 else at.head * 0
        block = (event, head, at.q // rows, at.k // columns)
        return full[block] | (partial[block] & inside)

    @cached_property
    def _blocks(self) -> tuple[Tensor, Tensor]:
        """Which blocks are looked at score by score, and which are seen as a whole.

        Both are boolean ``(events, heads, blocks of queries, blocks of keys)``.
        """
        mask = self.block_mask
        partial = _present(mask.kv_num_blocks, mask.kv_indices)
        if mask.full_kv_num_blocks is None:
            return partial, torch.zeros_like(partial)
        return partial, _present(mask.full_kv_num_blocks, mask.full_kv_indices)

    def to(self, device: torch.device | str) -> BlockMaskMod:
        """The same on another device."""
        return BlockMaskMod(self.block_mask.to(device))


def _present(counts: Tensor, indices: Tensor) -> Tensor:
    """Boolean table of the first ``counts`` of ``indices`` in each row."""
    width = indices.shape[-1]
    valid = torch.arange(width, device=counts.device) < counts.unsqueeze(-1)
    # Entries past the count go to one more column.
    places = indices.long().masked_fill(~valid, width)
    table = valid.new_zeros(*indices.shape[:-1], width + 1)
    return table.scatter_(-1, places, True)[..., :width]
