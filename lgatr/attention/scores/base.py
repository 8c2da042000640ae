"""What a score modification is, and how modifications follow each other."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from lgatr.attention.masks.base import Movable
from lgatr.attention.positions import Positions
from lgatr.attention.shapes import Layout


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
        return Chain((self, other)) if isinstance(other, ScoreMod) else NotImplemented


class Bias(ScoreMod):
    """A modification that adds something to the score."""

    @abstractmethod
    def bias(self, at: Positions) -> Tensor:
        """What is added."""

    def __call__(self, score: Tensor, at: Positions) -> Tensor:
        """See :class:`ScoreMod`."""
        return score + self.bias(at).to(score.dtype)


@dataclass(frozen=True, eq=False)
class Chain(ScoreMod):
    """All of ``parts``, in order."""

    parts: tuple[ScoreMod, ...]

    @property
    def symmetry(self) -> str:  # type: ignore[override]
        """The smallest of the parts' symmetries."""
        order = ("none", "beam", "lorentz")
        return min((part.symmetry for part in self.parts), key=order.index)

    def __call__(self, score: Tensor, at: Positions) -> Tensor:
        """See :class:`ScoreMod`."""
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
        """See :meth:`ScoreMod.check`."""
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
                f"ScoreModFunction takes a function of (score, b, h, q, k), not {self.function!r}"
            )

    def __call__(self, score: Tensor, at: Positions) -> Tensor:
        """See :class:`ScoreMod`."""
        result = self.function(score, at.event, at.head, at.q, at.k)
        if not isinstance(result, Tensor) or not result.is_floating_point():
            kind = getattr(result, "dtype", type(result).__name__)
            raise ValueError(f"a score_mod returns floating-point scores, not {kind}")
        return result


def check_heads(table: Tensor, layout: Layout, name: str) -> None:
    """Raise ``ValueError`` unless a table has one row for each head."""
    if len(table) != layout.heads:
        raise ValueError(f"{name} for {len(table)} heads, but there are {layout.heads}")
