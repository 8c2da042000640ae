"""Masks and scores of a user's own: what they return is checked, and long chains are computed."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from lgatr.attention import (
    Causal,
    Mask,
    ScoreMod,
    SlidingWindow,
    SoftCap,
)
from support.odd_values import Q, attend


class PlainMask(Mask):
    def allowed(self, at):
        return at.q >= at.k


@dataclass(frozen=True, eq=False)
class Returns(Mask):
    result: object

    def allowed(self, at):
        return self.result


@dataclass(frozen=True, eq=False)
class ReturnsScores(ScoreMod):
    result: object

    def __call__(self, score, at):
        return self.result


SCORES = {
    "sum": (lambda s, b, h, q, k: s.sum(), "each score by itself"),
    "first": (lambda s, b, h, q, k: s[..., :1], "each score by itself"),
    "other shape": (lambda s, b, h, q, k: torch.zeros(3, 7), "broadcast to, here"),
    "more dimensions": (lambda s, b, h, q, k: s[None], "broadcast to, here"),
    "whole": (lambda s, b, h, q, k: q - k, "returns floating-point scores"),
}


@pytest.mark.parametrize("kind", SCORES)
def test_results_of_score_mods(kind):
    function, words = SCORES[kind]
    with pytest.raises(ValueError, match=words):
        attend(score_mod=function)


def test_score_mods_of_positions_alone():
    def distance(s, b, h, q, k):
        return -(q - k).abs().float()

    expected = attend(score_mod=lambda s, b, h, q, k: s * 0 + distance(s, b, h, q, k))
    torch.testing.assert_close(attend(score_mod=distance), expected)
    mean = torch.stack([Q[:3].mean(0)] * 3 + [Q[3:].mean(0)] * 2)
    torch.testing.assert_close(attend(score_mod=lambda *_: torch.tensor(2.0)), mean)


class TestOwnClasses:
    def test_no_dataclass(self):
        for mask in (PlainMask(), ~PlainMask(), Causal() & PlainMask()):
            with pytest.raises(TypeError, match="PlainMask is no dataclass"):
                attend(mask=mask)

    @pytest.mark.parametrize("result", [3, torch.ones(9).bool(), torch.ones(9)])
    def test_results(self, result):
        for pattern in ({"mask": Returns(result)}, {"score": ReturnsScores(result)}):
            with pytest.raises(ValueError, match="Returns"):
                attend(**pattern)


class TestLongChains:
    def test_side_by_side(self):
        window, score = SlidingWindow(1), SoftCap(2.0)
        ands = ors = nots = window
        scores = score
        for _ in range(1500):
            ands, ors, nots, scores = ands & window, ors | window, ~nots, scores >> SoftCap(1e9)
        expected = attend(mask=window, score=score)
        for mask in (ands, ors, nots):
            torch.testing.assert_close(attend(mask=mask, score=scores), expected)

    def test_too_deep(self):
        mask = SlidingWindow(1)
        with pytest.raises(ValueError, match="100 deep at most"):
            for _ in range(3000):
                mask = ~(mask & Causal()) | Causal()
