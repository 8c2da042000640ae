"""Masks by the distance between query and key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from lgatr.attention.pattern.masks.base import Band, Mask
from lgatr.attention.pattern.number_checks import whole_number
from lgatr.attention.pattern.positions import Positions
from lgatr.utils.described import described

# What is not given; None is a window without a limit.
_SAME: Any = object()


def _check_corner(bottom_right: Any) -> None:
    if not isinstance(bottom_right, bool):
        raise ValueError(f"bottom_right is True or False, not {described(bottom_right)}")


def _in_band(at: Positions, band: Band) -> Tensor:
    distance = at.k - at.q
    if band.bottom_right:
        distance = distance - (at.k_length - at.q_length)
    if band.right is None:
        assert band.left is not None
        return distance >= -band.left
    allowed = distance <= band.right
    return allowed if band.left is None else allowed & (distance >= -band.left)


@dataclass(frozen=True)
class Causal(Mask):
    """A token attends to itself and to earlier tokens of its event.

    Parameters
    ----------
    bottom_right
        For cross-attention: the last query meets the last key (the queries continue the keys, as
        with a key-value cache), instead of the first query the first key.
    """

    bottom_right: bool = False
    feature = "causal"

    def __post_init__(self) -> None:
        _check_corner(self.bottom_right)

    def band(self) -> Band:
        return Band(None, 0, self.bottom_right)

    def allowed(self, at: Positions) -> Tensor:
        return _in_band(at, self.band())

    def features(self) -> frozenset[str]:
        return frozenset({"causal_bottom_right" if self.bottom_right else "causal"})


@dataclass(frozen=True)
class SlidingWindow(Mask):
    """A token attends to its neighbours in its event.

    Parameters
    ----------
    left
        How many earlier tokens; None for all.
    right
        How many later tokens; None for all. Not given, it equals ``left``.
    bottom_right
        As for :class:`Causal`.
    """

    left: int | None
    right: int | None = _SAME
    bottom_right: bool = False
    feature = "window"

    def __post_init__(self) -> None:
        _check_corner(self.bottom_right)
        if self.right is _SAME:
            object.__setattr__(self, "right", self.left)
        if self.left is None and self.right is None:
            raise ValueError("a window without limits is no mask")
        for name in ("left", "right"):
            reach = getattr(self, name)
            if reach is not None:
                reach = whole_number(reach, f"{name} of a window", 0)
                object.__setattr__(self, name, reach)

    def band(self) -> Band:
        return Band(self.left, self.right, self.bottom_right)

    def allowed(self, at: Positions) -> Tensor:
        return _in_band(at, self.band())
