"""Masks, scores and storages that make no sense are refused in one line."""

from __future__ import annotations

import pytest
import torch

from lgatr.attention import (
    ALiBi,
    AttentionSpec,
    Causal,
    ColumnRanges,
    DenseBias,
    DenseMask,
    GappyKeys,
    GlobalTokens,
    MaskMod,
    Neighbourhood,
    Packing,
    PaddedKeys,
    PagedKeys,
    PrefixLM,
    RelativePosition,
    ScoreModFunction,
    ShiftedWindows,
    SlidingWindow,
    SoftCap,
    prepare_attention,
)
from lgatr.attention.pattern.masks import And, Not
from support.mask_cases import CPU, values

LONG = torch.arange(6)
SENSELESS = [
    (lambda: SlidingWindow(-1), "left of a window is at least 0, not -1"),
    (lambda: SlidingWindow(3, -1), "right of a window is at least 0, not -1"),
    (lambda: SlidingWindow(2.5), "whole number, not 2.5"),
    (lambda: SlidingWindow(True), "whole number, not True"),
    (lambda: PrefixLM(-1), "at least 0"),
    (lambda: PrefixLM(1.5), "whole number"),
    (lambda: PrefixLM(torch.tensor([1.0, 2.0])), "whole numbers, not float32"),
    (lambda: PrefixLM(torch.tensor([1, -2])), "at least 0, not -2"),
    (lambda: GlobalTokens(-1), "at least 0, not -1"),
    (lambda: GlobalTokens(1.0), "whole number"),
    (lambda: GlobalTokens([0, -3]), "at least 0, not -3"),
    (lambda: GlobalTokens([0, 1.5]), "whole number, not 1.5"),
    (lambda: GlobalTokens([[0], [1.5]]), "whole number, not 1.5"),
    (lambda: GlobalTokens([[0], 1]), "whole number"),
    (lambda: GlobalTokens("12"), "whole number"),
    (lambda: GlobalTokens(torch.tensor([1.0])), "not float32"),
    (lambda: ShiftedWindows(0), "at least 1"),
    (lambda: ShiftedWindows(4, -1), "at least 0"),
    (lambda: ShiftedWindows(4, 4), "cannot be shifted by 4"),
    (lambda: ShiftedWindows(2.0), "whole number"),
    (lambda: Neighbourhood(4), "odd"),
    (lambda: Neighbourhood(3.0), "whole number"),
    (lambda: MaskMod(torch.ones(2)), "function of"),
    (lambda: DenseMask(torch.zeros(3, 3)), "boolean"),
    (lambda: DenseBias(torch.zeros(3, 3, dtype=torch.int64)), "floating-point"),
    (lambda: ColumnRanges(), "at least one column"),
    (lambda: ColumnRanges(LONG.float()), "whole numbers, not float32"),
    (lambda: ColumnRanges(LONG.bool()), "whole numbers, not bool"),
    (lambda: ColumnRanges([1, 2]), "tensor, not list"),
    (lambda: ColumnRanges(LONG - 1), "at least 0, not -1"),
    (lambda: ColumnRanges(LONG.view(1, 1, 6)), "1 or 2 dimensions"),
    (lambda: ColumnRanges(LONG, LONG[:4]), "one shape"),
    (lambda: ColumnRanges(LONG, LONG.expand(2, 6)), "one shape"),
    (lambda: ColumnRanges(LONG, upper_end=LONG), "needs a start: upper_start"),
    (lambda: ColumnRanges.causal(0), "at least 1"),
    (lambda: ColumnRanges.sliding_window(4, -1), "at least 0"),
    (lambda: ColumnRanges.share_question([]), "at least one"),
    (lambda: ColumnRanges.share_question([[2, 0]]), "at least 1"),
    (lambda: ColumnRanges.prefix_lm_documents([3, 4], [1]), "1 prefixes for 2 documents"),
    (lambda: ColumnRanges.qk_sparse(4, [4]), "no token of 4"),
    (lambda: ColumnRanges.hash_sparse([1, 0]), "sort the tokens"),
    (lambda: ColumnRanges.join([]), "one for each event"),
    (lambda: PaddedKeys(3, (4,)), "only 3 places"),
    (lambda: PaddedKeys(2.5, (1,)), "whole number"),
    (lambda: GappyKeys((0,), (1, 2)), "one start for each length"),
    (lambda: GappyKeys((-1,), (1,)), "at least 0"),
    (lambda: GappyKeys((0.5,), (1,)), "whole number, not 0.5"),
    (lambda: PagedKeys(torch.zeros(1, 2), 4, (3,)), "whole numbers, not float32"),
    (lambda: PagedKeys(torch.tensor([[-1]]), 4, (3,)), "at least 0 in its block table"),
    (lambda: PagedKeys(torch.tensor([[0]]), 0, (3,)), "page_size is at least 1"),
    (lambda: PagedKeys(torch.tensor([[0]]), 4, (3,), (2,)), "ends after 4"),
    (lambda: ALiBi(torch.arange(3)), "floating-point"),
    (lambda: ALiBi(torch.ones(2, 2)), "floating-point numbers"),
    (lambda: SoftCap(float("inf")), "cap"),
    (lambda: Causal(bottom_right="no"), "True or False"),
    (lambda: SlidingWindow(1, bottom_right=1), "True or False"),
    (lambda: GlobalTokens([10**9]), "would be too large"),
    (lambda: And(()), "joined with masks"),
    (lambda: Not(3), "joined with masks"),
    (lambda: PagedKeys([[0]], 4, (3,)), "tensor, not list"),
    (lambda: RelativePosition(torch.ones(2, 5).long()), "floating-point"),
    (lambda: ALiBi.geometric(0), "at least 1"),
    (lambda: ScoreModFunction(3), "function of"),
]
UNFIT = [
    (lambda: PrefixLM([1, 2, 3]), "3 prefixes, but there are 2 events"),
    (lambda: GlobalTokens([[0], [1], [2]]), "positions for 3 events, but there are 2"),
    (lambda: GlobalTokens([[0], [4]]), "event 1 has 4 tokens, and none at the position 4"),
    (lambda: GlobalTokens(torch.ones(5).bool()), "marks 5 tokens"),
    (lambda: ColumnRanges(LONG), "describes 6 keys, but there are 7"),
    (lambda: ColumnRanges(torch.zeros(3, 7, dtype=torch.int32)), "3 heads, but there are 2"),
    (lambda: MaskMod(lambda b, h, q, k: q - k), "returns a boolean tensor, not torch.int64"),
    (lambda: MaskMod(lambda b, h, q, k: True), "returns a boolean tensor, not bool"),
    (lambda: MaskMod(lambda b, h, q, k: torch.ones(9, 9).bool()), "broadcast to, here"),
]


