"""L-GATr-slim: vectors and scalars only.

Legend: T tokens, C vector channels, S scalar channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from lgatr.attention import prepare_attention
from lgatr.layers.slim import SlimBlock, SlimLinear
from lgatr.layers.slim.base import check_hidden
from lgatr.nets.base import Network, flatten_events, own_precision
from lgatr.nets.slim_base import freeze_unused, require_scalars
from lgatr.utils.legacy import accepts_legacy


@accepts_legacy("__init__", compile_mode=None, compile_dynamic=None)
class LGATrSlim(Network):
    """The slim Lorentz-equivariant transformer (arXiv:2512.17011).

    Parameters
    ----------
    num_blocks
        Number of blocks.
    in_v_channels, out_v_channels, hidden_v_channels
        Vector channels.
    in_s_channels, out_s_channels, hidden_s_channels
        Scalar channels; there must be some at the input.
    num_heads
        Number of heads.
    nonlinearity, nonlinearity_v
        See :class:`~lgatr.layers.slim.glu.SlimGLU`.
    mlp_ratio, attn_ratio
        Factors between channels and hidden channels of MLP and attention.
    num_layers_mlp
        Layers of each MLP, at least 2.
    dropout_prob, norm_elementwise_affine, checkpoint_blocks, naive_amp
        See :class:`~lgatr.LGATr`.
    compile, compile_kwargs, activation_memory_budget
        Likewise.
    qkv_bias
        Whether queries, keys and values have biases, as they had in lgatr 1.x.
    """

    representations = (("vector", "scalar"), ("vector", "scalar"))

    input_channels = ("in_v_channels", "in_s_channels")
    block_method = "attend"

    def __init__(
        self,
        num_blocks: int,
        in_v_channels: int,
        out_v_channels: int,
        hidden_v_channels: int,
        in_s_channels: int,
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
            SlimBlock(
                hidden_v_channels,
                hidden_s_channels,
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
            assert isinstance(last, SlimBlock)
            freeze_unused(last.norm2, last.mlp, self.linear_out)
        self._finish(arguments, compile, compile_kwargs, activation_memory_budget)

    @own_precision
    def forward(
        self, vectors: Tensor, scalars: Tensor, **attn_kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Transform a batch of events.

        Parameters
        ----------
        vectors
            ``(..., T, C, 4)`` in the order (E, px, py, pz); packed batches are ``(T, C, 4)`` or
            ``(1, T, C, 4)`` and come with ``packing=``.
        scalars
            ``(..., T, S)``.
        **attn_kwargs
            ``packing``, ``backend``, ``attn_mask`` …; see
            :func:`lgatr.attention.prepare_attention`.

        Returns
        -------
        Vectors ``(..., T, C', 4)`` and scalars ``(..., T, S')``.

        Raises
        ------
        TypeError, ValueError
            If scalars are missing, these are no such tensors in the format of the parameters, or
            the packing does not fit the number of tokens.
        """
        first = self.linear_in
        channels = first.in_v_channels, first.in_s_channels
        require_scalars(scalars=scalars)
        check_hidden(vectors, scalars, *channels, first.weight_v, items=True, dim=-1)
        attend = prepare_attention(vectors.device, vectors.dtype, **attn_kwargs)
        self._remember(attend)
        packed = attend.spec.packing is not None
        leading = vectors.shape[:-2]
        v, s = flatten_events(vectors, 2, packed), flatten_events(scalars, 1, packed)
        assert v is not None and s is not None
        attend.check_tokens(v.shape[-3], v.shape[-3])
        v, s = self.linear_in.transform(v.transpose(-1, -2), s)
        for block in self.blocks:
            v, s = self._run_block(block, v, s, attend)
        v, s = self.linear_out.transform(v, s)
        v = v.transpose(-1, -2)
        if packed and len(leading) > 1:
            v, s = v.unflatten(0, leading), s.unflatten(0, leading)
        return v, s
