"""Arithmetic on named fields: what descriptions may compute. Nothing else of Python is run.

``log(part_pt) - 1.7``, ``abs(Jet.Eta) < 2 and jet_pt > 500``, ``momenta[0]`` (along the last axis),
``field("name with blanks")``.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from data.errors import listed


def _power(base: Any, exponent: Any) -> Any:
    # In floating point, because negative powers of whole numbers are refused.
    return base ** (np.float64(exponent) if isinstance(exponent, np.integer) else exponent)


_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul,
    ast.Div: operator.truediv, ast.Mod: operator.mod, ast.Pow: _power,
    ast.BitAnd: operator.and_, ast.BitOr: operator.or_,
}  # fmt: skip
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.USub: operator.neg, ast.UAdd: operator.pos, ast.Not: np.logical_not,
}  # fmt: skip
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le,
    ast.Gt: operator.gt, ast.GtE: operator.ge,
}  # fmt: skip
_LOGIC: dict[type[ast.boolop], Callable[[Any, Any], Any]] = {
    ast.And: np.logical_and, ast.Or: np.logical_or,
}  # fmt: skip
FUNCTIONS: dict[str, Callable[..., Any]] = {
    name: getattr(np, name)
    for name in (
        "abs", "sqrt", "exp", "log", "log10", "log1p", "sin", "cos", "tan", "sinh", "cosh", "tanh",
        "arcsin", "arccos", "arctan", "arctan2", "arcsinh", "hypot", "minimum", "maximum", "sign",
        "isfinite", "floor",
    )
}  # fmt: skip
"""Of NumPy, element by element."""
_FIELD = "field"
_MOST = 1000
"""Characters."""


@dataclass(frozen=True)
class Expression:
    """An expression, checked when it is made.

    Parameters
    ----------
    text
        The expression.

    Raises
    ------
    ValueError
        If it is no arithmetic on fields.
    """

    text: str

    def __post_init__(self) -> None:
        if len(self.text) > _MOST:
            raise ValueError(f"is longer than {_MOST} characters")
        self._tree  # noqa: B018  parsed now, so that mistakes are found now
        self.fields  # noqa: B018

    @cached_property
    def _tree(self) -> ast.expr:
        try:
            tree = ast.parse(self.text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise ValueError(f"{self.text!r} is no expression") from error
        return tree

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """Names of the fields in it, each once."""
        found: dict[str, None] = {}
        self._walk(self._tree, found)
        return tuple(found)

    def _walk(self, node: ast.expr, found: dict[str, None]) -> None:
        if (name := _name(node)) is not None:
            found[name] = None
            return
        for part in self._parts(node):
            self._walk(part, found)

    def _parts(self, node: ast.expr) -> list[ast.expr]:
        """Operands of an operation that is known."""
        match node:
            case ast.Constant(value=int() | float()):
                return []
            case ast.BinOp(op=op) if type(op) in _BINARY:
                return [node.left, node.right]
            case ast.UnaryOp(op=op) if type(op) in _UNARY:
                return [node.operand]
            case ast.BoolOp():
                return node.values
            case ast.Compare() if all(type(op) in _COMPARISONS for op in node.ops):
                return [node.left, *node.comparators]
            case ast.Subscript(slice=ast.Constant(value=int())):
                return [node.value]
            case ast.Call(func=ast.Name(id=name), keywords=[]) if name in FUNCTIONS:
                return node.args
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            known = ", ".join((*FUNCTIONS, _FIELD))
            raise ValueError(f"{self.text!r} calls {node.func.id}; there are {known}")
        raise ValueError(f"{self.text!r} is more than arithmetic on fields")

    def __call__(self, values: Mapping[str, Any]) -> Any:
        """Compute it of arrays by the names of their fields.

        Raises
        ------
        ValueError
            If a field is missing, or arrays do not fit together.
        """
        with np.errstate(all="ignore"):
            try:
                return self._value(self._tree, values)
            except (TypeError, ValueError, IndexError, OverflowError) as error:
                reason = str(error).strip().splitlines()[0] if str(error).strip() else "no reason"
                raise ValueError(f"{self.text!r} cannot be computed ({reason})") from error

    def _value(self, node: ast.expr, values: Mapping[str, Any]) -> Any:
        if (name := _name(node)) is not None:
            if name not in values:
                raise ValueError(f"no field {name!r}; there are {listed(values)}")
            return values[name]
        operands = [self._value(part, values) for part in self._parts(node)]
        match node:
            case ast.Constant(value=int() as value):
                return np.int64(value)  # of fixed size, unlike Python's
            case ast.Constant(value=float() as value):
                return np.float64(value)
            case ast.BinOp(op=op):
                return _BINARY[type(op)](*operands)
            case ast.UnaryOp(op=op):
                return _UNARY[type(op)](*operands)
            case ast.BoolOp(op=op):
                return _joined(operands, _LOGIC[type(op)])
            case ast.Compare(ops=ops):
                pairs = zip(ops, operands, operands[1:], strict=False)
                found = [_COMPARISONS[type(op)](a, b) for op, a, b in pairs]
                return _joined(found, np.logical_and)
            case ast.Subscript(slice=ast.Constant(value=index)):
                return operands[0][..., index]
            case ast.Call(func=ast.Name(id=function)):
                return FUNCTIONS[function](*operands)
        raise AssertionError(node)  # pragma: no cover


def _joined(values: list[Any], function: Callable[[Any, Any], Any]) -> Any:
    found = values[0]
    for value in values[1:]:
        found = function(found, value)
    return found


def _name(node: ast.expr) -> str | None:
    """The field that a node is, if it is one: ``name``, ``group.name`` or ``field("name")``."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=attribute):
            outer = _name(value)
            return None if outer is None else f"{outer}.{attribute}"
        case ast.Call(func=ast.Name(id="field"), args=[ast.Constant(value=str() as name)]):
            return name
    return None
