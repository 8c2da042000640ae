"""Features in the capability tables of backends, with an example pattern for each."""

from __future__ import annotations

from collections.abc import Callable

import torch

from lgatr.attention.pattern.key_storage import GappyKeys, PaddedKeys, PagedKeys
from lgatr.attention.pattern.masks import (
    Causal,
    ColumnRanges,
    GlobalTokens,
    MaskMod,
    Neighbourhood,
    PrefixLM,
    ShiftedWindows,
    SlidingWindow,
)
from lgatr.attention.pattern.packing import Packing
from lgatr.attention.pattern.scores import (
    ALiBi,
    PairwiseBias,
    RelativePosition,
    ScoreModFunction,
    SoftCap,
)
from lgatr.attention.pattern.spec import AttentionSpec

PATTERN_FEATURES: dict[str, str] = {
    "dense": "batches of equally many items",
    "packed": "events of different lengths end to end",
    "cross": "keys of other events than the queries'",
    "causal": "Causal()",
    "causal_bottom_right": "Causal(bottom_right=True)",
    "window": "SlidingWindow(left, right)",
    "prefix_lm": "PrefixLM(prefix)",
    "global_tokens": "GlobalTokens(tokens)",
    "shifted_windows": "ShiftedWindows(size, shift)",
    "neighbourhood": "Neighbourhood(size)",
    "column_ranges": "ColumnRanges (FlashMask)",
    "mask": "a tensor with one entry for each score",
    "mask_mod": "MaskMod(function), and masks joined by &, | and ~",
    "padded_keys": "PaddedKeys",
    "gappy_keys": "GappyKeys",
    "paged_keys": "PagedKeys",
    "alibi": "ALiBi(slopes)",
    "relative_position": "RelativePosition(table)",
    "softcap": "SoftCap(cap)",
    "pairwise": "PairwiseBias(momenta, weights)",
    "score_mod": "ScoreModFunction(function), and modifications joined by >>",
    "dropout": "dropout of attention weights",
    "scale": "another factor on the scores",
    "partial": "log-sum-exp, for merging partial attention",
}
"""What a user writes to get each feature."""


def _even(b: torch.Tensor, h: torch.Tensor, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    return (q + k) % 2 == 0


def _half(
    score: torch.Tensor, b: torch.Tensor, h: torch.Tensor, q: torch.Tensor, k: torch.Tensor
) -> torch.Tensor:
    return score * 0.5


def examples(
    lengths: tuple[int, ...] = (5, 3), keys: tuple[int, ...] = (6, 4), heads: int = 2
) -> dict[str, Callable[[], AttentionSpec]]:
    """A small packed pattern for each mask, key storage and score modification.

    Parameters
    ----------
    lengths
        Tokens of each event.
    keys
        Keys of each event, where they differ from the queries.
    heads
        Number of heads.
    """
    packing, tokens = Packing.from_lengths(lengths), sum(lengths)
    page = 4
    pages = -(-max(keys) // page)
    table = torch.arange(len(keys) * pages, dtype=torch.int32).flip(0).view(len(keys), pages)
    starts = tuple(i * (max(keys) + 3) for i in range(len(keys)))
    generator = torch.Generator().manual_seed(0)
    momenta = torch.randn(tokens, 4, generator=generator)
    momenta[:, 0] = momenta[:, 1:].norm(dim=1) + 0.1

    def spec(**pattern: object) -> Callable[[], AttentionSpec]:
        return lambda: AttentionSpec(packing=packing, **pattern)  # type: ignore[arg-type]

    return {
        "packed": spec(),
        "cross": spec(kv_packing=Packing.from_lengths(keys)),
        "causal": spec(mask=Causal()),
        "causal_bottom_right": spec(mask=Causal(bottom_right=True)),
        "window": spec(mask=SlidingWindow(2, 1)),
        "prefix_lm": spec(mask=PrefixLM(torch.tensor([2, 1] * len(lengths))[: len(lengths)])),
        "global_tokens": spec(mask=SlidingWindow(1) | GlobalTokens(1)),
        "shifted_windows": spec(mask=ShiftedWindows(3, 1)),
        "neighbourhood": spec(mask=Neighbourhood(3)),
        "column_ranges": spec(
            mask=ColumnRanges(
                lower_start=torch.arange(tokens) % 5 + 2,
                upper_start=torch.zeros(tokens, dtype=torch.int64),
                upper_end=torch.arange(tokens) % 2,
            )
        ),
        "mask_mod": spec(mask=MaskMod(_even)),
        "padded_keys": spec(kv_packing=PaddedKeys(max(keys) + 2, keys)),
        "gappy_keys": spec(kv_packing=GappyKeys(starts, keys)),
        "paged_keys": spec(kv_packing=PagedKeys(table, page, keys)),
        "alibi": spec(score=ALiBi.geometric(heads)),
        "relative_position": spec(
            score=RelativePosition(torch.randn(heads, 7, generator=generator))
        ),
        "softcap": spec(score=SoftCap(2.0)),
        "pairwise": spec(score=PairwiseBias(momenta, torch.randn(heads, 4, generator=generator))),
        "score_mod": spec(score=ScoreModFunction(_half)),
        "dropout": spec(dropout=0.3),
        "scale": spec(scale=0.7),
    }
