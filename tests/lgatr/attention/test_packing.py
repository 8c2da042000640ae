"""A packing that exists is valid, whichever way it was made."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lgatr import Packing
from lgatr.attention import prepare_attention
from lgatr.attention.pattern.packing import BoundedPacking

I32 = torch.int32
LIMIT = 2**31 - 1


def offsets(*values, dtype=I32):
    return torch.tensor(values, dtype=dtype)


class TestRefused:
    @pytest.mark.parametrize(
        ("ptr", "says"),
        [
            (offsets(3, 8, 13), "start at 0, not at 3"),
            (offsets(-5, 0, 5), "start at 0, not at -5"),
            (offsets(0, 12, 10), "event 1 has -2 tokens"),
            (offsets(0, 3, 3), "event 1 has 0 tokens"),
            (offsets(0, 2**32 + 4, 2**32 + 10, dtype=torch.int64), "exceed"),
            (offsets(0, 2.0, 4.0, dtype=torch.float32), "whole numbers"),
            (torch.tensor([False, True]), "whole numbers"),
            (offsets(0, 4)[None], "whole numbers"),
            (offsets(0), "at least one event"),
            (torch.empty(0, dtype=I32), "at least one event"),
            (torch.tensor(0), "whole numbers"),
            (offsets(0, 4).to_sparse(), "whole numbers"),
        ],
    )
    def test_offsets(self, ptr, says):
        with pytest.raises(ValueError, match=says):
            Packing.from_ptr(ptr)
        with pytest.raises(ValueError, match=says):
            Packing(None, ptr)

    @pytest.mark.parametrize("ptr", [[0, 4], None, np.array([0, 4]), "04", 4])
    def test_offsets_that_are_no_tensor(self, ptr):
        with pytest.raises(TypeError, match="must be a tensor"):
            Packing.from_ptr(ptr)

    @pytest.mark.parametrize(
        "lengths",
        [
            [5.9, 5.9],
            {3: 1},
            [5.0],
            "55",
            b"55",
            ["5"],
            [True, True],
            np.array([True]),
            [float("nan")],
            [float("inf")],
            np.array([2.0]),
            np.array([[2, 3]]),
            [None],
            None,
            7,
            [torch.tensor(True)],
            [2 + 0j],
        ],
        ids=repr,
    )
    def test_lengths_of_another_kind(self, lengths):
        with pytest.raises(TypeError, match="whole numbers"):
            Packing.from_lengths(lengths)

    @pytest.mark.parametrize(
        "lengths",
        [[], [0], [3, -1], [LIMIT, 1], torch.tensor([2.0]), torch.tensor([[2]]), torch.tensor(2)],
        ids=repr,
    )
    def test_lengths_that_are_impossible(self, lengths):
        with pytest.raises(ValueError, match="event|tokens|whole"):
            Packing.from_lengths(lengths)

    @pytest.mark.parametrize("lengths", [(15, -5), (5, 10), (15,), (10, 5, 1)])
    def test_lengths_and_offsets_that_differ(self, lengths):
        with pytest.raises(ValueError, match="event"):
            Packing(lengths, offsets(0, 10, 15))

    @pytest.mark.parametrize(
        "batch",
        [
            torch.tensor([0.0, 1.0]),
            torch.tensor([0, -1]),
            torch.tensor([-1, 0]),
            torch.tensor([False, True]),
            torch.tensor([[0, 1]]),
            torch.tensor([], dtype=torch.int64),
        ],
    )
    def test_event_numbers(self, batch):
        with pytest.raises(ValueError, match="rise|whole"):
            Packing.from_batch_index(batch)
        with pytest.raises(TypeError, match="tensor"):
            Packing.from_batch_index(batch.tolist())

    @pytest.mark.parametrize(
        "mask",
        [
            torch.ones(2, 3),
            torch.ones(3, dtype=torch.bool),
            torch.ones(2, 3, 1, dtype=torch.bool),
            torch.ones(0, 3, dtype=torch.bool),
            torch.ones(2, 0, dtype=torch.bool),
            torch.tensor([[True, False], [False, False]]),
        ],
    )
    def test_masks(self, mask):
        with pytest.raises(ValueError, match="boolean of shape|event"):
            Packing.from_mask(mask)
        with pytest.raises(TypeError, match="boolean tensor"):
            Packing.from_mask(mask.tolist())

    def test_prepend(self):
        for count in (-1, LIMIT):
            with pytest.raises(ValueError, match="in front"):
                Packing.from_lengths([2]).prepend(count)

    @pytest.mark.parametrize(
        ("ptr", "tokens", "longest"),
        [
            (offsets(0, 3, 8), 9, 6),
            (offsets(0, 3, 8), 8, 4),
            (offsets(0, 9, 8), 8, 9),
            (offsets(1, 3, 8), 8, 6),
            (offsets(0, 8, dtype=torch.int64), 8, 8),
            (offsets(0), 8, 8),
            (offsets(0, 8), 8, 0),
            (offsets(0, 8), 2**31, 8),
        ],
    )
    def test_bounds(self, ptr, tokens, longest):
        with pytest.raises(ValueError):
            BoundedPacking(ptr, tokens, longest)

    def test_bounds_broken_later(self):
        ptr = offsets(0, 3, 8)
        packing = BoundedPacking(ptr, 8, 6)
        ptr[1] = 9
        with pytest.raises(ValueError, match="event 1 has -1 tokens"):
            packing.lengths  # noqa: B018
        ptr[1] = 1
        with pytest.raises(ValueError, match="promised"):
            packing.lengths  # noqa: B018


class TestKept:
    def test_offsets_are_its_own(self):
        ptr = offsets(0, 3, 8)
        packing = Packing.from_ptr(ptr)
        ptr.fill_(99)
        assert packing.ptr.tolist() == [0, 3, 8] and packing.lengths == (3, 5)
        with pytest.raises(AttributeError):
            packing.ptr = ptr

    @pytest.mark.parametrize("packing", [Packing.from_lengths([3, 5]), "bounded"])
    def test_copies(self, packing):
        if packing == "bounded":
            packing = BoundedPacking(offsets(0, 3, 8), 8, 6)
        for other in (
            copy.copy(packing),
            copy.deepcopy(packing),
            pickle.loads(pickle.dumps(packing)),
        ):
            assert type(other) is type(packing) and other.lengths == (3, 5)
            assert other.max_length == packing.max_length

    def test_whole_numbers_of_any_library(self):
        for lengths in (
            np.array([3, 5]),
            (np.int64(3), 5),
            iter([3, 5]),
            torch.tensor([3, 5], dtype=torch.uint8),
            [torch.tensor(3), torch.tensor(5)],
        ):
            assert Packing.from_lengths(lengths).lengths == (3, 5)
        assert Packing.from_ptr(offsets(0, 3, 8, dtype=torch.int64)).ptr.dtype == I32

    def test_offsets_without_values(self):
        packing = Packing.from_ptr(torch.empty(3, dtype=I32, device="meta"))
        with pytest.raises(ValueError, match="no values"):
            packing.lengths  # noqa: B018

    def test_traced_program_looks_at_its_offsets(self):
        def run(x, ptr):
            packing = Packing.from_ptr(ptr)
            return prepare_attention(x.device, x.dtype, packing=packing)(x, x, x)

        traced = torch.compile(run, backend="eager", fullgraph=True)
        x = torch.randn(10, 2, 16)
        for ptr in (offsets(0, 3, 10), offsets(0, 3, 10, dtype=torch.int64)):
            torch.testing.assert_close(traced(x, ptr), run(x, ptr), atol=1e-5, rtol=1e-4)
        for bad in (
            offsets(0, 12, 10),
            offsets(1, 3, 10),
            offsets(0, 3, 11),
            offsets(0, 3, 9),
            offsets(0, 2**32 + 3, 10, dtype=torch.int64),
        ):
            with pytest.raises(ValueError, match="offsets|event|tokens"):
                traced(x, bad)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=1, max_size=5))
def test_mask_gathers_and_scatters(rows):
    mask = torch.tensor(rows)
    if not mask.any(1).all():
        with pytest.raises(ValueError, match="empty events"):
            Packing.from_mask(mask)
        return
    x = torch.randn(*mask.shape, 3)
    packing = Packing.from_mask(mask)
    for event, piece in enumerate(x[mask].split(packing.lengths)):
        assert torch.equal(piece, x[event][mask[event]])
    assert torch.equal(packing.batch_index(), mask.nonzero()[:, 0])


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.integers(-(2**33), 2**33) | st.integers(-2, 20), max_size=6),
    st.sampled_from([torch.int32, torch.int64, torch.int16, torch.float32, torch.float64]),
    st.booleans(),
)
def test_any_offsets_are_valid_or_refused(values, dtype, sort):
    values = sorted(values) if sort else values
    wide = torch.tensor(values, dtype=torch.float64)
    if dtype not in (torch.int64, torch.float64):
        assume(not values or max(map(abs, values)) < 2**15)
    ptr = wide.to(dtype)
    steps = [b - a for a, b in zip(values, values[1:], strict=False)]
    valid = bool(steps) and values[0] == 0 and min(steps) > 0 and values[-1] <= LIMIT
    if valid and not dtype.is_floating_point:
        packing = Packing.from_ptr(ptr)
        assert packing.lengths == tuple(steps) and packing.ptr.tolist() == values
        return
    with pytest.raises(ValueError):
        Packing.from_ptr(ptr)
