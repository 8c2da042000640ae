"""What a score modification is, and how modifications follow each other."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from lgatr.attention.pattern.masks.base import Movable, check_broadcast
from lgatr.attention.pattern.number_formats import in_format
from lgatr.attention.pattern.positions import Positions
from lgatr.attention.pattern.shapes import Layout
from lgatr.ops._runtime.stage import needs_plain_formula
from lgatr.utils.described import described


class ScoreMod(Movable, ABC):
    """A change of attention scores before the softmax; ``a >> b`` applies a, then b.

    Scores are the scaled dot products :math:`s_{ij} = q_i \\cdot k_j \\times` scale.
    """

    feature: ClassVar[str] = "score_mod"
    """The capability a backend needs to run this modification."""
    symmetry: ClassVar[str] = "lorentz"
    """Transformations of the momenta it holds that leave it as it is: ``lorentz``, ``beam``
    (rotations about and boosts along the z axis) or ``none``."""

    @abstractmethod
    def __call__(self, score: Tensor, at: Positions) -> Tensor:
        """The new score; both broadcast to ``(events, heads, queries, keys)``."""

    def bias(self, at: Positions) -> Tensor | None:
        """What is added to the score, if the modification is an addition; else None."""
        return None

    def check(self, layout: Layout) -> None:
        """Raise ``ValueError`` if the modification does not fit these events, tokens and heads."""

    def features(self) -> frozenset[str]:
        """Capabilities that a backend needs."""
        return frozenset({self.feature})

    def learned(self) -> list[Tensor]:
        """The tensors it holds that require gradients."""
        values = vars(self).values()
        parts = [p for v in values for p in (v if isinstance(v, tuple) else (v,))]
        found: list[Tensor] = []
        for part in parts:
            if isinstance(part, ScoreMod):
                found += part.learned()
            elif isinstance(part, Tensor) and part.requires_grad:
                found.append(part)
        return found

    def __rshift__(self, other: ScoreMod) -> ScoreMod:
        if not isinstance(other, ScoreMod):
            return NotImplemented
        # Side by side, so that a long chain is not nested deeply.
        parts = (p.parts if type(p) is Chain else (p,) for p in (self, other))
        return Chain(tuple(part for group in parts for part in group))


class Bias(ScoreMod):
    """A modification that adds something to the score."""

    @abstractmethod
    def bias(self, at: Positions) -> Tensor:
        """What is added."""

    def __call__(self, score: Tensor, at: Positions) -> Tensor:
        name = f"the bias of {type(self).__name__}"
        return score + checked_bias(self.bias(at), score.dtype, at, name)


@dataclass(frozen=True, eq=False)
class Chain(ScoreMod):
    """All of ``parts``, in order."""

    parts: tuple[ScoreMod, ...]

    def __post_init__(self) -> None:
        parts = self.parts
        if not (isinstance(parts, tuple) and parts and all(isinstance(p, ScoreMod) for p in parts)):
            raise ValueError(
                f"modifications are joined with modifications, in a tuple, not {described(parts)}"
            )
        self._check_depth(*parts)

    @property
    def symmetry(self) -> str:  # type: ignore[override]
        """The smallest of the parts' symmetries."""
        order = ("none", "beam", "lorentz")
        return min((part.symmetry for part in self.parts), key=order.index)

    def __call__(self, score: Tensor, at: Positions) -> Tensor:
        for part in self.parts:
            score = part(score, at)
        return score

    def bias(self, at: Positions) -> Tensor | None:
        """The sum of the parts, if all are additions."""
        total: Tensor | None = None
        for part in self.parts:
            bias = part.bias(at)
            if bias is None:
                return None
            total = bias if total is None else total + bias
        return total

    def check(self, layout: Layout) -> None:
        for part in self.parts:
            part.check(layout)

    def features(self) -> frozenset[str]:
        """Everything the parts need, and free composition."""
        return frozenset({"score_mod"}).union(*(part.features() for part in self.parts))


ScoreFunction = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class ScoreModFunction(ScoreMod):
    """Any function of (score, event, head, query position, key position), as for FlexAttention.

    Parameters
    ----------
    function
        ``function(score, b, h, q, k)`` returning the new score.
    """

    function: ScoreFunction
    symmetry = "none"

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise ValueError(
                f"ScoreModFunction takes a function of (score, b, h, q, k), not "
                f"{described(self.function)}"
            )

    def __call__(self, score: Tensor, at: Positions) -> Tensor:
        result = self.function(score, at.event, at.head, at.q, at.k)
        result = checked_scores(result, score, at, "a score_mod")
        if not torch.compiler.is_compiling() and result.shape != score.shape:
            self._check_each(score, at)
        return result

    def _check_each(self, score: Tensor, at: Positions) -> None:
        """Raise ``ValueError`` if a result with fewer entries than there are scores is a sum, a
        part or the like of many scores, which would depend on how they are cut into blocks.

        What is made of the positions alone is no different for scores that are no numbers.
        """
        if needs_plain_formula():
            return
        nothing = torch.full_like(score, math.nan, requires_grad=False)
        with torch.no_grad():
            result = self.function(nothing, at.event, at.head, at.q, at.k)
        if result.isnan().any():
            raise ValueError(
                f"a score_mod changes each score by itself, but of {tuple(score.shape)} it made "
                f"{tuple(result.shape)}; leave out sums, indexing and the like"
            )


def checked_scores(result: Any, score: Tensor, at: Positions, name: str) -> Tensor:
    """``result``, if it is new scores at ``at``; else ``ValueError``.

    Parameters
    ----------
    result
        What a function of users returned.
    score, at
        What it was given.
    name
        What the function is called.
    """
    if not isinstance(result, Tensor) or not result.is_floating_point() or result.is_nested:
        kind = getattr(result, "dtype", type(result).__name__)
        raise ValueError(f"{name} returns floating-point scores, not {kind}")
    if not torch.compiler.is_compiling() and result.shape != score.shape:
        check_broadcast(result, at, name)
    # Tensors that a function captures may be of any format.
    return in_format(result, score.dtype)


def checked_bias(bias: Any, dtype: torch.dtype, at: Positions, name: str) -> Tensor:
    """``bias`` in a format of scores, if it is something to add to scores at ``at``.

    Parameters
    ----------
    bias
        What a method of users returned: real numbers in a tensor, or one of Python.
    dtype
        The format of the scores.
    at
        Where they are.
    name
        What is checked.

    Raises
    ------
    ValueError
        If it is something else, or does not broadcast to the scores.
    """
    if type(bias) in (int, float):
        return at.event.new_full((), bias, dtype=dtype)
    if not isinstance(bias, Tensor) or bias.dtype == torch.bool or bias.is_complex():
        kind = getattr(bias, "dtype", type(bias).__name__)
        raise ValueError(f"{name} returns real numbers to add to scores, not {kind}")
    if not torch.compiler.is_compiling():
        check_broadcast(bias, at, name)
    return in_format(bias, dtype) if bias.is_floating_point() else bias.to(dtype)


def check_heads(table: Tensor, layout: Layout, name: str) -> None:
    """Raise ``ValueError`` unless a table has one row for each head."""
    if len(table) != layout.heads:
        raise ValueError(f"{name} for {len(table)} heads, but there are {layout.heads}")
