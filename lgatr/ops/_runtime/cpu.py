"""Kernels for CPUs in C++ (``native.cpp``), where there is a compiler for them.

They compute what the stages compute by torch operations, in one pass over the memory. All
functions take tensors without gradients; a state is ``z (T, .)``, ``v (4, T, w)``,
``b (3, T, w)`` with channels side by side, rows and tokens at any distance.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from lgatr.layout import Sectors
from lgatr.ops._runtime.build import is_wanted, library
from lgatr.ops._runtime.kernel import FALLIBLE, SIGNATURES, Signature

_NAMES = {torch.float32: "float", torch.float64: "double"}
# As in native.h.
_PROBLEMS: dict[int, tuple[type[Exception], str]] = {
    1: (ValueError, "offsets of queries must rise from 0 to the number of queries"),
    2: (ValueError, "offsets of keys must rise from 0 to the number of keys"),
    3: (MemoryError, "no memory for the scores of an event"),
}
PIECES = 16
"""Of the tokens, in sums over them: a fixed number, whatever the number of threads."""


def has_native_kernels(x: Tensor) -> bool:
    """Whether ``x`` lies on a CPU, in a format of the kernels, and these are built."""
    return (
        x.device.type == "cpu"
        and not torch.compiler.is_compiling()
        and x.dtype in _NAMES
        and is_wanted()
        and library(_NAMES[x.dtype]) is not None
    )


def side_by_side(tensors: Sequence[Tensor | None]) -> list[Tensor | None]:
    """The tensors, contiguous, as most kernels of the slim networks take them."""
    return [None if x is None else x.contiguous() for x in tensors]


def empty_like(x: Sectors) -> Sectors:
    """Room for a state of the same shape, contiguous."""
    return Sectors(*(r.new_empty(r.shape) for r in x))


@cache
def _entry(name: str, dtype: torch.dtype) -> tuple[Signature, Any]:
    """A kernel's signature and its function in the library."""
    kernels = library(_NAMES[dtype])
    if kernels is None:
        raise RuntimeError("the CPU kernels are not built; ask has_native_kernels first")
    signature, function = Signature(name, SIGNATURES[name]), kernels[f"lgatr_{name}"]
    function.argtypes = signature.c_types
    function.restype = ctypes.c_int if name in FALLIBLE else None
    return signature, function


def call(name: str, like: Tensor, *arguments: Any) -> None:
    """Call ``lgatr_<name>`` for the format of ``like``: the one way into the C++ code.

    Every argument is checked against :data:`~lgatr.ops._runtime.kernel.SIGNATURES` here,
    whoever calls, and what only the numbers in a tensor tell is checked by the kernel itself.

    Raises
    ------
    ValueError, TypeError
        If an argument is not what the kernel takes; it names the argument.
    MemoryError
        If there is no room for intermediate results.
    """
    if like.dtype not in _NAMES:
        raise ValueError(f"kernel {name}: no kernels for {like.dtype}; wanted float32 or float64")
    signature, function = _entry(name, like.dtype)
    converted = signature.converted(arguments, like.dtype)
    if converted is None:
        return
    status = function(*converted)
    if status:
        kind, text = _PROBLEMS[status]
        raise kind(f"kernel {name}: {text}")


def product(
    x: Sectors, y: Sectors, out: Sectors, x_hermitian: bool = False, y_hermitian: bool = False
) -> None:
    """Write the geometric product into ``out``, of one Hermitian conjugate where asked."""
    tokens, channels = x.v.shape[1], x.mv_channels
    call("product", x.v, x, y, out, tokens, channels, x_hermitian, y_hermitian)


def product_gradients(
    x: Sectors, y: Sectors, grad: Sectors, places: tuple[Sectors, Sectors]
) -> None:
    """Write the gradients of x and y into ``places``, given that of their product."""
    call("product_gradients", x.v, x, y, grad, *places, x.v.shape[1], x.mv_channels)


