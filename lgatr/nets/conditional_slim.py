"""L-GATr-slim that also attends to a condition.

Legend: T tokens, U tokens of the condition, C vector channels, S scalar channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from lgatr.layers.slim import ConditionalSlimBlock, SlimLinear
from lgatr.nets.base import Network, network_constructor
from lgatr.nets.slim import freeze_unused, hidden_state, public_tensors, require_scalars
from lgatr.utils.legacy import accepts_legacy


@accepts_legacy("forward", vectors_condition="vectors_cond", scalars_condition="scalars_cond")
@accepts_legacy(
    "__init__",
    condition_v_channels="v_channels_cond",
    condition_s_channels="s_channels_cond",
    compile_mode=None,
    compile_dynamic=None,
)
class ConditionalLGATrSlim(Network):
    """The slim transformer with cross-attention to a condition in every block.

    Parameters
    ----------
    num_blocks
        Number of blocks.
    in_v_channels, v_channels_cond, out_v_channels, hidden_v_channels
        Vector channels; ``v_channels_cond`` are those of the condition.
    in_s_channels, s_channels_cond, out_s_channels, hidden_s_channels
        Scalar channels; there must be some at the input and in the condition.
    num_heads, nonlinearity, nonlinearity_v, mlp_ratio, attn_ratio, num_layers_mlp
        As in :class:`~lgatr.LGATrSlim`.
    dropout_prob, norm_elementwise_affine, checkpoint_blocks, naive_amp
        As in :class:`~lgatr.LGATr`.
    compile, compile_kwargs, activation_memory_budget
        Likewise.
    qkv_bias
        As in :class:`~lgatr.LGATrSlim`.
    """

    representations = (
        ("vector", "vector", "scalar", "scalar"),
        ("vector", "scalar"),
    )

    input_channels = ("in_v_channels", "v_channels_cond", "in_s_channels", "s_channels_cond")
    to_hidden = staticmethod(hidden_state)
    from_hidden = staticmethod(public_tensors)

    @network_constructor
    def __init__(
        self,
        num_blocks: int,
        in_v_channels: int,
        v_channels_cond: int,
        out_v_channels: int,
        hidden_v_channels: int,
        in_s_channels: int,
        s_channels_cond: int,
        out_s_channels: int,
        hidden_s_channels: int,
        num_heads: int,
        nonlinearity: str = "gelu",
        nonlinearity_v: str | None = "sigmoid",
        mlp_ratio: int = 2,
        attn_ratio: int = 1,
        num_layers_mlp: int = 2,
        dropout_prob: float | None = None,
        norm_elementwise_affine: bool = True,
        checkpoint_blocks: bool = False,
        naive_amp: bool = False,
        compile: bool = False,
        compile_kwargs: Mapping[str, Any] | None = None,
        activation_memory_budget: float | None = None,
        qkv_bias: bool = False,
    ) -> None:
        super().__init__(checkpoint_blocks, naive_amp)
        self.linear_in = SlimLinear(
            in_v_channels, hidden_v_channels, in_s_channels, hidden_s_channels
        )
        self.blocks = nn.ModuleList(
            ConditionalSlimBlock(
                hidden_v_channels,
                v_channels_cond,
                hidden_s_channels,
                s_channels_cond,
                num_heads,
                nonlinearity,
                nonlinearity_v,
                mlp_ratio,
                attn_ratio,
                num_layers_mlp,
                dropout_prob,
                norm_elementwise_affine,
                qkv_bias,
            )
            for _ in range(num_blocks)
        )
        self.linear_out = SlimLinear(
            hidden_v_channels, out_v_channels, hidden_s_channels, out_s_channels
        )
        if num_blocks:
            last = self.blocks[-1]
            assert isinstance(last, ConditionalSlimBlock)
            freeze_unused(last.norm3, last.mlp, self.linear_out)

    def forward(
        self,
        vectors: Tensor,
        vectors_cond: Tensor,
        scalars: Tensor,
        scalars_cond: Tensor,
        attn_kwargs: Mapping[str, Any] | None = None,
        crossattn_kwargs: Mapping[str, Any] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Transform a batch of events, given their conditions.

        Parameters
        ----------
        vectors, scalars
            ``(..., T, C, 4)`` and ``(..., T, S)``.
        vectors_cond, scalars_cond
            ``(..., U, C', 4)`` and ``(..., U, S')``.
        attn_kwargs, crossattn_kwargs
            As in :meth:`lgatr.ConditionalLGATr.forward`.

        Returns
        -------
        Vectors ``(..., T, C_out, 4)`` and scalars ``(..., T, S_out)``.

        Raises
        ------
        TypeError, ValueError
            If scalars are missing, these are no such tensors in the format of the parameters, or
            a packing does not fit the number of tokens.
        """
        require_scalars(scalars=scalars, scalars_cond=scalars_cond)
        inputs = (vectors, scalars), (vectors_cond, scalars_cond)
        v, s = self.transform(inputs, (attn_kwargs, crossattn_kwargs))
        assert s is not None
        return v, s
