r"""Attention of linear cost, for networks without symmetry: approximations with other weights.

They have the interface of attention, packed events included, but are not exact: Performer's random
features break Lorentz equivariance (they approximate :math:`\exp(q \cdot k)` only on average), and
Linformer's projection depends on the order of the keys. L-GATr refuses both.

Legend: T query tokens, U key tokens, H heads, D head width, M random features, R projected keys.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from lgatr.attention.backends.native.grouping import groups_of
from lgatr.attention.pattern.packing import Packing


class LinearCostAttention(nn.Module):
    """Common part: cut a packed batch into groups of neighbouring events of equal length."""

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, packing: Packing, kv_packing: Packing | None = None
    ) -> Tensor:
        """Attend inside events.

        Parameters
        ----------
        q
            ``(T, H, D)``.
        k, v
            ``(U, H, D)``.
        packing
            Events of the queries.
        kv_packing
            Events of the keys, where they differ.

        Returns
        -------
        ``(T, H, D)``.
        """
        keys = packing if kv_packing is None else kv_packing
        if (packing.num_tokens, keys.num_tokens) != (len(q), len(k)):
            raise ValueError(
                f"the packing describes {packing.num_tokens} queries and {keys.num_tokens} keys, "
                f"but there are {len(q)} and {len(k)}"
            )
        groups = groups_of(packing.lengths, keys.lengths)
        q_parts = q.split(groups.tokens(groups.queries))
        k_parts, v_parts = (x.split(groups.tokens(groups.keys)) for x in (k, v))
        outputs = [
            self.attend(*(x.unflatten(0, (events, -1)).transpose(1, 2) for x in parts))
            for *parts, events in zip(q_parts, k_parts, v_parts, groups.events, strict=True)
        ]
        return torch.cat([out.transpose(1, 2).flatten(0, 1) for out in outputs])

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention on ``(events, H, items, D)``."""
        raise NotImplementedError


class Performer(LinearCostAttention):
    r"""FAVOR+: positive orthogonal random features (arXiv:2009.14794).

    :math:`\exp(q \cdot k) = E_w[\phi_w(q)\,\phi_w(k)]` with :math:`\phi_w(x) = \exp(w \cdot x -
    |x|^2 / 2)`, so that the sum over keys is taken once for all queries. The error falls like
    :math:`1/\sqrt{M}`.

    Parameters
    ----------
    head_width
        D.
    num_features
        M; the paper takes :math:`D \ln D`.
    seed
        Of the random features, which are kept with the weights.
    """

    projection: Tensor

    def __init__(self, head_width: int, num_features: int = 256, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        blocks = []
        for _ in range(-(-num_features // head_width)):
            square = torch.randn(head_width, head_width, generator=generator, dtype=torch.float64)
            # Orthogonal rows, each as long as a Gaussian vector. The signs make their directions
            # uniform, which those of the decomposition alone are not.
            rows, triangle = torch.linalg.qr(square)
            rows = (rows * triangle.diagonal().sign()).T
            lengths = torch.randn(head_width, head_width, generator=generator).double().norm(dim=1)
            blocks.append(rows * lengths[:, None])
        projection = torch.cat(blocks)[:num_features]
        self.register_buffer("projection", projection.to(torch.get_default_dtype()))

    def _features(self, x: Tensor, over: tuple[int, ...]) -> Tensor:
        x = x * x.shape[-1] ** -0.25
        exponent = x @ self.projection.T.to(x.dtype) - 0.5 * (x * x).sum(-1, keepdim=True)
        # A common factor cancels in the ratio; it keeps exponentials finite.
        return torch.exp(exponent - exponent.amax(over, keepdim=True).detach())

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        queries, keys = self._features(q, (-1,)), self._features(k, (-2, -1))
        numerator = queries @ (keys.transpose(-1, -2) @ v)
        denominator = queries @ keys.sum(-2).unsqueeze(-1)
        return numerator / denominator.clamp(min=1e-20)


class Linformer(LinearCostAttention):
    r"""Keys and values projected along the event to R (arXiv:2006.04768).

    :math:`\mathrm{softmax}(Q (E K)^\top / \sqrt{D})\, F V` with learned E and F, of which an event
    of m keys uses the first m columns.

    Parameters
    ----------
    max_length
        Longest event.
    rank
        R.
    """

    def __init__(self, max_length: int, rank: int = 32) -> None:
        super().__init__()
        self.key_projection = nn.Parameter(torch.randn(rank, max_length) / math.sqrt(max_length))
        self.value_projection = nn.Parameter(torch.randn(rank, max_length) / math.sqrt(max_length))

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        length, longest = k.shape[-2], self.key_projection.shape[1]
        if length > longest:
            raise ValueError(f"an event has {length} keys; this Linformer was built for {longest}")
        k = self.key_projection[:, :length].to(k.dtype) @ k
        v = self.value_projection[:, :length].to(v.dtype) @ v
        weights = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]), dim=-1)
        return weights @ v