def norm(
    x: Sectors,
    out: Sectors,
    gains: tuple[Tensor | None, Tensor | None],
    epsilon: float,
    gain: float,
    epsilon_s: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Write the normalised state into ``out``.

    Returns
    -------
    What :func:`norm_gradients` needs, each ``(T,)``: the factor of the multivectors, mean and
    inverse deviation of the scalars.
    """
    tokens, c, s = len(x.z), x.mv_channels, x.s_channels
    factor, mean, deviation = x.z.new_empty(3, tokens).unbind(0)
    weights = [None if w is None else w.t().contiguous() for w in gains]
    call(
        "norm", x.z, x, out, factor, mean, deviation, *weights, tokens, c, s,
        float(epsilon), float(gain), epsilon_s,
    )  # fmt: skip
    return factor, mean, deviation


def norm_gradients(
    x: Sectors,
    grad: Sectors,
    out: Sectors,
    kept: tuple[Tensor, ...],
    gains: tuple[Tensor | None, Tensor | None],
    gain: float,
    limit: float,
    from_outputs: bool,
) -> tuple[Tensor | None, Tensor | None]:
    """Write the gradient of the state into ``out``; return those of both gains.

    With ``from_outputs``, ``x`` is the normalised state, and there are no gains.
    """
    tokens, c, s = len(x.z), x.mv_channels, x.s_channels
    weights = [None if w is None else w.t().contiguous() for w in gains]
    sums = [None if w is None else w.new_zeros(PIECES, *w.shape) for w in weights]
    call(
        "norm_gradients", x.z, x, grad, out, *kept, *weights, *sums, tokens, c, s,
        float(gain), float(limit), from_outputs, PIECES,
    )  # fmt: skip
    of_weight, of_weight_s = (None if total is None else total.sum(0).t() for total in sums)
    return of_weight, of_weight_s


class Heads:
    """The kernels between matrix products and heads ``(T, N, 8 w + scalars)``.

    Parameters
    ----------
    groups, width, scalars
        N heads of all parts, numbers of a row of pairs, and scalars of each.
    per_part, metric
        Heads of each part, and whether it gets the signs of the inner product.
    epsilon
        Floor of the mean squared norm; None leaves the heads as they are.
    """

    def __init__(
        self,
        groups: int,
        width: int,
        scalars: int,
        per_part: int = 1,
        metric: tuple[bool, ...] = (),
        epsilon: float | None = None,
    ) -> None:
        self.sizes = groups, width, scalars
        self.signs = per_part, sum(1 << part for part, flip in enumerate(metric) if flip)
        self.epsilon = -1.0 if epsilon is None else float(epsilon)

    def forward(
        self, x: Sectors, heads: Tensor, factors: Tensor, scales: Tensor, epsilon_s: float
    ) -> None:
        """Normalise, sign and flatten a state ordered by head."""
        call(
            "heads", heads, x, heads, factors, scales, len(heads), *self.sizes,
            self.epsilon, epsilon_s, *self.signs,
        )  # fmt: skip

    def backward(
        self, heads: Tensor, grad: Tensor, out: Sectors, kept: tuple[Tensor, Tensor], limit: float
    ) -> None:
        """Write the gradient of the state into ``out``, given heads and their gradients."""
        call(
            "heads_gradient", heads, heads, grad, out, *kept, len(heads), *self.sizes,
            self.epsilon, float(limit), *self.signs,
        )  # fmt: skip

    def unpack(self, heads: Tensor, out: Sectors) -> None:
        """Heads to a state ordered by head, as they are."""
        call("from_heads", heads, heads, out, len(heads), *self.sizes)

    def pack(self, x: Sectors, heads: Tensor) -> None:
        """Undo :meth:`unpack`."""
        call("to_heads", heads, heads, x, len(heads), *self.sizes)


def gate(x: Sectors, gates: Tensor, out: Sectors) -> None:
    """Multiply each multivector by its gate ``(T, C)``; auxiliary scalars are left out."""
    call("gate", gates, x, gates, out, *gates.shape)


def gate_gradient(x: Sectors, gates: Tensor, grad: Sectors, out: Sectors) -> Tensor:
    """Write the gradient of the state at fixed gates into ``out``; return that of the gates."""
    of_gates = torch.empty_like(gates)
    call("gate_gradient", gates, x, gates, grad, out, of_gates, *gates.shape)
    return of_gates
