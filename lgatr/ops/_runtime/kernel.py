"""What each kernel in C++ takes: the one table that every call is checked against.

Legend: T tokens (U keys), C multivector or vector channels, S scalar channels, N heads of all
parts, H heads of one part, W numbers of a row of a head, D numbers of a head, O outputs, B events,
P pieces of a sum, F heads of each part.

The names of sizes are arguments too. A tensor's shape is written in them, and compared with what
the sizes of this call make of it; so a kernel never sees a size that one of its tensors has not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from lgatr.ops._runtime.arguments import Argument, Array, Heads, Real, Size, State

_MOST_PARTS = 62
"""Bits of the mask of parts that get the signs of the inner product."""


def _out(*dimensions: str) -> Array:
    return Array(dimensions, written=True)


def _given(*dimensions: str) -> Array:
    return Array(dimensions)


def _maybe(*dimensions: str, written: bool = False) -> Array:
    return Array(dimensions, written=written, optional=True)


def _sizes(names: str) -> dict[str, Argument]:
    return {name: Size() for name in names.split()}


_FLAG = Size(0, 1)
_METRIC = Size(0, 2**_MOST_PARTS - 1)
_PIECES = Size(1, 2**20)
_SIGNS: dict[str, Argument] = {"F": Size(1), "metric": _METRIC}
_EVEN_WIDTH: dict[str, Argument] = {
    "T": Size(), "N": Size(), "W": Size(multiple=2), "S": Size(),
}  # fmt: skip

_MULTIVECTORS = State("2 * C", "2 * C", wider=True)
_MULTIVECTORS_OUT = State("2 * C", "2 * C", written=True, wider=True)
_STATE, _STATE_OUT = State("2 * C + S", "2 * C"), State("2 * C + S", "2 * C", written=True)
_BY_HEAD, _BY_HEAD_OUT = State("N * (W + S)", "N * W"), State("N * (W + S)", "N * W", written=True)
_OFFSETS = Array(("B + 1",), dtype=torch.int64)
_ATTENTION: dict[str, Argument] = {
    "queries": _OFFSETS, "keys": _OFFSETS, **_sizes("T U B H"), "D": Size(1),
    "scale": Real(positive=True), "causal": _FLAG,
}  # fmt: skip

SIGNATURES: dict[str, dict[str, Argument]] = {
    "product": {
        "x": _MULTIVECTORS, "y": _MULTIVECTORS, "out": _MULTIVECTORS_OUT, **_sizes("T C"),
        "x_hermitian": _FLAG, "y_hermitian": _FLAG,
    },
    "product_gradients": {
        "x": _MULTIVECTORS, "y": _MULTIVECTORS, "grad": _MULTIVECTORS,
        "of_x": _MULTIVECTORS_OUT, "of_y": _MULTIVECTORS_OUT, **_sizes("T C"),
    },
    "norm": {
        "x": _STATE, "out": _STATE_OUT, "factor": _out("T"), "mean": _out("T"),
        "deviation": _out("T"), "weight": _maybe("5", "C"), "weight_s": _maybe("S"),
        **_sizes("T C S"), "epsilon": Real(), "gain": Real(), "epsilon_s": Real(),
    },
    "norm_gradients": {
        "x": _STATE, "grad": _STATE, "out": _STATE_OUT, "factor": _given("T"),
        "mean": _given("T"), "deviation": _given("T"), "weight": _maybe("5", "C"),
        "weight_s": _maybe("S"), "of_weight": _maybe("P", "5", "C", written=True),
        "of_weight_s": _maybe("P", "S", written=True), **_sizes("T C S"),
        "gain": Real(), "limit": Real(), "from_outputs": _FLAG, "P": _PIECES,
    },
    "heads": {
        "x": _BY_HEAD, "out": _out("T", "N", "8 * W + S"), "factor": _out("T", "N"),
        "deviation": _out("T", "N"), **_EVEN_WIDTH, "epsilon": Real(), "epsilon_s": Real(),
        **_SIGNS,
    },
    "heads_gradient": {
        "h": _given("T", "N", "8 * W + S"), "grad": _given("T", "N", "8 * W + S"),
        "out": _BY_HEAD_OUT, "factor": _given("T", "N"), "deviation": _given("T", "N"),
        **_EVEN_WIDTH, "epsilon": Real(), "limit": Real(), **_SIGNS,
    },
    "from_heads": {"packed": _given("T", "N", "8 * W + S"), "x": _BY_HEAD_OUT, **_sizes("T N W S")},
    "to_heads": {"packed": _out("T", "N", "8 * W + S"), "x": _BY_HEAD, **_sizes("T N W S")},
    "gate": {
        "x": _MULTIVECTORS, "gates": _given("T", "C"), "out": _MULTIVECTORS_OUT, **_sizes("T C"),
    },
    "gate_gradient": {
        "x": _MULTIVECTORS, "gates": _given("T", "C"), "grad": _MULTIVECTORS,
        "out": _MULTIVECTORS_OUT, "of_gate": _out("T", "C"), **_sizes("T C"),
    },
    "slim_norm": {
        "v": _given("T", "4", "C"), "s": _given("T", "S"), "weight_v": _maybe("C"),
        "weight_s": _maybe("S"), "out_v": _out("T", "4", "C"), "out_s": _out("T", "S"),
        "factor": _out("T"), **_sizes("T C S"), "epsilon": Real(),
    },
    "slim_norm_gradients": {
        "v": _given("T", "4", "C"), "s": _given("T", "S"), "gv": _given("T", "4", "C"),
        "gs": _given("T", "S"), "factor": _given("T"), "weight_v": _maybe("C"),
        "weight_s": _maybe("S"), "of_v": _out("T", "4", "C"), "of_s": _out("T", "S"),
        "of_weight_v": _maybe("P", "C", written=True),
        "of_weight_s": _maybe("P", "S", written=True), **_sizes("T C S"), "P": _PIECES,
    },
    "slim_heads": {
        "v": _given("T", "4", "N * W"), "s": _given("T", "N * S"),
        "out": _out("T", "N", "4 * W + S"), "factor": _out("T", "N"), **_sizes("T N W S"),
        "epsilon": Real(), **_SIGNS,
    },
    "slim_heads_gradient": {
        "h": _given("T", "N", "4 * W + S"), "grad": _given("T", "N", "4 * W + S"),
        "factor": _given("T", "N"), "of_v": _out("T", "4", "N * W"), "of_s": _out("T", "N * S"),
        **_sizes("T N W S"), **_SIGNS,
    },
    "slim_from_heads": {
        "heads": _given("T", "N", "4 * W + S"), "v": _out("T", "4", "N * W"),
        "s": _out("T", "N * S"), **_sizes("T N W S"),
    },
    "slim_to_heads": {
        "heads": _out("T", "N", "4 * W + S"), "v": _given("T", "4", "N * W"),
        "s": _given("T", "N * S"), **_sizes("T N W S"),
    },
    "slim_inner": {"v": _given("T", "4", "3 * O"), "out": _out("T", "O"), **_sizes("T O")},
    "slim_gate": {
        "v": _given("T", "4", "3 * O"), "gates": _given("T", "O"), "out": _out("T", "4", "O"),
        **_sizes("T O"),
    },
    "slim_gate_gradient": {
        "v": _given("T", "4", "3 * O"), "grad": _given("T", "4", "O"),
        "of_gates": _out("T", "O"), **_sizes("T O"),
    },
    "slim_glu_gradients": {
        "v": _given("T", "4", "3 * O"), "gates": _given("T", "O"), "grad": _given("T", "4", "O"),
        "of_inner": _given("T", "O"), "out": _out("T", "4", "3 * O"), **_sizes("T O"),
    },
    "attention": {
        "q": Heads("T"), "k": Heads("U"), "v": Heads("U"), "out": Heads("T", written=True),
        "lse": _out("T", "H"), **_ATTENTION,
    },
    "attention_gradients": {
        "q": Heads("T"), "k": Heads("U"), "v": Heads("U"), "out": Heads("T"), "grad": Heads("T"),
        "lse": _given("T", "H"), "of_q": Heads("T", written=True),
        "of_k": Heads("U", written=True), "of_v": Heads("U", written=True), **_ATTENTION,
    },
}  # fmt: skip
"""By the kernel's name without ``lgatr_``, in the order of its arguments."""

