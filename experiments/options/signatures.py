"""Parameters of a callable, with the types of their values."""

from __future__ import annotations

import importlib
import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any

from experiments.options.markers import KeywordsOf, did_you_mean
from experiments.options.named_ranges import marker
from experiments.options.renamed import current_target


@dataclass(frozen=True)
class Parameters:
    """Keyword parameters of a callable.

    Parameters
    ----------
    types
        Annotation by name, with the marker of the name if it has none.
    required
        Names without a default.
    open
        Whether it takes arbitrary further keywords.
    """

    types: dict[str, Any]
    required: frozenset[str]
    open: bool


def find(name: str) -> Any:
    """Import the object that a ``_target_`` names.

    Raises
    ------
    ValueError
        If there is none; the message ends a sentence that begins with the option.
    """
    if (current := current_target(name)) != name:
        raise ValueError(f"is now {current}")
    parts = name.split(".")
    if not all(part.isidentifier() for part in parts) or len(parts) < 2:
        raise ValueError(f"{name!r} is not the full name of a class or function")
    found: Any = None
    path = ""
    for part in parts:
        above, path = found, f"{path}.{part}" if path else part
        if above is None or not hasattr(above, part):
            try:
                found = importlib.import_module(path)
            except ModuleNotFoundError as error:
                if error.name and not path.startswith(error.name):
                    raise ValueError(f"{name} needs the package {error.name}") from error
                known = list(getattr(above, "__dict__", ()))
                home = getattr(above, "__name__", None)
                where = f"{home} has no" if home else "there is no"
                raise ValueError(f"{where} {part}{did_you_mean(part, known)}") from error
            except ImportError as error:
                raise ValueError(f"{name} cannot be imported: {error}") from error
        else:
            found = getattr(above, part)
    if not callable(found):
        raise ValueError(f"{name} is not a class or function")
    return found


def _hints(function: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function, include_extras=True)
    except Exception:  # annotations may be anything, or names for type checkers only
        return {}


def _own_type(parameter: inspect.Parameter, hints: dict[str, Any]) -> Any:
    """The annotation of a parameter, or the type of its default if that is a number."""
    if parameter.name in hints:
        return hints[parameter.name]
    default = parameter.default
    if isinstance(default, bool):
        return bool
    return type(default) | None if isinstance(default, (int, float)) else Any


def with_word(name: str, annotation: Any) -> Any:
    """Add the marker of a name to an annotation, unless it has markers."""
    word = marker(name)
    plain = word is not None and "Annotated[" not in str(annotation)
    return Annotated[annotation, word] if plain else annotation


def _constructors(target: Any) -> list[Any]:
    """The function itself, or constructors in the order in which they may pass on keywords."""
    if not isinstance(target, type):
        return [target]
    own = [base.__dict__["__init__"] for base in target.__mro__ if "__init__" in base.__dict__]
    return own or [target]


@cache
def parameters(target: Callable[..., Any]) -> Parameters:
    """The parameters of a class or function."""
    types: dict[str, Any] = {}
    required: set[str] = set()
    is_open = True
    for depth, function in enumerate(_constructors(target)):
        try:
            known = inspect.signature(function).parameters.values()
        except (TypeError, ValueError):  # built in
            break
        hints = _hints(function)
        rest = None
        for parameter in known:
            if parameter.kind is parameter.VAR_KEYWORD:
                rest = parameter
            elif parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD):
                if parameter.name == "self" or parameter.name in types:
                    continue
                types[parameter.name] = with_word(parameter.name, _own_type(parameter, hints))
                if depth == 0 and parameter.default is parameter.empty:
                    required.add(parameter.name)
        forwarded = _keywords(hints.get(rest.name)) if rest else None
        if forwarded is not None:
            try:
                types.update(parameters(forwarded.load()).types)
            except ImportError:  # whoever needs the package says so
                forwarded = None
        is_open = rest is not None and forwarded is None
        if not is_open:
            break
    # Constructors of optimizers ignore unknown **kwargs.
    is_open = is_open and not any(b.__name__ == "Optimizer" for b in getattr(target, "__mro__", ()))
    return Parameters(types, frozenset(required), is_open)


def _keywords(annotation: Any) -> KeywordsOf | None:
    found = [m for m in getattr(annotation, "__metadata__", ()) if isinstance(m, KeywordsOf)]
    return found[0] if found else None


def keywords_of(annotation: Any) -> tuple[Parameters, tuple[str, ...]] | None:
    """Parameters of a mapping annotated by :class:`KeywordsOf`, and those it must not set.

    None if there is no such marker, or its package is not installed.
    """
    found = _keywords(annotation)
    if found is None:
        return None
    try:
        return parameters(found.load()), found.supplied
    except ImportError:
        return None
