"""Adapt masks and scores of whole sequences to queries that are their last tokens.

Masks and scores count positions in the whole sequence; so does a decoder that computes its tokens
one after another, and whose queries would otherwise begin at 0 in every step.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from lgatr.attention.pattern.masks import Causal, Mask, SlidingWindow
from lgatr.attention.pattern.positions import Positions
from lgatr.attention.pattern.scores import ScoreMod
from lgatr.attention.pattern.shapes import Layout


def continued_mask(mask: Mask | None) -> Mask:
    """``mask`` for the last tokens of sequences, which see nothing after themselves."""
    causal = Causal(bottom_right=True)
    if mask is None:
        return causal
    band = mask.band()
    if band is None:
        return ContinuedMask(mask) & causal
    if band.left is None and (band.right is None or band.right >= 0):
        return causal
    return SlidingWindow(band.left, band.right, bottom_right=True) & causal


def _in_sequence(at: Positions) -> Positions:
    q = at.q + (at.k_length - at.q_length)
    return at._replace(q=q, q_length=at.k_length, q_token=at.k_token - at.k + q)


@dataclass(frozen=True, eq=False)
class ContinuedMask(Mask):
    """``part`` as it is for the last queries of sequences with as many queries as keys."""

    part: Mask

    def allowed(self, at: Positions) -> Tensor:
        return self.part.allowed(_in_sequence(at))

    def key_range(self, q: range, lengths: tuple[int, int], first_key: int) -> range:
        shift = lengths[1] - lengths[0]
        whole = (lengths[1], lengths[1])
        return self.part.key_range(range(q.start + shift, q.stop + shift), whole, first_key)

    def check(self, layout: Layout) -> None:
        self.part.check(layout._replace(queries=layout.keys))

    def features(self) -> frozenset[str]:
        """Whatever the part needs, and arbitrary positions."""
        return self.part.features() | {"mask_mod"}


@dataclass(frozen=True, eq=False)
class ContinuedScore(ScoreMod):
    """``part`` as it is for the last queries of sequences with as many queries as keys."""

    part: ScoreMod

    @property
    def symmetry(self) -> str:  # type: ignore[override]
        """That of the part."""
        return self.part.symmetry

    def __call__(self, score: Tensor, at: Positions) -> Tensor:
        return self.part(score, _in_sequence(at))

    def bias(self, at: Positions) -> Tensor | None:
        return self.part.bias(_in_sequence(at))

    def check(self, layout: Layout) -> None:
        self.part.check(layout._replace(queries=layout.keys))

    def features(self) -> frozenset[str]:
        """Whatever the part needs, and arbitrary positions."""
        return self.part.features() | {"score_mod"}
