"""What a mask is, and how masks combine."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import Field, dataclass, fields, is_dataclass
from typing import Any, ClassVar, NamedTuple, TypeVar

import torch
from torch import Tensor

from lgatr.attention.pattern.positions import Positions
from lgatr.attention.pattern.shapes import Layout
from lgatr.utils.described import described
from lgatr.utils.devices import on_device

M = TypeVar("M", bound="Movable")


class Band(NamedTuple):
    """Keys from ``left`` before to ``right`` after a query; None is without limit.

    Distances count from the query's own position, or with ``bottom_right`` from that position
    moved so that the last query meets the last key.
    """

    left: int | None
    right: int | None
    bottom_right: bool

    def key_range(self, q: range, lengths: tuple[int, int]) -> range:
        """Keys that some query of ``q`` may see, of an event with these lengths."""
        shift = lengths[1] - lengths[0] if self.bottom_right else 0
        start = 0 if self.left is None else q.start + shift - self.left
        stop = lengths[1] if self.right is None else q.stop + shift + self.right
        start = min(max(start, 0), lengths[1])
        return range(start, max(start, min(stop, lengths[1])))


def _tightest(a: int | None, b: int | None) -> int | None:
    return b if a is None else a if b is None else min(a, b)


_DEEPEST = 100
"""Levels of nesting; backends walk through masks and modifications by recursion."""


class Movable:
    """A frozen dataclass whose tensors can be replaced, and moved to a device."""

    depth = 1
    """How deeply its parts are nested."""

    def _check_depth(self, *parts: Movable) -> None:
        """Raise ``ValueError`` if ``parts`` of this are nested too deeply."""
        depth = 1 + max(part.depth for part in parts)
        if depth > _DEEPEST:
            raise ValueError(
                f"masks and score modifications are nested {_DEEPEST} deep at most; write one "
                "function, as MaskMod(function) or score_mod"
            )
        object.__setattr__(self, "depth", depth)

    def map(
        self: M,
        function: Callable[[Tensor], Tensor],
        number: Callable[[float], Any] | None = None,
    ) -> M:
        """The same with ``function`` applied to each tensor, and ``number`` to each number."""
        changed: dict[str, Any] = {}
        for field in fields_of(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                changed[field.name] = function(value)
            elif isinstance(value, Movable):
                changed[field.name] = value.map(function, number)
            elif isinstance(value, tuple) and any(isinstance(v, Movable) for v in value):
                changed[field.name] = tuple(v.map(function, number) for v in value)
            elif number is not None and type(value) in (int, float):
                changed[field.name] = number(value)
        if all(getattr(self, name) is value for name, value in changed.items()):
            return self
        # Validated at construction; validating again could synchronise with a GPU.
        result = copy.copy(self)
        for name, value in changed.items():
            object.__setattr__(result, name, value)
        return result

    def to(self: M, device: torch.device | str) -> M:
        """The same with its tensors on ``device``."""
        return self.map(lambda tensor: on_device(tensor, device))


def fields_of(pattern: Movable) -> tuple[Field[Any], ...]:
    """The fields that hold what a mask or score modification is made of.

    Raises
    ------
    TypeError
        If it is no dataclass.
    """
    if not is_dataclass(pattern):
        raise TypeError(
            f"{type(pattern).__name__} is no dataclass, by whose fields tensors are found; put "
            "@dataclass(frozen=True, eq=False) above the class"
        )
    return fields(pattern)


class Mask(Movable, ABC):
    """Which keys each query may attend to; combine with ``&``, ``|`` and ``~``.

    Positions count inside an event, so that one mask serves events of any length. A query that
    may attend to nothing gives zeros.
    """

    feature: ClassVar[str] = "mask_mod"
    """The capability a backend needs to run this mask."""

    @abstractmethod
    def allowed(self, at: Positions) -> Tensor:
        """Boolean, True where attention is allowed; broadcasts to ``at``.

        Only arithmetic, comparisons and look-ups of captured tensors: backends compile this.
        """

    def band(self) -> Band | None:
        """The mask as a :class:`Band`, if it is one."""
        return None

    def key_range(self, q: range, lengths: tuple[int, int], first_key: int) -> range:
        """Keys outside of which no query of ``q`` may attend; need not be tight.

        Parameters
        ----------
        q
            Positions of queries.
        lengths
            Numbers of queries and keys of their event.
        first_key
            Key token at which the event starts.
        """
        band = self.band()
        return range(lengths[1]) if band is None else band.key_range(q, lengths)

    def check(self, layout: Layout) -> None:
        """Raise ``ValueError`` if the mask does not fit these events, tokens and heads."""

    def features(self) -> frozenset[str]:
        """Capabilities that a backend needs."""
        return frozenset({self.feature})

    def __and__(self, other: Mask) -> Mask:
        return And(_joined(And, self, other)) if isinstance(other, Mask) else NotImplemented

    def __or__(self, other: Mask) -> Mask:
        return Or(_joined(Or, self, other)) if isinstance(other, Mask) else NotImplemented

    def __invert__(self) -> Mask:
        return Not(self)


def _joined(kind: type[And] | type[Or], *masks: Mask) -> tuple[Mask, ...]:
    """Parts of masks of one kind side by side, so that a long chain is not nested deeply."""
    parts = (m.parts if isinstance(m, kind) and type(m) is kind else (m,) for m in masks)
    return tuple(part for group in parts for part in group)


def _check_parts(mask: Mask, parts: tuple[Mask, ...]) -> None:
    if not isinstance(parts, tuple) or not parts or not all(isinstance(p, Mask) for p in parts):
        raise ValueError(f"masks are joined with masks, in a tuple, not {described(parts)}")
    mask._check_depth(*parts)


@dataclass(frozen=True, eq=False)
class And(Mask):
    """Where all of ``parts`` allow it."""

    parts: tuple[Mask, ...]

    def __post_init__(self) -> None:
        _check_parts(self, self.parts)

    def allowed(self, at: Positions) -> Tensor:
        result = self.parts[0].allowed(at)
        for part in self.parts[1:]:
            result = result & part.allowed(at)
        return result

    def band(self) -> Band | None:
        """Bands of one corner overlap in a band."""
        bands = [part.band() for part in self.parts]
        result = bands[0]
        for band in bands[1:]:
            if result is None or band is None or result.bottom_right != band.bottom_right:
                return None
            left, right = _tightest(result.left, band.left), _tightest(result.right, band.right)
            result = Band(left, right, result.bottom_right)
        return result

    def key_range(self, q: range, lengths: tuple[int, int], first_key: int) -> range:
        """Overlap of the parts'."""
        ranges = [part.key_range(q, lengths, first_key) for part in self.parts]
        start = max(r.start for r in ranges)
        return range(start, max(start, min(r.stop for r in ranges)))

    def check(self, layout: Layout) -> None:
        for part in self.parts:
            part.check(layout)

    def features(self) -> frozenset[str]:
        """A band again, or whatever the parts need, arbitrarily combined."""
        names = frozenset[str]().union(*(part.features() for part in self.parts))
        return names if self.band() is not None else names | {"mask_mod"}


