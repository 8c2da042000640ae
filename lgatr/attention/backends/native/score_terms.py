"""Changes of scores that the kernels in Triton know."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from lgatr.attention.pattern.scores import ALiBi, Chain, ScoreMod, SoftCap


@dataclass(frozen=True, eq=False)
class ScoreTerms:
    """Changes of the scores that the kernels know, in this order.

    Parameters
    ----------
    cap
        Of :class:`~lgatr.attention.SoftCap`, or None.
    slopes
        Of :class:`~lgatr.attention.ALiBi`, or None.
    """

    cap: float | None = None
    slopes: Tensor | None = None

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """What is read again in the backward pass, and may not change before."""
        return () if self.slopes is None else (self.slopes,)

    @classmethod
    def of(cls, score: ScoreMod | None) -> ScoreTerms | None:
        """The terms of a modification, or None if the kernels do not know it."""
        parts = () if score is None else score.parts if type(score) is Chain else (score,)
        cap: float | None = None
        slopes: Tensor | None = None
        for part in parts:
            first = cap is None and slopes is None
            if type(part) is SoftCap and not isinstance(part.cap, Tensor) and first:
                cap = float(part.cap)
            elif type(part) is ALiBi and slopes is None and not part.slopes.requires_grad:
                slopes = part.slopes
            else:
                return None
        return cls(cap, slopes)
