"""Hidden states by sectors: the layout every layer works in.

Legend: T tokens (any leading shape), C multivector channels, S scalar channels, G = 16 blades.

Public multivectors are ``(..., C, 16)``. Inside a network they live pair-first and channel-last
(see :mod:`lgatr.algebra`): for each pair (p, p I) one row holds the C coefficients of p, then
the C coefficients of p I. The eight pairs are kept by irreducible sector, since no linear map
mixes sectors: an equivariant linear layer is one matrix product per sector, on contiguous
memory, with nothing sliced and nothing gathered. Auxiliary scalars transform like the scalar
pair, so they ride in its rows.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from lgatr.algebra import (
    NUM_PAIRS,
    PAIR_BLADES,
    PAIR_SIGNS,
    SCALAR_PAIRS,
    VECTOR_PAIRS,
)

NUM_VECTORS = len(VECTOR_PAIRS)
NUM_BIVECTORS = NUM_PAIRS - len(SCALAR_PAIRS) - NUM_VECTORS


class Sectors(NamedTuple):
    """Multivectors with auxiliary scalars, sorted by sector.

    Parameters
    ----------
    z
        ``(T, 2C + S)``: scalars, pseudoscalars, auxiliary scalars.
    v
        ``(4, T, 2C)``: the components e0..e3 of the vectors, then of the axial vectors in the
        basis ``e_mu I``.
    b
        ``(3, T, 2C)``: the components e01, e02, e03 of the bivectors, then their duals.
    """

    z: Tensor
    v: Tensor
    b: Tensor

    @property
    def mv_channels(self) -> int:
        """Number of multivector channels C."""
        return self.v.shape[-1] // 2

    @property
    def s_channels(self) -> int:
        """Number of auxiliary scalar channels S."""
        return self.z.shape[-1] - self.v.shape[-1]

    @property
    def scalars(self) -> Tensor:
        """The auxiliary scalars, ``(T, S)``."""
        return self.z[..., self.v.shape[-1] :]


class SlimState(NamedTuple):
    """Vectors with scalars: the hidden state of the slim networks.

    Parameters
    ----------
    vectors
        ``(..., T, 4, C)`` in the order (E, px, py, pz); public tensors of the slim networks are
        ``(..., T, C, 4)``.
    scalars
        ``(..., T, S)``.
    """

    vectors: Tensor
    scalars: Tensor


def constant(values: tuple[float, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    """A small table of the algebra as a tensor, made once per device and dtype."""
    # Traced programs hold the numbers themselves; those of fake tensors are no numbers, and those
    # made inside a transformation of torch.func end with it.
    if (
        torch.compiler.is_compiling()
        or torch._C._len_torch_dispatch_stack()
        or torch._C._functorch.peek_interpreter_stack() is not None
    ):
        return torch.tensor(values, device=device, dtype=dtype)
    return _cached_constant(values, device, dtype)


@cache
def _cached_constant(values: tuple[float, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    # Inference tensors could not be saved for backward by a later training step.
    with torch.inference_mode(False):
        return torch.tensor(values, device=device, dtype=dtype)


def to_sectors(multivectors: Tensor, scalars: Tensor | None = None) -> Sectors:
    """Convert public tensors ``(..., C, 16)`` and ``(..., S)`` to sectors with T = ``...``."""
    order = constant(PAIR_BLADES, multivectors.device, torch.int64)
    signs = constant(PAIR_SIGNS, multivectors.device, multivectors.dtype)
    pairs = (multivectors.index_select(-1, order) * signs).unflatten(-1, (2, NUM_PAIRS))
    # (..., C, 2, 8) -> (8, ..., 2, C) -> (8, ..., 2C)
    pairs = pairs.movedim(-1, 0).transpose(-1, -2).flatten(-2)
    z = pairs[0]
    if scalars is not None and scalars.shape[-1] > 0:
        z = torch.cat([z, scalars], dim=-1)
    return Sectors(z, pairs[1 : 1 + NUM_VECTORS], pairs[1 + NUM_VECTORS :])


def from_sectors(x: Sectors) -> tuple[Tensor, Tensor]:
    """Convert back to multivectors ``(..., C, 16)`` and scalars ``(..., S)``."""
    pairs = torch.cat([x.z[..., : 2 * x.mv_channels].unsqueeze(0), x.v, x.b])
    pairs = pairs.unflatten(-1, (2, -1)).transpose(-1, -2).movedim(0, -1).flatten(-2)
    inverse = [0] * len(PAIR_BLADES)
    for position, blade in enumerate(PAIR_BLADES):
        inverse[blade] = position
    order = constant(tuple(inverse), pairs.device, torch.int64)
    signs = constant(PAIR_SIGNS, pairs.device, pairs.dtype)
    return (pairs * signs).index_select(-1, order), x.scalars


def to_public(x: Sectors) -> tuple[Tensor, Tensor | None]:
    """:func:`from_sectors`, with None for zero scalar channels as networks return them."""
    multivectors, scalars = from_sectors(x)
    return multivectors, scalars if scalars.shape[-1] else None


def concat_channels(x: Sectors, y: Sectors) -> Sectors:
    """Join the channels of two states: multivector channels of x, then of y; scalars likewise."""

    def join(a: Tensor, b: Tensor) -> Tensor:
        return torch.cat([a.unflatten(-1, (2, -1)), b.unflatten(-1, (2, -1))], -1).flatten(-2)

    c, d = 2 * x.mv_channels, 2 * y.mv_channels
    z = torch.cat([join(x.z[..., :c], y.z[..., :d]), x.z[..., c:], y.z[..., d:]], dim=-1)
    return Sectors(z, join(x.v, y.v), join(x.b, y.b))


def flat(x: Sectors) -> Sectors:
    """A state as kernels take it: tokens in one dimension, channels side by side."""
    z, v, b = x
    if z.dim() == 2 and z.stride(1) == v.stride(2) == b.stride(2) == 1:
        return x  # as almost always in packed networks
    z = x.z.flatten(0, -2) if x.z.dim() > 1 else x.z.unsqueeze(0)
    v, b = (t.flatten(1, -2) if t.dim() > 2 else t.unsqueeze(1) for t in (x.v, x.b))
    return Sectors(*(r if r.stride(-1) == 1 else r.contiguous() for r in (z, v, b)))


def unflat(x: Sectors, like: Sectors) -> Sectors:
    """A flat state with the tokens of ``like``; channels stay."""
    if like.z.dim() == 2:
        return x
    z, v, b = (a.view(*b.shape[:-1], a.shape[-1]) for a, b in zip(x, like, strict=True))
    return Sectors(z, v, b)
