"""The L-GATr encoder.

Legend: T tokens, C multivector channels, S scalar channels, G = 16 blades.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from lgatr.layers.multivector.block import LGATrBlock
from lgatr.layers.multivector.config import MLPConfig, SelfAttentionConfig
from lgatr.layers.multivector.linear import EquiLinear
from lgatr.layout import Sectors, to_public, to_sectors
from lgatr.nets.base import Network, network_constructor
from lgatr.primitives.config import PrimitivesConfig, primitives_config
from lgatr.utils.arguments import check_counts
from lgatr.utils.config import cast_config
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
    to_hidden = staticmethod(to_sectors)
    from_hidden = staticmethod(to_public)

    @network_constructor
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
        super().__init__(checkpoint_blocks, naive_amp)
        self.primitives = primitives = primitives_config(primitives)
        self.reinsert_mv_channels = _checked_places(
            "reinsert_mv_channels", reinsert_mv_channels, in_mv_channels
        )
        self.reinsert_s_channels = _checked_places(
            "reinsert_s_channels", reinsert_s_channels, in_s_channels
        )
        further = len(self.reinsert_mv_channels), len(self.reinsert_s_channels)
        attention = cast_config(SelfAttentionConfig, attention)
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
                *further,
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
        return self.transform([(multivectors, scalars)], [attn_kwargs])

    def further_inputs(self, hidden: Sectors) -> tuple[Sectors | None]:
        """The input channels that enter queries and keys of every block again, or None."""
        if not self.reinsert_mv_channels and not self.reinsert_s_channels:
            return (None,)
        c = hidden.mv_channels
        mv = [*self.reinsert_mv_channels, *(c + i for i in self.reinsert_mv_channels)]
        scalars = [2 * c + i for i in self.reinsert_s_channels]
        return (Sectors(hidden.z[..., mv + scalars], hidden.v[..., mv], hidden.b[..., mv]),)


def _checked_places(name: str, places: Sequence[int] | None, channels: int) -> tuple[int, ...]:
    """Numbers of input channels, each of which exists."""
    places = tuple(places or ())
    for place in places:
        check_counts(0, **{name: place})
        if place >= channels:
            raise ValueError(f"{name} has {place}, but input channels go from 0 to {channels - 1}")
    return places
