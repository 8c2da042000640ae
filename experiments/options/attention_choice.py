"""The options of attention: which backend, its dtype, and what may attend to what."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any

from experiments.errors import UserError
from experiments.options.attention_patterns import MaskOption, ScoreOption
from experiments.options.markers import OneOf
from lgatr.attention.registry import choices

FORMATS = ("float16", "bfloat16", "float32", "float64")


@dataclass(frozen=True)
class AttentionChoice:
    """Options of attention.

    Parameters
    ----------
    name
        Name of a backend, or ``auto``.
    strict
        Whether to fail if the backend has no kernel for the device.
    compute_dtype
        Dtype of attention, such as ``bfloat16``; None for that of the network.
    mask, score
        Which tokens are seen, and how scores change; see
        :mod:`experiments.options.attention_patterns`.
    """

    name: Annotated[str, OneOf(choices)]
    strict: bool
    compute_dtype: Annotated[str, OneOf(FORMATS)] | None = None
    mask: MaskOption | None = None
    score: ScoreOption | None = None

    @cached_property
    def keywords(self) -> dict[str, Any]:
        """Keywords of a network's forward call, or of ``prepare_attention``.

        Scores that need momenta are those of the batch: see
        :meth:`~experiments.models.token_tagger.TokenTagger.attention_of`.
        """
        found: dict[str, Any] = {
            "backend": self.name, "strict": self.strict, "compute_dtype": self.compute_dtype,
        }  # fmt: skip
        if self.mask is not None:
            found["mask"] = self.mask.build()
        if self.score is not None and (score := self.score.build()) is not None:
            found["score"] = score
        return found

    def check_plain(self, what: str) -> None:
        """Raise :class:`UserError` if there is a mask or score, which ``what`` does not take."""
        for option, value in (("mask", self.mask), ("score", self.score)):
            if value is not None:
                raise UserError(
                    f"attention/{option}={type(value).__name__.lower()}: {what} takes none; set "
                    f"attention/{option}=none"
                )
