"""The L-GATr decoder: an encoder that also attends to a condition.

Legend: T tokens, U tokens of the condition, C multivector channels, S scalar channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from lgatr.attention import prepare_attention
from lgatr.layers.multivector.base import check_tokens, public
from lgatr.layers.multivector.conditional_block import ConditionalLGATrBlock
from lgatr.layers.multivector.config import CrossAttentionConfig, SelfAttentionConfig
from lgatr.layers.multivector.linear import EquiLinear
from lgatr.layers.multivector.mlp_config import MLPConfig
from lgatr.layout import to_sectors
from lgatr.nets.base import Network, flatten_events, own_precision
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
        See :class:`~lgatr.LGATr`.
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
    block_method = "forward_sectors"

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
        primitives = primitives_config(primitives)
        arguments = dict(locals())
        super().__init__(arguments)
        self.primitives = primitives
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
        self._finish(arguments, compile, compile_kwargs, activation_memory_budget)

    @own_precision
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
        first, arguments = self.linear_in, self.arguments
        channels = first.in_mv_channels, first.in_s_channels
        check_tokens(multivectors, scalars, *channels, first.weight)
        channels = arguments["mv_channels_cond"], arguments["s_channels_cond"]
        check_tokens(multivectors_cond, scalars_cond, *channels, first.weight, suffix="_cond")
        device, dtype = multivectors.device, multivectors.dtype
        attend = prepare_attention(device, dtype, **(attn_kwargs or {}))
        crossattend = prepare_attention(device, dtype, **(crossattn_kwargs or {}))
        self._remember(attend)
        packed = attend.spec.packing is not None
        if packed != (crossattend.spec.packing is not None):
            raise ValueError("self-attention and cross-attention must both be packed, or neither")
        leading = multivectors.shape[:-2]
        mv, s = flatten_events(multivectors, 2, packed), flatten_events(scalars, 1, packed)
        mv_cond = flatten_events(multivectors_cond, 2, packed)
        s_cond = flatten_events(scalars_cond, 1, packed)
        assert mv is not None and mv_cond is not None
        attend.check_tokens(mv.shape[-3], mv.shape[-3])
        crossattend.check_tokens(mv.shape[-3], mv_cond.shape[-3])
        condition = to_sectors(mv_cond, s_cond)
        x = self.linear_in.forward_sectors(to_sectors(mv, s))
        for block in self.blocks:
            x = self._run_block(block, x, condition, attend, crossattend)
        out_mv, out_s = public(self.linear_out.forward_sectors(x))
        if packed and len(leading) > 1:
            out_mv = out_mv.unflatten(0, leading)
            out_s = None if out_s is None else out_s.unflatten(0, leading)
        return out_mv, out_s
