"""L-GATr-slim that also attends to a condition.

Legend: T tokens, U tokens of the condition, C vector channels, S scalar channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from lgatr.attention import prepare_attention
from lgatr.layers.slim import ConditionalSlimBlock, SlimLinear
from lgatr.layers.slim.base import check_hidden
from lgatr.nets.base import Network, flatten_events, own_precision
from lgatr.nets.slim_base import freeze_unused, require_scalars
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
        See :class:`~lgatr.LGATrSlim`.
    dropout_prob, norm_elementwise_affine, checkpoint_blocks, naive_amp
        See :class:`~lgatr.LGATr`.
    compile, compile_kwargs, activation_memory_budget
        Likewise.
    qkv_bias
        See :class:`~lgatr.LGATrSlim`.
    """

    representations = (
        ("vector", "vector", "scalar", "scalar"),
        ("vector", "scalar"),
    )

    input_channels = ("in_v_channels", "v_channels_cond", "in_s_channels", "s_channels_cond")
    block_method = "attend"

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
        arguments = dict(locals())
        super().__init__(arguments)
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
        self._finish(arguments, compile, compile_kwargs, activation_memory_budget)

    @own_precision
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
            See :meth:`lgatr.ConditionalLGATr.forward`.

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
        first, arguments = self.linear_in, self.arguments
        channels = first.in_v_channels, first.in_s_channels
        like = first.weight_v
        check_hidden(vectors, scalars, *channels, like, items=True, dim=-1)
        channels = arguments["v_channels_cond"], arguments["s_channels_cond"]
        check_hidden(vectors_cond, scalars_cond, *channels, like, True, "_cond", dim=-1)
        device, dtype = vectors.device, vectors.dtype
        attend = prepare_attention(device, dtype, **(attn_kwargs or {}))
        crossattend = prepare_attention(device, dtype, **(crossattn_kwargs or {}))
        self._remember(attend)
        packed = attend.spec.packing is not None
        if packed != (crossattend.spec.packing is not None):
            raise ValueError("self-attention and cross-attention must both be packed, or neither")
        leading = vectors.shape[:-2]
        v, s = flatten_events(vectors, 2, packed), flatten_events(scalars, 1, packed)
        v_cond = flatten_events(vectors_cond, 2, packed)
        s_cond = flatten_events(scalars_cond, 1, packed)
        assert v is not None and s is not None and v_cond is not None and s_cond is not None
        attend.check_tokens(v.shape[-3], v.shape[-3])
        crossattend.check_tokens(v.shape[-3], v_cond.shape[-3])
        v_cond = v_cond.transpose(-1, -2)
        v, s = self.linear_in.transform(v.transpose(-1, -2), s)
        for block in self.blocks:
            v, s = self._run_block(block, v, v_cond, s, s_cond, attend, crossattend)
        v, s = self.linear_out.transform(v, s)
        v = v.transpose(-1, -2)
        if packed and len(leading) > 1:
            v, s = v.unflatten(0, leading), s.unflatten(0, leading)
        return v, s
