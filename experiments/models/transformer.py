"""A plain transformer: the baseline without Lorentz symmetry.

Legend: T particles, B events, N tokens of all events, H heads.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from experiments.data.batch import DataSpec
from experiments.models.token_tagger import Tokens, TokenTagger
from experiments.options.attention_choice import AttentionChoice
from lgatr.attention import Attention, prepare_attention
from lgatr.attention.linear_cost import LinearCostAttention


class Block(nn.Module):
    """Pre-norm transformer block: self-attention and MLP, each with a residual connection.

    Parameters
    ----------
    channels, num_heads
        Width, and the number of heads that share it.
    mlp_ratio
        Hidden channels of the MLP over channels.
    dropout
        Dropout probability after attention and after the MLP.
    linear_cost
        Attention of linear cost in place of the exact one, or None.
    """

    def __init__(
        self,
        channels: int,
        num_heads: int,
        mlp_ratio: int,
        dropout: float,
        linear_cost: LinearCostAttention | None,
    ) -> None:
        super().__init__()
        self.heads, self.linear_cost = num_heads, linear_cost
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.qkv, self.out = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        self.mlp = nn.Sequential(
            nn.Linear(channels, mlp_ratio * channels),
            nn.GELU(),
            nn.Linear(mlp_ratio * channels, channels),
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, attend: Attention) -> Tensor:
        """Map tokens ``(N, channels)`` to the same shape."""
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).unbind(-3)
        if self.linear_cost is None:
            heads = attend(q, k, v)
        else:
            packing = attend.spec.packing
            assert packing is not None
            heads = self.linear_cost(q, k, v, packing)
        x = x + self.dropout(self.out(heads.flatten(-2)))
        return x + self.dropout(self.mlp(self.norm2(x)))


class Transformer(TokenTagger):
    """A pre-norm transformer on kinematic features, read out at a global token.

    Parameters
    ----------
    spec
        Specification of the data set.
    num_blocks
        Number of blocks.
    num_heads, head_width
        Number of heads, and channels of each.
    mlp_ratio, dropout
        As of :class:`Block`.
    attention
        Attention backend.
    momentum_unit
        Four-momenta, inputs beside the scalars of the data set, are divided by this many GeV.
    linear_cost
        Makes the attention of a block, such as :class:`lgatr.attention.linear_cost.Performer`;
        None takes exact attention.
    """

    @property
    def recordable(self) -> bool:
        """Whether a CUDA graph can hold the forward pass."""
        return self.attention.mask is None and self.attention.score is None

    def __init__(
        self,
        spec: DataSpec,
        num_blocks: int,
        num_heads: int,
        head_width: int,
        mlp_ratio: int,
        dropout: float,
        attention: AttentionChoice,
        momentum_unit: float,
        linear_cost: Callable[[], LinearCostAttention] | None = None,
    ) -> None:
        super().__init__(torch.zeros(0, 4), True, attention, momentum_unit)
        channels = num_heads * head_width
        self.embedding = nn.Linear(4 + 1 + spec.num_scalars, channels)
        self.blocks = nn.ModuleList(
            Block(channels, num_heads, mlp_ratio, dropout, linear_cost and linear_cost())
            for _ in range(num_blocks)
        )
        self.norm = nn.LayerNorm(channels)
        self.head = nn.Linear(channels, spec.num_outputs)
        self.add_pairs(num_heads, symmetric=False)

    def logits(self, tokens: Tokens) -> Tensor:
        """Logits ``(B, outputs)``."""
        x = self.embedding(torch.cat([tokens.channels.flatten(1), tokens.scalars], dim=1))
        attend = prepare_attention(
            x.device, x.dtype, packing=tokens.packing, **self.attention_of(tokens)
        )
        for block in self.blocks:
            x = block(x, attend)
        self.last_attention = attend
        logits: Tensor = self.head(self.norm(x[tokens.first]))
        return logits
