"""Masks and score modifications of attention that options can choose.

Tokens of an event are, in this order: the global token, reference vectors that are tokens, and the
particles as they lie in the file. Masks go by these positions, so they need an order of particles
that means something, such as that of falling transverse momentum.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from experiments.errors import UserError
from experiments.options.markers import Count, Limit, OneOf, Positive
from lgatr.attention import Causal, GlobalTokens, PairwiseBias, SlidingWindow, SoftCap
from lgatr.attention.pattern.scores.pairwise import PAIR_FEATURES

PairFeature = Annotated[str, OneOf(PAIR_FEATURES)]


class MaskOption(ABC):
    """Which tokens are seen, as an option of attention."""

    @abstractmethod
    def build(self) -> Any:
        """The mask."""


class ScoreOption:
    """How scores change, as an option of attention.

    A subclass implements :meth:`build`, or :meth:`weights` if it learns from pairs of particles.
    """

    is_invariant: bool = True
    """Whether Lorentz transformations do not change it."""

    remedy: str = "scores must be Lorentz invariant; set attention/score=none"
    """What to set where it must be invariant and is not, and why."""

    def build(self) -> Any:
        """The modification of scores; None if it depends on the momenta of a batch."""
        return None

    def weights(self, heads: int) -> nn.Module | None:
        """A module that maps momenta ``(T, 4)`` to the modification; None if there is one for all.

        Parameters
        ----------
        heads
            Of the network.
        """
        return None


@dataclass(frozen=True)
class Window(MaskOption):
    """Each token sees those at most so many places away, and global ones.

    Parameters
    ----------
    window
        Places.
    global_tokens
        First tokens of each event that see all and are seen by all: the global token, and
        reference vectors (Longformer, arXiv:2004.05150). 0 for none.
    """

    window: Count
    global_tokens: Limit

    def build(self) -> Any:
        """The mask."""
        if not self.global_tokens:
            return SlidingWindow(self.window)
        return SlidingWindow(self.window) | GlobalTokens(self.global_tokens)


@dataclass(frozen=True)
class Earlier(MaskOption):
    """Each token sees itself, earlier ones, and global ones.

    Parameters
    ----------
    global_tokens
        As of :class:`Window`.
    """

    global_tokens: Limit

    def build(self) -> Any:
        """The mask."""
        return Causal() | GlobalTokens(self.global_tokens) if self.global_tokens else Causal()


@dataclass(frozen=True)
class Capped(ScoreOption):
    """Scores are bounded smoothly.

    Parameters
    ----------
    cap
        The bound.
    """

    cap: Positive

    def build(self) -> Any:
        """The modification of scores."""
        return SoftCap(self.cap)


@dataclass(frozen=True)
class Pairwise(ScoreOption):
    """A learned bias from pairs of particles (Particle Transformer, arXiv:2202.03772).

    Parameters
    ----------
    names
        Which observables of pairs; only ``m2`` is Lorentz invariant.
    """

    names: Sequence[PairFeature] = PAIR_FEATURES

    remedy = "only m2 is Lorentz invariant; set attention.score.names=[m2]"

    def __post_init__(self) -> None:
        names = tuple(self.names)
        object.__setattr__(self, "names", names)
        if unknown := [name for name in names if name not in PAIR_FEATURES]:
            raise UserError(f"attention.score.names: there is no {', '.join(unknown)}")
        if not names:
            raise UserError("attention.score.names: is empty; name observables, or choose no score")

    @property
    def is_invariant(self) -> bool:  # type: ignore[override]
        """Whether Lorentz transformations do not change it."""
        return set(self.names) <= {"m2"}

    def weights(self, heads: int) -> nn.Module:
        """The weights of the bias."""
        return PairBias(heads, self.names)


class PairBias(nn.Module):
    """The weights of a pairwise bias, shared by all blocks.

    Parameters
    ----------
    heads
        Of the network.
    names
        Observables.
    """

    def __init__(self, heads: int, names: Sequence[str]) -> None:
        super().__init__()
        self.names = tuple(names)
        # Zeros: the network begins as the one without.
        self.weight = nn.Parameter(torch.zeros(heads, len(self.names)))

    def forward(self, momenta: Tensor) -> PairwiseBias:
        """The modification of scores for tokens with momenta ``(T, 4)``."""
        return PairwiseBias(momenta, self.weight.to(momenta.dtype), self.names)