@dataclass(frozen=True, eq=False)
class Or(Mask):
    """Where any of ``parts`` allows it."""

    parts: tuple[Mask, ...]

    def __post_init__(self) -> None:
        _check_parts(self, self.parts)

    def allowed(self, at: Positions) -> Tensor:
        result = self.parts[0].allowed(at)
        for part in self.parts[1:]:
            result = result | part.allowed(at)
        return result

    def key_range(self, q: range, lengths: tuple[int, int], first_key: int) -> range:
        """Hull of the parts'."""
        ranges = [r for part in self.parts if (r := part.key_range(q, lengths, first_key))]
        if not ranges:
            return range(0)
        return range(min(r.start for r in ranges), max(r.stop for r in ranges))

    def check(self, layout: Layout) -> None:
        for part in self.parts:
            part.check(layout)

    def features(self) -> frozenset[str]:
        """Whatever the parts need, arbitrarily combined."""
        return frozenset({"mask_mod"}).union(*(part.features() for part in self.parts))


@dataclass(frozen=True, eq=False)
class Not(Mask):
    """Where ``part`` forbids it."""

    part: Mask

    def __post_init__(self) -> None:
        _check_parts(self, (self.part,))

    def __invert__(self) -> Mask:
        return self.part

    def allowed(self, at: Positions) -> Tensor:
        return ~self.part.allowed(at)

    def check(self, layout: Layout) -> None:
        self.part.check(layout)

    def features(self) -> frozenset[str]:
        """Whatever the part needs, arbitrarily combined."""
        return self.part.features() | {"mask_mod"}


MaskFunction = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class MaskMod(Mask):
    """Any function of (event, head, query position, key position), as for FlexAttention.

    Parameters
    ----------
    function
        ``function(b, h, q, k)`` of whole-number tensors that broadcast, returning a boolean.
    """

    function: MaskFunction

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise ValueError(
                f"MaskMod takes a function of (b, h, q, k), not {described(self.function)}"
            )

    def allowed(self, at: Positions) -> Tensor:
        result = self.function(at.event, at.head, at.q, at.k)
        return checked_mask(result, at, "the function of a MaskMod")


def checked_mask(result: Any, at: Positions, name: str) -> Tensor:
    """``result``, if it is a mask of the scores at ``at``; else ``ValueError``.

    Parameters
    ----------
    result
        What a function of users returned.
    at
        The positions that it was given.
    name
        What the function is called.
    """
    if not isinstance(result, Tensor) or result.dtype != torch.bool or result.is_nested:
        kind = getattr(result, "dtype", type(result).__name__)
        raise ValueError(f"{name} returns a boolean tensor, not {kind}")
    if not torch.compiler.is_compiling():
        check_broadcast(result, at, name)
    return result


def check_broadcast(result: Tensor, at: Positions, name: str) -> None:
    """Raise ``ValueError`` unless ``result`` broadcasts to the scores at ``at``."""
    wanted = torch.broadcast_shapes(at.event.shape, at.head.shape, at.q.shape, at.k.shape)
    shapes = zip(reversed(result.shape), reversed(wanted), strict=False)
    if result.dim() > len(wanted) or not all(n in (1, m) for n, m in shapes):
        raise ValueError(
            f"{name} returns what its arguments broadcast to, here "
            f"{tuple(wanted)}, not {tuple(result.shape)}"
        )
