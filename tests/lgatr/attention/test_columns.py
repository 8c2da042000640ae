"""The masks of the FlashMask paper by name, entry by entry."""

from __future__ import annotations

import pytest
import torch

from lgatr.attention import ColumnRanges, Packing
from support.mask_cases import HEADS, compare, numbers, table

pytestmark = pytest.mark.filterwarnings("ignore:.*lru_cache")


def documents(*lengths):
    return Packing.from_lengths(lengths)


def document(position, lengths):
    return sum(position >= sum(lengths[: i + 1]) for i in range(len(lengths)))


def shared_question(q, k):
    """Documents of 2 + (1, 3) and 1 + (2, 2) tokens: which of its parts a token belongs to."""
    parts = [(0, 0)] * 2 + [(0, 1)] + [(0, 2)] * 3 + [(1, 0)] + [(1, 1)] * 2 + [(1, 2)] * 2
    return k <= q and parts[q][0] == parts[k][0] and parts[k][1] in (0, parts[q][1])


EVICTED = [3, 2, 9, 5, 9, 7, 9, 9, 9]
# The masks of figure 1 of the FlashMask paper, and which pairs (query, key) each allows.
FLASHMASK = {
    "causal": (ColumnRanges.causal(9), lambda q, k: k <= q),
    "sliding window": (ColumnRanges.sliding_window(9, 2), lambda q, k: q - 2 <= k <= q),
    "window both ways": (ColumnRanges.sliding_window(9, 3, 2), lambda q, k: q - 3 <= k <= q + 2),
    "causal documents": (
        ColumnRanges.documents(documents(4, 1, 4), causal=True),
        lambda q, k: k <= q and document(q, (4, 1, 4)) == document(k, (4, 1, 4)),
    ),
    "documents": (
        ColumnRanges.documents(documents(4, 1, 4)),
        lambda q, k: document(q, (4, 1, 4)) == document(k, (4, 1, 4)),
    ),
    "shared question": (ColumnRanges.share_question([[2, 1, 3], [1, 2, 2]]), shared_question),
    "global and window": (
        ColumnRanges.global_sliding_window(9, 2, 1, 3),
        lambda q, k: q < 2 or k < 2 or q - 1 <= k <= q + 3,
    ),
    "causal blockwise": (
        ColumnRanges.causal_blockwise([2, 4, 3]),
        lambda q, k: k <= q and (q >= 6 or document(q, (2, 4, 3)) == document(k, (2, 4, 3))),
    ),
    "prefix, causal": (ColumnRanges.prefix_lm(9, 4), lambda q, k: k < 4 or k <= q),
    "prefix, documents": (
        ColumnRanges.prefix_lm_documents([4, 5], [2, 3]),
        lambda q, k: (q < 4) == (k < 4) and (k <= q or k < (2 if k < 4 else 7)),
    ),
    "sparse queries and keys": (
        ColumnRanges.qk_sparse(9, [1, 5]),
        lambda q, k: k <= q and k not in (1, 5),
    ),
    "sparse by hash": (
        ColumnRanges.hash_sparse([0, 0, 2, 2, 2, 5, 5, 5, 5]),
        lambda q, k: k <= q and document(q, (2, 3, 4)) == document(k, (2, 3, 4)),
    ),
    "random eviction": (
        ColumnRanges.random_eviction(EVICTED),
        lambda q, k: k <= q < EVICTED[k],
    ),
}


class TestFlashMask:
    @pytest.mark.parametrize("name", FLASHMASK)
    def test_named(self, name):
        mask, rule = FLASHMASK[name]
        n = 11 if name == "shared question" else 9
        compare(mask, table(lambda e: rule(e["q"], e["k"]), (n,), (n,)), (n,), (n,))

    def test_events_joined(self):
        """Different masks for the events of a batch, one of them for each head."""
        heads = ColumnRanges(lower_start=torch.tensor([[1, 2, 3], [3, 3, 1]]))
        masks = [ColumnRanges.causal(4), heads, ColumnRanges.causal_blockwise([2, 3])]

        def rule(e):
            if e["i"] == 0:
                return e["k"] <= e["q"]
            if e["i"] == 1:
                return e["q"] < ((1, 2, 3), (3, 3, 1))[e["h"]][e["k"]]
            return e["k"] <= e["q"] and (e["q"] >= 2 or e["k"] < 2)

        lengths = (4, 3, 5)
        compare(ColumnRanges.join(masks), table(rule, lengths, lengths), lengths, lengths)

    @pytest.mark.parametrize("count", [1, 2, 4])
    @pytest.mark.parametrize("causal", [False, True])
    def test_its_own_argument(self, causal, count):
        indices = numbers(7, 7, 3, HEADS, 5, count)
        if causal and count == 4:
            with pytest.raises(ValueError, match="4 without causal"):
                ColumnRanges.from_startend_row_indices(indices, causal)
            return

        def rule(e):
            c = indices[e["i"], e["h"], e["k"]].tolist()
            if causal:
                end = 5 if count == 1 else c[1]
                return e["k"] <= e["q"] and not c[0] <= e["q"] < end
            ranges = {1: ((c[0], 5),), 2: ((c[0], 5), (0, c[-1])), 4: (c[:2], c[2:])}[count]
            return not any(a <= e["q"] < b for a, b in ranges)

        lengths = (5, 5, 5)
        mask = ColumnRanges.from_startend_row_indices(indices, causal)
        compare(mask, table(rule, lengths, lengths), lengths, lengths)
