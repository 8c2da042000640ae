"""The L-GATr encoder.

Legend: T tokens, C multivector channels, S scalar channels, G = 16 blades.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from lgatr.attention import Attention, prepare_attention
from lgatr.layers.multivector.base import check_tokens, public
from lgatr.layers.multivector.block import LGATrBlock
from lgatr.layers.multivector.config import SelfAttentionConfig
from lgatr.layers.multivector.linear import EquiLinear
from lgatr.layers.multivector.mlp_config import MLPConfig
from lgatr.layout import Sectors, to_sectors
from lgatr.nets.base import Network, flatten_events, own_precision
from lgatr.primitives.config import PrimitivesConfig, primitives_config
from lgatr.utils.arguments import check_counts
from lgatr.utils.config import owned_config
from lgatr.utils.legacy import accepts_legacy


@accepts_legacy("__init__", double_layernorm=None)
class LGATr(Network):
    """The Lorentz-equivariant geometric algebra transformer (arXiv:2405.14806, 2411.00446).

    Parameters
    ----------
    num_blocks
        Number of encoder blocks.
    in_mv_channels, out_mv_channels, hidden_mv_channels
        Multivector channels.
    in_s_channels, out_s_channels, hidden_s_channels
        Scalar channels, 0 for none.
    attention, mlp, primitives
        Configurations, as objects or mappings.
    reinsert_mv_channels, reinsert_s_channels
        Input channels that enter queries and keys of every block again.
    dropout_prob
        Dropout probability, or None.
    norm_elementwise_affine
        Whether the norms learn gains.
    checkpoint_blocks
        Whether to recompute each block in the backward pass, which saves memory.
    naive_amp
        Under ``torch.autocast``: whether everything runs in its format. By default only
        invariants do, see :mod:`lgatr.utils.autocast`.
    compile
        Whether to compile the block with :func:`torch.compile`.
    compile_kwargs, activation_memory_budget
        See :func:`lgatr.utils.compile.compiled`.
    """

    representations = (("multivector", "scalar"), ("multivector", "scalar"))

    input_channels = ("in_mv_channels", "in_s_channels")
    block_method = "forward_sectors"

    def __init__(
        self,
        num_blocks: int,
        in_mv_channels: int,
        out_mv_channels: int,
        hidden_mv_channels: int,
        in_s_channels: int,
        out_s_channels: int,
        hidden_s_channels: int,
        attention: SelfAttentionConfig | Mapping[str, Any],
        mlp: MLPConfig | Mapping[str, Any],
        primitives: PrimitivesConfig | Mapping[str, Any] | None = None,
        reinsert_mv_channels: Sequence[int] | None = None,
        reinsert_s_channels: Sequence[int] | None = None,
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
        self.reinsert_mv_channels = _checked_places(
            "reinsert_mv_channels", reinsert_mv_channels, in_mv_channels
        )
        self.reinsert_s_channels = _checked_places(
            "reinsert_s_channels", reinsert_s_channels, in_s_channels
        )
        attention = owned_config(
            SelfAttentionConfig,
            attention,
            additional_qk_mv_channels=len(self.reinsert_mv_channels),
            additional_qk_s_channels=len(self.reinsert_s_channels),
        )
        self.linear_in = EquiLinear(
            in_mv_channels,
            hidden_mv_channels,
            primitives,
            in_s_channels=in_s_channels,
            out_s_channels=hidden_s_channels,
        )
        self.blocks = nn.ModuleList(
            LGATrBlock(
                hidden_mv_channels,
                hidden_s_channels,
                attention,
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
        self, multivectors: Tensor, scalars: Tensor | None = None, **attn_kwargs: Any
    ) -> tuple[Tensor, Tensor | None]:
        """Transform a batch of events.

        Parameters
        ----------
        multivectors
            ``(..., items, C, 16)``; packed batches are ``(T, C, 16)`` or ``(1, T, C, 16)`` and
            come with ``packing=``.
        scalars
            ``(..., items, S)``, or None.
        **attn_kwargs
            ``packing``, ``backend``, ``attn_mask`` …; see
            :func:`lgatr.attention.prepare_attention`.

        Returns
        -------
        Multivectors ``(..., items, C', 16)`` and scalars ``(..., items, S')`` or None.

        Raises
        ------
        TypeError, ValueError
            If these are no such tensors in the format of the parameters, or the packing does not
            fit the number of tokens.
        """
        first = self.linear_in
        channels = first.in_mv_channels, first.in_s_channels
        check_tokens(multivectors, scalars, *channels, first.weight)
        attend = prepare_attention(multivectors.device, multivectors.dtype, **attn_kwargs)
        self._remember(attend)
        packed = attend.spec.packing is not None
        leading = multivectors.shape[:-2]
        mv, s = flatten_events(multivectors, 2, packed), flatten_events(scalars, 1, packed)
        assert mv is not None
        attend.check_tokens(mv.shape[-3], mv.shape[-3])
        x = to_sectors(mv, s)
        out_mv, out_s = public(self._forward_sectors(x, attend, self._reinserted(x)))
        if packed and len(leading) > 1:
            out_mv = out_mv.unflatten(0, leading)
            out_s = None if out_s is None else out_s.unflatten(0, leading)
        return out_mv, out_s

    def _forward_sectors(
        self, x: Sectors, attend: Attention, additional_qk: Sectors | None
    ) -> Sectors:
        x = self.linear_in.forward_sectors(x)
        for block in self.blocks:
            x = self._run_block(block, x, attend, additional_qk)
        return self.linear_out.forward_sectors(x)

    def _reinserted(self, x: Sectors) -> Sectors | None:
        """The input channels that enter every block again, or None."""
        if not self.reinsert_mv_channels and not self.reinsert_s_channels:
            return None
        c = x.mv_channels
        mv = [*self.reinsert_mv_channels, *(c + i for i in self.reinsert_mv_channels)]
        scalars = [2 * c + i for i in self.reinsert_s_channels]
        return Sectors(x.z[..., mv + scalars], x.v[..., mv], x.b[..., mv])


def _checked_places(name: str, places: Sequence[int] | None, channels: int) -> tuple[int, ...]:
    """Numbers of input channels, each of which exists."""
    places = tuple(places or ())
    for place in places:
        check_counts(0, **{name: place})
        if place >= channels:
            raise ValueError(f"{name} has {place}, but input channels go from 0 to {channels - 1}")
    return places
