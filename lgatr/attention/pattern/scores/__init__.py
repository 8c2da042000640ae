"""Score modifications: how attention scores are changed, described once for every backend."""

from lgatr.attention.pattern.scores.base import (
    Bias,
    Chain,
    ScoreMod,
    ScoreModFunction,
)
from lgatr.attention.pattern.scores.dense import DenseBias
from lgatr.attention.pattern.scores.pairwise import PAIR_FEATURES, PairwiseBias, pair_features
from lgatr.attention.pattern.scores.position import ALiBi, RelativePosition
from lgatr.attention.pattern.scores.softcap import SoftCap

__all__ = [
    "PAIR_FEATURES",
    "ALiBi",
    "Bias",
    "Chain",
    "DenseBias",
    "PairwiseBias",
    "RelativePosition",
    "ScoreMod",
    "ScoreModFunction",
    "SoftCap",
    "pair_features",
]
