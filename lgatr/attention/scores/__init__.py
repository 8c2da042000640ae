"""Score modifications: how attention scores are changed, described once for every backend."""

from lgatr.attention.scores.base import (
    Bias,
    Chain,
    ScoreMod,
    ScoreModFunction,
)
from lgatr.attention.scores.dense import DenseBias
from lgatr.attention.scores.pairwise import FEATURES, PairwiseBias, pair_features
from lgatr.attention.scores.position import ALiBi, RelativePosition
from lgatr.attention.scores.softcap import SoftCap

__all__ = [
    "FEATURES",
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
