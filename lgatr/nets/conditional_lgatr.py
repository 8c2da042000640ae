"""The L-GATr decoder: an encoder that also attends to a condition.

Legend: T tokens, U tokens of the condition, C multivector channels, S scalar channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from lgatr.layers.multivector.conditional_block import ConditionalLGATrBlock
from lgatr.layers.multivector.config import CrossAttentionConfig, MLPConfig, SelfAttentionConfig
from lgatr.layers.multivector.linear import EquiLinear
from lgatr.layout import to_public, to_sectors
from lgatr.nets.base import Network, network_constructor
from lgatr.primitives.config import PrimitivesConfig, primitives_config
from lgatr.utils.legacy import accepts_legacy


@accepts_legacy(
    "forward",
    multivectors_condition="multivectors_cond",
    scalars_condition="scalars_cond",
)
@accepts_legacy(
    "__init__",
    condition_mv_channels="mv_channels_cond",
    condition_s_channels="s_channels_cond",
)
class ConditionalLGATr(Network):
    """L-GATr with cross-attention to a condition in every block (arXiv:2411.00446).

    The condition enters as it is, usually the output of an :class:`~lgatr.LGATr`.

    Parameters
    ----------
    num_blocks
        Number of decoder blocks.
    in_mv_channels, mv_channels_cond, out_mv_channels, hidden_mv_channels
        Multivector channels; ``mv_channels_cond`` are those of the condition.
    in_s_channels, s_channels_cond, out_s_channels, hidden_s_channels
        Scalar channels, 0 for none.
    attention, crossattention, mlp, primitives
        Configurations, as objects or mappings.
    dropout_prob, norm_elementwise_affine, checkpoint_blocks, naive_amp
        As in :class:`~lgatr.LGATr`.
    compile, compile_kwargs, activation_memory_budget
        Likewise.
    """

    representations = (
        ("multivector", "multivector", "scalar", "scalar"),
        ("multivector", "scalar"),
    )

    input_channels = (
        "in_mv_channels",
        "mv_channels_cond",
        "in_s_channels",
        "s_channels_cond",
    )
    to_hidden = staticmethod(to_sectors)
    from_hidden = staticmethod(to_public)

    @network_constructor
    def __init__(
        self,
        num_blocks: int,
        in_mv_channels: int,
        mv_channels_cond: int,
        out_mv_channels: int,
        hidden_mv_channels: int,
        in_s_channels: int,
        s_channels_cond: int,
        out_s_channels: int,
        hidden_s_channels: int,
        attention: SelfAttentionConfig | Mapping[str, Any],
        crossattention: CrossAttentionConfig | Mapping[str, Any],
        mlp: MLPConfig | Mapping[str, Any],
        primitives: PrimitivesConfig | Mapping[str, Any] | None = None,
        dropout_prob: float | None = None,
        norm_elementwise_affine: bool = True,
        checkpoint_blocks: bool = False,
        naive_amp: bool = False,
        compile: bool = False,
        compile_kwargs: Mapping[str, Any] | None = None,
        activation_memory_budget: float | None = None,
    ) -> None:
        super().__init__(checkpoint_blocks, naive_amp)
        self.primitives = primitives = primitives_config(primitives)
        self.linear_in = EquiLinear(
            in_mv_channels,
            hidden_mv_channels,
            primitives,
            in_s_channels=in_s_channels,
            out_s_channels=hidden_s_channels,
        )
        self.blocks = nn.ModuleList(
            ConditionalLGATrBlock(
                hidden_mv_channels,
                hidden_s_channels,
                mv_channels_cond,
                s_channels_cond,
                attention,
                crossattention,
                mlp,
                primitives,
                dropout_prob,
                norm_elementwise_affine,
            )
            for _ in range(num_blocks)
        )
        self.linear_out = EquiLinear(
            hidden_mv_channels,
            out_mv_channels,
            primitives,
            in_s_channels=hidden_s_channels,
            out_s_channels=out_s_channels,
        )

    def forward(
        self,
        multivectors: Tensor,
        multivectors_cond: Tensor,
        scalars: Tensor | None = None,
        scalars_cond: Tensor | None = None,
        attn_kwargs: Mapping[str, Any] | None = None,
        crossattn_kwargs: Mapping[str, Any] | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Transform a batch of events, given their conditions.

        Parameters
        ----------
        multivectors, scalars
            ``(..., T, C, 16)`` and ``(..., T, S)`` or None.
        multivectors_cond, scalars_cond
            ``(..., U, C', 16)`` and ``(..., U, S')`` or None.
        attn_kwargs
            For self-attention; packed events come with ``{"packing": packing}``.
        crossattn_kwargs
            For cross-attention; packed events come with
            ``{"packing": packing, "kv_packing": packing_of_the_conditions}``.

        Returns
        -------
        Multivectors ``(..., T, C_out, 16)`` and scalars ``(..., T, S_out)`` or None.

        Raises
        ------
        TypeError, ValueError
            If these are no such tensors in the format of the parameters, or a packing does not
            fit the number of tokens.
        """
        inputs = (multivectors, scalars), (multivectors_cond, scalars_cond)
        return self.transform(inputs, (attn_kwargs, crossattn_kwargs))
