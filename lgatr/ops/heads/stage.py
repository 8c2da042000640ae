"""From hidden states to attention heads: a linear map, the norm of each head, and flattening.

Legend: T tokens, P parts (queries, keys, values), H heads, N = P H, c and cs multivector and
scalar channels per head, w = 2 c, D = 8 w + cs.

A head is short, and vector units want long rows. So between the matrix products and the heads
everything works on planes ``(T, N w)``, one for each row of pairs; sums over the channels of a
head, and factors for all of them, are products with small tables.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lgatr.layout import NUM_BIVECTORS, NUM_VECTORS, Sectors
from lgatr.ops._runtime.matmul import input_gradient, product
from lgatr.ops._runtime.scratch import scratch
from lgatr.ops._runtime.stage import Optionals, Stage, Tensors
from lgatr.ops._runtime.triton import has_triton_kernels
from lgatr.ops.heads.rows import (
    BIVECTORS,
    ROWS,
    VECTORS,
    collect,
    copy_short,
    floor_factor,
    fused_kernels,
    joined,
    present,
    signed_squares,
    spread,
)

_LAYER_NORM = 1e-5
_TOKENS = 1024


@dataclass(frozen=True, eq=False)
class HeadsStage(Stage):
    """Linear map, norm of each head, signs of the inner product, flattening.

    Inputs are the state ``z (T, .)``, ``v (4, T, .)``, ``b (3, T, .)``, the matrices of the three
    sectors with rows ordered by head, and the bias or None; outputs are P tensors ``(T, H, D)``.

    Parameters
    ----------
    formula
        The plain formula.
    heads, metric
        Number of heads, and for each part whether it gets the signs of the inner product.
    scalars
        Scalar channels per head.
    epsilon
        Floor of the mean squared norm; None leaves the heads as they are.
    """

    formula: Callable[..., Tensors]
    heads: int
    metric: tuple[bool, ...]
    scalars: int
    epsilon: float | None
    needs_outputs = True

    @property
    def _groups(self) -> int:
        return self.heads * len(self.metric)

    def runs_on(self, x: Tensor) -> bool:
        """See :class:`~lgatr.ops._runtime.stage.Stage`."""
        return super().runs_on(x) or has_triton_kernels(x)

    def plain(self, *inputs: Tensor | None) -> Tensors:
        """See :class:`~lgatr.ops._runtime.stage.Stage`."""
        return self.formula(*inputs)

    def forward(self, *inputs: Tensor | None) -> tuple[Tensors, Tensors]:
        """See :class:`~lgatr.ops._runtime.stage.Stage`."""
        xz, xv, xb, mz, mv, mb = present(inputs[:6])
        bias, n, t = inputs[6], self._groups, len(xz)
        w = len(mv) // n
        if fused_kernels(xz) is not None:
            return self._forward_fused(Sectors(xz, xv, xb), (mz, mv, mb), bias)
        rows, rows_bias = self._rows(mz, w), None if bias is None else self._rows(bias, w)
        heads = xz.new_empty(t, n, ROWS * w + self.scalars)
        factors, scales = xz.new_empty(t, n), xz.new_empty(t, n, 1)
        for piece in self._pieces(xz):
            z = product(xz[piece], rows, rows_bias)
            v = product(xv[:, piece].flatten(0, 1), mv).view(NUM_VECTORS, -1, n * w)
            b = product(xb[:, piece].flatten(0, 1), mb).view(NUM_BIVECTORS, -1, n * w)
            multivector, s = z[:, : n * w], z[:, n * w :].unflatten(-1, (n, self.scalars))
            factor = factors[piece] = self._factor(multivector, v, b, w)
            first, later = self._factors(factor, w)
            multivector.mul_(first)
            v[0].mul_(first)
            v[1:].mul_(later)
            b.mul_(later)
            if self.scalars and self.epsilon is not None:
                s, _, scale = torch.native_layer_norm(s, (self.scalars,), None, None, _LAYER_NORM)
                scales[piece] = scale
            start = 0
            for row in (multivector, s.flatten(1), *v, *b):
                width = row.shape[-1] // n
                place = heads[piece, :, start : start + width]
                copy_short(row.unflatten(-1, (n, width)), place)
                start += width
        return heads.unflatten(1, (-1, self.heads)).unbind(1), (factors, scales)

    def backward(
        self, inputs: Optionals, outputs: Tensors, kept: Tensors, grads: Tensors
    ) -> Optionals:
        """See :class:`~lgatr.ops._runtime.stage.Stage`."""
        xz, xv, xb, mz, mv, mb = present(inputs[:6])
        n, has_bias = self._groups, inputs[6] is not None
        w = len(mv) // n
        by_torch = fused_kernels(xz) is None
        # The fused kernels take rows as they are: ordered by head.
        rows = self._rows(mz, w) if by_torch else mz
        heads, grad = joined(outputs), joined(grads)
        through = self._through_heads if by_torch else self._through_heads_fused
        gradients = [torch.empty_like(x) for x in (xz, xv, xb)]
        of_weights = [torch.zeros_like(m) for m in (rows, mv, mb)]
        of_bias = xz.new_zeros(len(rows))
        for piece in self._pieces(xz):
            dz, dv, db = through(heads[piece], grad[piece], piece, kept, w)
            gradients[0][piece] = input_gradient(dz, rows)
            of_weights[0].addmm_(dz.t(), xz[piece])
            if has_bias:
                of_bias += dz.sum(0)
            for i, (d, x, m) in enumerate(((dv, xv, mv), (db, xb, mb)), start=1):
                d = d.flatten(0, 1)
                gradients[i][:, piece] = input_gradient(d, m).unflatten(0, (len(x), -1))
                of_weights[i].addmm_(d.t(), x[:, piece].flatten(0, 1))
        if by_torch:
            of_weights[0], of_bias = (self._rows_back(x, w) for x in (of_weights[0], of_bias))
        return *gradients, *of_weights, of_bias if has_bias else None

    def _fused(self, x: Tensor, w: int) -> Any:
        kernels = fused_kernels(x)
        assert kernels is not None
        return kernels(self._groups, w, self.scalars, self.heads, self.metric, self.epsilon)

    def _forward_fused(
        self, x: Sectors, matrices: Tensors, bias: Tensor | None
    ) -> tuple[Tensors, Tensors]:
        n, t, w = self._groups, len(x.z), len(matrices[1]) // self._groups
        heads = x.z.new_empty(t, n, ROWS * w + self.scalars)
        factors, scales = x.z.new_empty(t, n), x.z.new_empty(t, n)
        kernels = self._fused(x.z, w)
        for piece in self._pieces(x.z):
            z = product(x.z[piece], matrices[0], bias)
            v = product(x.v[:, piece].flatten(0, 1), matrices[1]).unflatten(0, (NUM_VECTORS, -1))
            b = product(x.b[:, piece].flatten(0, 1), matrices[2]).unflatten(0, (NUM_BIVECTORS, -1))
            kernels.forward(
                Sectors(z, v, b), heads[piece], factors[piece], scales[piece], _LAYER_NORM
            )
        return heads.unflatten(1, (-1, self.heads)).unbind(1), (factors, scales)

    def _through_heads_fused(
        self, heads: Tensor, grad: Tensor, piece: slice, kept: Tensors, w: int
    ) -> Tensors:
        """What :meth:`_through_heads` gives, with rows ordered by head."""
        n, t = self._groups, len(heads)
        out = Sectors(
            scratch("gradient of scalars", (t, n * (w + self.scalars)), heads),
            scratch("gradient of vectors", (NUM_VECTORS, t, n * w), heads),
            scratch("gradient of bivectors", (NUM_BIVECTORS, t, n * w), heads),
        )
        limit = 0.0 if self.epsilon is None else floor_factor(self.epsilon, heads.dtype)
        factors, scales = (k[piece] for k in kept)
        self._fused(heads, w).backward(heads, grad, out, (factors, scales), limit)
        return tuple(out)

    def _through_heads(
        self, heads: Tensor, grad: Tensor, piece: slice, kept: Tensors, w: int
    ) -> Tensors:
        """The gradients of what the matrix products gave, from heads ``(T, N, D)`` and theirs."""
        n, factor = self._groups, kept[0][piece]
        h, hs = self._planes("heads", heads, w)
        g, gs = self._planes("gradients of heads", grad, w)
        through_norm = self._norm_gradient(h, g, factor, w)
        first, later = self._factors(factor, w)
        dz = scratch("gradient of scalars", (len(h[0]), n * (w + self.scalars)), h)
        torch.mul(g[0], first, out=dz[:, : n * w])
        g[1].mul_(first)
        g[2:].mul_(later)
        if through_norm is not None:
            first, vectors, bivectors = through_norm
            dz[:, : n * w].addcmul_(h[0], first)
            g[1].addcmul_(h[1], vectors[0])
            g[2 : 1 + NUM_VECTORS].addcmul_(h[2 : 1 + NUM_VECTORS], vectors[1])
            g[BIVECTORS].addcmul_(h[BIVECTORS], bivectors)
            gs = self._scalar_gradient(hs, gs, kept[1][piece])
        dz[:, n * w :] = gs.flatten(1)
        return dz, g[VECTORS], g[BIVECTORS]

    @staticmethod
    def _pieces(x: Tensor) -> list[slice]:
        """Tokens to work on at a time, so that all planes stay in the caches of a CPU."""
        tokens = len(x)
        if x.is_cuda:
            return [slice(0, tokens)]
        count = -(-tokens // _TOKENS)
        size = -(-tokens // count)
        return [slice(start, start + size) for start in range(0, tokens, size)]

    def _rows(self, matrix: Tensor, w: int) -> Tensor:
        """Rows ordered by head as all multivectors, then all scalars."""
        by_head = matrix.unflatten(0, (self._groups, -1))
        return torch.cat([by_head[:, :w].flatten(0, 1), by_head[:, w:].flatten(0, 1)])

    def _rows_back(self, matrix: Tensor, w: int) -> Tensor:
        n = self._groups
        parts = matrix[: n * w].unflatten(0, (n, w)), matrix[n * w :].unflatten(0, (n, -1))
        return torch.cat(parts, 1).flatten(0, 1)

    def _factors(self, factor: Tensor, w: int) -> tuple[Tensor, Tensor]:
        """The factor of each head, spread over its entries and signed: two planes."""
        first, later = spread(self.heads, self.metric, w, factor.dtype)
        return factor @ first, factor @ later

    def _factor(self, z: Tensor, v: Tensor, b: Tensor, w: int) -> Tensor:
        """What normalises each head, ``(T, N)``."""
        n = self._groups
        if self.epsilon is None:
            return z.new_ones(len(z), n)
        squares, bivectors = signed_squares(v, b, w)
        squares.abs_().addcmul_(z, z)
        norm = squares @ collect(n, w, 2.0 / w, z.dtype)
        norm.addmm_(bivectors.abs_(), collect(n, w // 2, 2.0 / w, z.dtype))
        return norm.clamp_(min=self.epsilon).rsqrt_()

    def _planes(self, name: str, heads: Tensor, w: int) -> tuple[Tensor, Tensor]:
        """Heads by row of pairs ``(8, T, N w)`` in a scratch buffer; their scalars."""
        planes = scratch(name, (ROWS, *heads.shape[:2], w), heads)
        planes[0] = heads[..., :w]
        later = heads[..., w + self.scalars :].unflatten(-1, (-1, w))
        planes[1:] = later.movedim(-2, 0)
        return planes.flatten(2), heads[..., w : w + self.scalars]

    def _norm_gradient(
        self, h: Tensor, g: Tensor, factor: Tensor, w: int
    ) -> tuple[Tensor, tuple[Tensor, Tensor], Tensor] | None:
        r"""What multiplies the heads h in the gradient through the norm, by row of pairs.

        With :math:`h = f x`, :math:`f = (\\sum_i |x|_i^2 / c)^{-1/2}`, the gradient of x is
        :math:`f (g - \\eta h \\sum_i g_i h_i / c)` with :math:`\\eta` half the derivative of
        :math:`|x|^2` with respect to x, over x; just :math:`f g` where the floor is reached.
        """
        if self.epsilon is None:
            return None
        n = self._groups
        inner = g[0] * h[0]
        for row in range(1, ROWS):
            inner.addcmul_(g[row], h[row])
        total = inner @ collect(n, w, -2.0 / w, h.dtype)
        limit = floor_factor(self.epsilon, h.dtype)
        total.mul_(factor).masked_fill_(factor >= limit, 0.0)
        first, later = self._factors(total, w)
        squares, bivectors = signed_squares(h[VECTORS], h[BIVECTORS], w)
        squares.sign_()
        vectors = first * squares, (later * squares).neg_()
        signs = bivectors.sign_().unflatten(-1, (n, w // 2))
        pairs = later.unflatten(-1, (n, 2, w // 2))
        pairs[..., 1, :].mul_(signs)
        pairs[..., 0, :].mul_(signs.neg_())
        return first, vectors, later

    def _scalar_gradient(self, h: Tensor, g: Tensor, scale: Tensor) -> Tensor:
        """The gradient through the layer norm of scalars, from its results h."""
        if not self.scalars:
            return g
        zero, one = torch.zeros_like(scale), torch.ones_like(scale)
        inside = torch.ops.aten.native_layer_norm_backward(
            g, h, (self.scalars,), zero, one, None, None, (True, False, False)
        )[0]
        return inside.mul_(scale)