class TestRefused:
    @pytest.mark.parametrize(("make", "words"), SENSELESS)
    def test_when_made(self, make, words):
        with pytest.raises(ValueError, match=words) as caught:
            make()
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(("make", "words"), UNFIT)
    @pytest.mark.parametrize("joined", [False, True])
    def test_when_called(self, make, words, joined):
        mask = ~(Causal() & make()) if joined else make()
        inputs = values((3, 4), (3, 4))
        attend = prepare_attention(
            CPU, torch.float64, packing=Packing.from_lengths([3, 4]), mask=mask
        )
        with pytest.raises(ValueError, match=words) as caught:
            attend(*inputs)
        assert "\n" not in str(caught.value)

    def test_joined_with_what_is_no_mask(self):
        for other in (torch.ones(3, 3).bool(), None, 1):
            with pytest.raises(TypeError, match="unsupported operand"):
                Causal() & other
            with pytest.raises(TypeError, match="unsupported operand"):
                Causal() | other

    @pytest.mark.parametrize("score", [ALiBi.geometric(3), ALiBi.geometric(1)])
    def test_scores_for_other_heads(self, score):
        attend = prepare_attention(
            CPU, torch.float64, packing=Packing.from_lengths([3, 4]), score=score
        )
        with pytest.raises(ValueError, match="heads, but there are 2"):
            attend(*values((3, 4), (3, 4)))

    def test_places_that_are_not_there(self):
        q = torch.randn(2, 1, 4)
        for storage in (GappyKeys((6,), (3,)), PagedKeys(torch.tensor([[2]]), 4, (1,))):
            spec = AttentionSpec(packing=Packing.from_lengths([2]), kv_packing=storage)
            k = torch.randn(8, 1, 4)
            with pytest.raises(ValueError, match="at least 9 places, but there are 8 keys"):
                prepare_attention(CPU, q.dtype, spec=spec)(q, k, k)
