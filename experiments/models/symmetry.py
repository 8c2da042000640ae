"""Reference vectors (spurions) that break Lorentz symmetry: beam and laboratory frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from torch import Tensor

from experiments.errors import UserError
from experiments.options.markers import OneOf
from lgatr import extract_vector, get_spurions

BEAM_SPURIONS = ("lightlike", "timelike", "spacelike", "xyplane")


@dataclass(frozen=True)
class SymmetryBreaking:
    """Which reference multivectors a network sees, and how.

    Parameters
    ----------
    beam_spurion, add_time_spurion, beam_mirror
        Arguments of :func:`lgatr.get_spurions`.
    place
        ``"tokens"`` adds them to every event as tokens, ``"channels"`` to every token as
        channels.
    """

    beam_spurion: Annotated[str, OneOf(BEAM_SPURIONS)] | None
    add_time_spurion: bool
    beam_mirror: bool
    place: Annotated[str, OneOf(("tokens", "channels"))]

    def __post_init__(self) -> None:
        if self.place not in ("tokens", "channels"):
            raise ValueError(f"place must be 'tokens' or 'channels', not {self.place!r}")

    def multivectors(self) -> Tensor:
        """The reference multivectors, ``(n, 16)``."""
        return get_spurions(self.beam_spurion, self.add_time_spurion, self.beam_mirror)

    def vectors(self) -> Tensor:
        """The reference vectors ``(n, 4)``, for networks without multivectors."""
        if self.beam_spurion == "xyplane":
            raise UserError(
                "beam_spurion=xyplane is a bivector, which this network has no room for; "
                "choose lightlike, timelike, spacelike or null"
            )
        return extract_vector(self.multivectors())

    def particles(self) -> Tensor:
        """The reference vectors ``(n, 4)``, for networks that take them as particles only."""
        if self.place != "tokens":
            raise UserError(
                "this network takes reference vectors as particles; set "
                "model.symmetry_breaking.place=tokens"
            )
        return self.vectors()
