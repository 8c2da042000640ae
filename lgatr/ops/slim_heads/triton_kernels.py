"""The kernels between four-vectors with scalars and attention heads.

A program takes some heads, of one token or several, and each head is a row of its tiles. What is
scattered in memory is read and what lies side by side is written: pieces of some channels that
are read stay in the cache until their neighbours are asked for, but each is written on its own.

Legend: T tokens, N heads of all parts, C and S vector and scalar channels of a head, D = 4 C + S.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from lgatr.ops._runtime.triton import FUSED, block, ceil_div, rows_of
from lgatr.ops._runtime.triton_launch import Kernel
from lgatr.ops._runtime.triton_vectors import load4, square, store4
from lgatr.ops._runtime.tuning import Options, Tuned

# Numbers of a tile, and warps for it.
_CANDIDATES = (
    {"numbers": 2048, "num_warps": 4},
    {"numbers": 1024, "num_warps": 4},
    {"numbers": 4096, "num_warps": 8},
    {"numbers": 512, "num_warps": 1},
)
_FORWARD, _BACKWARD = Tuned("slim heads", _CANDIDATES), Tuned("slim heads gradient", _CANDIDATES)
_UNPACK, _PACK = Tuned("slim heads apart", _CANDIDATES), Tuned("slim heads joined", _CANDIDATES)

_WIDE = 4
"""Numbers that one instruction loads."""
MOST_PARTS = 3
"""Parts whose gradients may lie in memory of their own."""


@triton.jit
def _rows(N: tl.constexpr, BLOCK_R: tl.constexpr):
    """Heads of this program: counted through all tokens, their token, and number in it."""
    first = tl.program_id(0).to(tl.int64) * BLOCK_R
    place = tl.arange(0, BLOCK_R)
    local = (first % N).to(tl.int32) + place
    return first + place, first // N + local // N, local % N


@triton.jit
def _flipped(n, METRIC: tl.constexpr, PER_PART: tl.constexpr):
    """Whether a head gets the signs of the inner product."""
    return ((METRIC >> (n // PER_PART)) & 1) == 1


@triton.jit
def _flat(v, s, r, t, n, d, inside, N: tl.constexpr, C: tl.constexpr, S: tl.constexpr):
    """Whole heads, in the order in which they lie side by side."""
    at = (t * (4 * N * C) + n * C)[:, None] + (d // C) * (N * C) + d % C
    of_v = tl.load(v + at, mask=inside & (d < 4 * C), other=0.0)
    at = (r * S)[:, None] + (d - 4 * C)
    of_s = tl.load(s + at, mask=inside & (d >= 4 * C) & (d < 4 * C + S), other=0.0)
    return tl.where(d < 4 * C, of_v, of_s)


@Kernel
@triton.jit(do_not_specialize=["rows"])
def _heads_kernel(
    v, s, heads, factors, rows, epsilon,
    N: tl.constexpr, C: tl.constexpr, S: tl.constexpr,
    METRIC: tl.constexpr, PER_PART: tl.constexpr,
    BLOCK_R: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    r, t, n = _rows(N, BLOCK_R)
    inside = r < rows
    i, j = tl.arange(0, BLOCK_C)[None, :], tl.arange(0, BLOCK_S)[None, :]
    at, mask = (t * (4 * N * C) + n * C)[:, None] + i, inside[:, None] & (i < C)
    total = tl.sum(tl.abs(square(load4(v, N * C, at, mask))), 1)
    y = tl.load(s + (r * S)[:, None] + j, mask=inside[:, None] & (j < S), other=0.0)
    total += tl.sum(y * y, 1)
    f = 1.0 / tl.sqrt(total * (1.0 / (C + S)) + epsilon)
    tl.store(factors + r, f, mask=inside)
    # Once more, from the cache: writing whole heads is worth it.
    d = tl.arange(0, BLOCK_D)[None, :]
    x = _flat(v, s, r, t, n, d, inside[:, None], N, C, S)
    later = tl.where(_flipped(n, METRIC, PER_PART), -f, f)
    x = x * tl.where((d >= C) & (d < 4 * C), later[:, None], f[:, None])
    tl.store(heads + (r * (4 * C + S))[:, None] + d, x, mask=inside[:, None] & (d < 4 * C + S))


@Kernel
@triton.jit(do_not_specialize=["rows"])
def _gradient_kernel(
    heads, grad, grad_2, grad_3, factors, of_v, of_s, rows, g_t, g_n,
    N: tl.constexpr, C: tl.constexpr, S: tl.constexpr,
    METRIC: tl.constexpr, PER_PART: tl.constexpr, APART: tl.constexpr, UNIT: tl.constexpr,
    BLOCK_R: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_S: tl.constexpr,
):  # fmt: skip
    """``APART`` heads of each of the gradients, which lie in memory of their own.

    Strides are in units of ``UNIT`` numbers, and so are the places of the gradients: from such
    constants the compiler learns how wide it may load.
    """
    r, t, n = _rows(N, BLOCK_R)
    inside = r < rows
    i, j = tl.arange(0, BLOCK_C)[None, :], tl.arange(0, BLOCK_S)[None, :]
    mask, mask_s = inside[:, None] & (i < C), inside[:, None] & (j < S)
    part = n // APART
    grads = tl.where(part == 0, grad, tl.where(part == 1, grad_2, grad_3))
    grads = tl.multiple_of(grads, 4 * UNIT)
    grads = (grads + (t * g_t + (n % APART) * g_n) * UNIT)[:, None]
    place = heads + (r * (4 * C + S))[:, None]
    x, g = load4(place, C, i, mask), load4(grads, C, i, mask)
    y = tl.load(place + 4 * C + j, mask=mask_s, other=0.0)
    h = tl.load(grads + 4 * C + j, mask=mask_s, other=0.0)
    f = tl.load(factors + r, mask=inside, other=0.0)
    inner = tl.sum(g[0] * x[0] + g[1] * x[1] + g[2] * x[2] + g[3] * x[3], 1) + tl.sum(h * y, 1)
    back = -f * inner * (1.0 / (C + S))
    flipped = _flipped(n, METRIC, PER_PART)[:, None]
    f, back = f[:, None], back[:, None]
    later, size = tl.where(flipped, -f, f), square(x)
    change = tl.where(size > 0, back, tl.where(size < 0, -back, 0.0))
    change_later = tl.where(flipped, change, -change)
    d0 = g[0] * f + x[0] * change
    d1 = g[1] * later + x[1] * change_later
    d2 = g[2] * later + x[2] * change_later
    d3 = g[3] * later + x[3] * change_later
    store4(of_v, N * C, (t * (4 * N * C) + n * C)[:, None] + i, mask, (d0, d1, d2, d3), 1.0, 1.0)
    tl.store(of_s + (r * S)[:, None] + j, h * f + y * back, mask=mask_s)


@Kernel
@triton.jit(do_not_specialize=["rows"])
def _unpack_kernel(
    heads, v, s, rows, h_t, h_n,
    N: tl.constexpr, C: tl.constexpr, S: tl.constexpr, UNIT: tl.constexpr,
    BLOCK_R: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_S: tl.constexpr,
):  # fmt: skip
    r, t, n = _rows(N, BLOCK_R)
    inside = (r < rows)[:, None]
    i, j = tl.arange(0, BLOCK_C)[None, :], tl.arange(0, BLOCK_S)[None, :]
    mask, mask_s = inside & (i < C), inside & (j < S)
    place = heads + ((t * h_t + n * h_n) * UNIT)[:, None]
    at = (t * (4 * N * C) + n * C)[:, None] + i
    store4(v, N * C, at, mask, load4(place, C, i, mask), 1.0, 1.0)
    y = tl.load(place + 4 * C + j, mask=mask_s, other=0.0)
    tl.store(s + (r * S)[:, None] + j, y, mask=mask_s)


@Kernel
@triton.jit(do_not_specialize=["rows"])
def _pack_kernel(
    v, s, heads, rows, N: tl.constexpr, C: tl.constexpr, S: tl.constexpr,
    BLOCK_R: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    r, t, n = _rows(N, BLOCK_R)
    inside, d = (r < rows)[:, None], tl.arange(0, BLOCK_D)[None, :]
    x = _flat(v, s, r, t, n, d, inside, N, C, S)
    tl.store(heads + (r * (4 * C + S))[:, None] + d, x, mask=inside & (d < 4 * C + S))


def _strides(*parts: Tensor) -> tuple[tuple[int, int], dict[str, int]]:
    """By token and by head, in units of four numbers where that is possible; and the unit."""
    token, head, _ = parts[0].stride()
    places = (part.data_ptr() // part.element_size() for part in parts)
    unit = 1 if any(number % _WIDE for number in (token, head, *places)) else _WIDE
    return (token // unit, head // unit), {"UNIT": unit}


class Heads:
    """The kernels for heads of one shape; tensors other than heads are contiguous.

    Parameters
    ----------
    tokens, groups
        T and N.
    channels
        C, at least 1, and S.
    per_part, metric
        Heads of each part, and a bit for each part with the signs of the inner product.
    """

    def __init__(
        self,
        tokens: int,
        groups: int,
        channels: tuple[int, int],
        per_part: int = 1,
        metric: int = 0,
    ) -> None:
        self.rows, self.groups, self.channels = tokens * groups, groups, channels
        c, s = channels
        self._shape = {"N": groups, "C": c, "S": s}
        self._apart = {"BLOCK_C": block(c), "BLOCK_S": block(s)}
        self._joined = {"BLOCK_D": block(4 * c + s)}
        self._signs = {"METRIC": metric, "PER_PART": per_part}

    def _launch(self, kernel, tuned: Tuned, *given: Tensor | int | float, **constants: int) -> None:
        width = 4 * self.channels[0] + self.channels[1]

        def launch(options: Options) -> None:
            rows = rows_of(options["numbers"], width)
            kernel[(ceil_div(self.rows, rows),)](
                *given, **self._shape, **constants, BLOCK_R=rows,
                num_warps=options["num_warps"], **FUSED,
            )  # fmt: skip

        first = given[0]
        assert isinstance(first, Tensor)
        tuned(first, (self.groups, *self.channels), launch)

    def forward(self, v: Tensor, s: Tensor, heads: Tensor, factors: Tensor, epsilon: float) -> None:
        """Normalise, sign and flatten into ``heads (T, N, D)``."""
        self._launch(
            _heads_kernel, _FORWARD, v, s, heads, factors, self.rows, epsilon,
            **self._signs, **self._apart, **self._joined,
        )  # fmt: skip

    def backward(
        self, heads: Tensor, grads: tuple[Tensor, ...], factors: Tensor, of_v: Tensor, of_s: Tensor
    ) -> None:
        """Write the gradients of vectors and scalars, given heads and their gradients.

        Parameters
        ----------
        heads
            ``(T, N, D)``.
        grads
            At most :data:`MOST_PARTS` of ``(T, N / P, D)``, all with the same strides, the last 1.
        factors, of_v, of_s
            Of :meth:`forward`; what is written.
        """
        places = [*grads, *(grads[-1] for _ in range(MOST_PARTS - len(grads)))]
        strides, unit = _strides(*grads)
        self._launch(
            _gradient_kernel, _BACKWARD, heads, *places, factors, of_v, of_s, self.rows,
            *strides, APART=self.groups // len(grads), **unit, **self._signs, **self._apart,
        )  # fmt: skip

    def unpack(self, heads: Tensor, v: Tensor, s: Tensor) -> None:
        """Heads ``(T, N, D)`` with the last stride 1 to vectors and scalars, as they are."""
        strides, unit = _strides(heads)
        given = heads, v, s, self.rows, *strides
        self._launch(_unpack_kernel, _UNPACK, *given, **unit, **self._apart)

    def pack(self, v: Tensor, s: Tensor, heads: Tensor) -> None:
        """Undo :meth:`unpack`, into contiguous heads."""
        self._launch(_pack_kernel, _PACK, v, s, heads, self.rows, **self._joined)
