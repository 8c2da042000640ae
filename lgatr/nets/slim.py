"""L-GATr-slim: vectors and scalars only. What both slim networks share comes first.

Legend: T tokens, C vector channels, S scalar channels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from lgatr.layers.slim import SlimBlock, SlimLinear, SlimMLP, SlimRMSNorm
from lgatr.layout import SlimState
from lgatr.nets.base import Network, network_constructor
from lgatr.utils.legacy import accepts_legacy


def hidden_state(vectors: Tensor, scalars: Tensor) -> SlimState:
    """Tokens ``(..., T, C, 4)`` and ``(..., T, S)`` as a hidden state."""
    return SlimState(vectors.transpose(-1, -2), scalars)


def public_tensors(x: SlimState) -> tuple[Tensor, Tensor]:
    """A hidden state as tokens."""
    return x.vectors.transpose(-1, -2), x.scalars


def require_scalars(**tensors: Tensor | None) -> None:
    """Raise ``ValueError`` for scalars that are missing.

    In a slim network vectors never turn into scalars, so without scalar inputs the scalar stream
    would carry nothing.
    """
    for name, tensor in tensors.items():
        if tensor is None or (isinstance(tensor, Tensor) and tensor.shape[-1:] == (0,)):
            raise ValueError(f"{name} must have at least one channel; slim networks need scalars")


def freeze_unused(norm: SlimRMSNorm, mlp: SlimMLP, out: SlimLinear) -> None:
    """Freeze what cannot reach the output of a network without vector or scalar outputs.

    Otherwise data-parallel training would wait for gradients that never come.
    """
    dead: list[nn.Parameter] = []

    def scalar_part(linear: SlimLinear) -> Iterable[nn.Parameter]:
        return () if linear.linear_s is None else linear.linear_s.parameters()

    linears = [module for module in mlp.modules() if isinstance(module, SlimLinear)]
    if out.out_s_channels == 0:
        dead += [parameter for linear in linears for parameter in scalar_part(linear)]
        dead += [] if norm.weight_s is None else [norm.weight_s]
    if out.out_v_channels == 0:
        dead += [linear.weight_v for linear in (*linears, out)]
        dead += [] if norm.weight_v is None else [norm.weight_v]
    for parameter in dead:
        parameter.requires_grad_(False)


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
        As in :class:`~lgatr.layers.slim.mlp.SlimGLU`.
    mlp_ratio, attn_ratio
        Factors between channels and hidden channels of MLP and attention.
    num_layers_mlp
        Layers of each MLP, at least 2.
    dropout_prob, norm_elementwise_affine, checkpoint_blocks, naive_amp
        As in :class:`~lgatr.LGATr`.
    compile, compile_kwargs, activation_memory_budget
        Likewise.
    qkv_bias
        Whether queries, keys and values have biases, as they had in lgatr 1.x.
    """

    representations = (("vector", "scalar"), ("vector", "scalar"))

    input_channels = ("in_v_channels", "in_s_channels")
    to_hidden = staticmethod(hidden_state)
    from_hidden = staticmethod(public_tensors)

    @network_constructor
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
        super().__init__(checkpoint_blocks, naive_amp)
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
        require_scalars(scalars=scalars)
        v, s = self.transform([(vectors, scalars)], [attn_kwargs])
        assert s is not None
        return v, s