FALLIBLE = frozenset({"attention", "attention_gradients"})
"""Kernels that return a status; the others cannot fail once their arguments are checked."""


class Signature:
    """The arguments of one kernel, ready to be checked.

    Parameters
    ----------
    name
        Of the kernel.
    arguments
        By name, in order.
    """

    def __init__(self, name: str, arguments: dict[str, Argument]) -> None:
        self.name = name
        self.c_types = [a.c_type for a in arguments.values()]
        self._arguments = [(i, key, a) for i, (key, a) in enumerate(arguments.items())]
        self._numbers = [x for x in self._arguments if isinstance(x[2], (Size, Real))]
        self._tensors = [x for x in self._arguments if not isinstance(x[2], (Size, Real))]
        names = ", ".join(arguments)
        shapes = ", ".join(a.shapes() for _, _, a in self._tensors)
        elements = " + ".join(f"({a.elements()})" for _, _, a in self._tensors if a.written)
        # The table's own expressions as one function, made once: a call only fills in its sizes.
        self._wanted: Callable[..., tuple[tuple[Any, ...], int]] = eval(
            f"lambda {names}: (({shapes},), {elements})"
        )

    def converted(self, given: tuple[Any, ...], real: torch.dtype) -> list[Any] | None:
        """The arguments as ctypes takes them, or None if the kernel has nothing to write.

        Raises
        ------
        ValueError, TypeError
            If one of them is not what the kernel takes.
        """
        if len(given) != len(self._arguments):
            raise TypeError(
                f"kernel {self.name} takes {len(self._arguments)} arguments, not {len(given)}"
            )
        found, i = list(given), 0
        try:
            for number in self._numbers:
                i, _, kind = number
                found[i] = kind.converted(given[i], None, real)
            shapes, elements = self._wanted(*given)
            for tensor, want in zip(self._tensors, shapes, strict=True):
                i, _, kind = tensor
                found[i] = kind.converted(given[i], want, real)
        except (ValueError, TypeError) as error:
            name = self._arguments[i][1]
            raise type(error)(f"kernel {self.name}: {name} {error}") from None
        return found if elements else None
