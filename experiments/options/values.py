"""Check values of a configuration against annotated types."""

from __future__ import annotations

import collections.abc
import math
import types
from collections.abc import Iterable
from dataclasses import is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from experiments.options.markers import FolderName, NotEmpty, OneOf, Range, did_you_mean

LARGEST = 2**63 - 1  # of 64-bit integers in torch, NumPy and HDF5

LISTS: tuple[Any, ...] = (
    list, tuple, set, frozenset,
    collections.abc.Sequence, collections.abc.Iterable, collections.abc.Collection,
)  # fmt: skip
MAPPINGS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
PLAIN: dict[Any, str] = {
    bool: "true or false", int: "a whole number", float: "a number", str: "text", Path: "a path",
    type(None): "null", None: "null",
}  # fmt: skip

_OBJECT = "a part with _target_"


def members(annotation: Any) -> list[tuple[Any, tuple[Any, ...]]]:
    """Members of a union, each with its markers."""
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *markers = get_args(annotation)
        return [(kind, (*more, *markers)) for kind, more in members(inner)]
    if origin in (Union, types.UnionType):
        return [member for kind in get_args(annotation) for member in members(kind)]
    return [(annotation, ())]


def marked(kind: Any, markers: Iterable[Any]) -> Any:
    """Add markers to a type."""
    for marker in markers:
        kind = Annotated[kind, marker]
    return kind


def _problem_of_markers(value: Any, markers: Iterable[Any]) -> str | None:
    for marker in markers:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if isinstance(marker, Range) and number and not marker.holds(value):
            return f"must be {marker}"
        if isinstance(marker, OneOf) and isinstance(value, str) and not marker.holds(value):
            return f"must be one of {marker}{did_you_mean(value, marker.known())}"
        if isinstance(marker, NotEmpty) and isinstance(value, str) and not value.strip():
            return "must not be empty"
        if isinstance(marker, FolderName) and isinstance(value, str) and not marker.holds(value):
            return f"must be {marker}"
    return None


def _is_plain(value: Any, kind: Any) -> bool | None:
    """Whether a value is of a plain type; None if ``kind`` is no plain type."""
    if kind in (None, type(None)):
        return value is None
    if kind is bool:
        return isinstance(value, bool)
    if kind in (int, float):
        numbers = (int,) if kind is int else (int, float)
        return isinstance(value, numbers) and not isinstance(value, bool)
    if kind is str or kind is Path:
        return isinstance(value, str)
    return None


def _of_kind(value: Any, kind: Any, markers: tuple[Any, ...]) -> str | None:
    """The problem of a value of one type, None without problem, or ``""`` if the type differs."""
    if kind is Any or isinstance(kind, TypeVar) or kind is object:
        return _problem_of_markers(value, markers)
    plain = _is_plain(value, kind)
    if plain is not None:
        if not plain:
            return ""
        if isinstance(value, float) and not math.isfinite(value):
            return "must be a finite number"
        if isinstance(value, int) and abs(value) > LARGEST:
            return "is too large a number"
        if isinstance(value, str) and "\0" in value:
            return "must not hold a null character"
        return _problem_of_markers(value, markers)
    origin = get_origin(kind)
    if origin is Literal:
        return None if any(value == a and type(value) is type(a) for a in get_args(kind)) else ""
    if (origin or kind) in LISTS:
        return _of_list(value, origin, get_args(kind), markers)
    if (origin or kind) in MAPPINGS or is_dataclass(kind):
        return None if isinstance(value, dict) else ""
    # Objects are mappings with _target_, which the schema checks.
    return None if isinstance(value, dict) and "_target_" in value else ""


def _of_list(
    value: Any, origin: Any, kinds: tuple[Any, ...], markers: tuple[Any, ...]
) -> str | None:
    if not isinstance(value, list):
        return ""
    fixed = origin is tuple and kinds and kinds[-1] is not Ellipsis
    if fixed and len(kinds) != len(value):
        return f"must have {len(kinds)} entries"
    for number, entry in enumerate(value):
        kind = (kinds[number] if fixed else kinds[0]) if kinds else Any
        found = problem(entry, marked(kind, markers))
        if found:
            return f"entry {entry!r} {found}"
        is_name = isinstance(entry, str) and "OneOf" in str(kind)
        if is_name and entry in value[:number]:
            return f"entry {entry!r} is given twice; give it once"
    return None


def describe(annotation: Any) -> str:
    """Describe an annotation in words."""
    words: list[str] = []
    for kind, markers in members(annotation):
        origin = get_origin(kind)
        if kind in PLAIN:
            word = PLAIN[kind]
        elif origin is Literal:
            word = ", ".join(str(a) for a in get_args(kind))
        elif (origin or kind) in LISTS:
            inner = get_args(kind)
            example = "1, 2" if inner and inner[0] in (int, float) else "a, b"
            word = f"a list such as [{example}]"
        elif (origin or kind) in MAPPINGS or is_dataclass(kind):
            word = "a group of options"
        else:
            word = _OBJECT
        bounds = [str(m) for m in markers if isinstance(m, Range)]
        choices = [str(m) for m in markers if isinstance(m, OneOf)]
        if choices and kind is str:
            word = f"one of {choices[0]}"
        word = ", ".join([word, *bounds]) if kind in (int, float) else word
        if word not in words:
            words.append(word)
    if set(words) - {_OBJECT, PLAIN[None]}:
        words = [word for word in words if word != _OBJECT]
    if PLAIN[int] in words and PLAIN[float] in words:
        words.remove(PLAIN[int])
    return " or ".join(words)


def problem(value: Any, annotation: Any) -> str | None:
    """The problem of a value of an annotated parameter, as the end of a sentence, or None."""
    if annotation is Any:
        return None
    found = [_of_kind(value, kind, markers) for kind, markers in members(annotation)]
    if any(text is None for text in found):
        return None
    # "Out of range" for a value of the right type is more helpful than a list of types.
    of_type = [text for text in found if text]
    return of_type[0] if of_type else f"must be {describe(annotation)}"
