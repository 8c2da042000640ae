"""A decoder with a cache computes what it computes without one."""

from __future__ import annotations

import pytest
import torch

from lgatr import LGATr, LGATrSlim, Packing
from lgatr.attention import PagedCache
from support import networks

KINDS = pytest.mark.parametrize("kind", [LGATr, LGATrSlim], ids=lambda kind: kind.__name__)


def pieces(values, starts, counts):
    """``counts[i]`` tokens of each event i from ``starts[i]`` on."""
    rows = torch.cat([torch.arange(s, s + n) for s, n in zip(starts, counts, strict=True)])
    return [x[rows] for x in values]


@KINDS
@pytest.mark.parametrize("page_size", [1, 3, 16])
def test_token_by_token_equals_all_at_once(kind, page_size):
    net = networks.build(kind)
    lengths = [7, 4, 9]
    packing = Packing.from_lengths(lengths)
    values = networks.inputs(kind, sum(lengths))
    whole = net(*values, packing=packing, is_causal=True)
    cache = PagedCache(40, page_size)
    sequences = [cache.new() for _ in lengths]
    starts = packing.ptr[:-1].tolist()
    done = [0] * 3
    found = [[] for _ in lengths]
    with torch.no_grad():
        # A prompt of different lengths, then steps; short events leave the batch.
        for step in ([2, 1, 4], *[[1, 1, 1]] * 9):
            active = [i for i in range(3) if done[i] + step[i] <= lengths[i]]
            if not active:
                break
            counts = [step[i] for i in active]
            part = pieces(values, [starts[i] + done[i] for i in active], counts)
            out = net(
                *part,
                packing=Packing.from_lengths(counts),
                cache=(cache, [sequences[i] for i in active]),
            )
            for i, a, b in zip(active, *(t.split(counts) for t in out), strict=True):
                found[i].append((a, b))
                done[i] += step[i]
    assert done == lengths
    for place, theirs in enumerate(whole):
        ours = torch.cat([piece[place] for event in found for piece in event])
        torch.testing.assert_close(ours, theirs.detach(), rtol=1e-10, atol=1e-10)


@KINDS
def test_continuations_share_their_beginning(kind):
    net = networks.build(kind)
    prompt, tail = 11, 5
    start = networks.inputs(kind, prompt)
    tails = [networks.inputs(kind, tail) for _ in range(3)]
    cache = PagedCache(20, 4)
    first = cache.new()
    with torch.no_grad():
        net(*start, packing=Packing.from_lengths([prompt]), cache=(cache, [first]))
        sequences = [first, cache.fork(first), cache.fork(first)]
        assert cache.free_pages == 17  # the beginning is kept once
        outputs = []
        for step in range(tail):
            part = [torch.cat([t[i][step : step + 1] for t in tails]) for i in range(2)]
            packing = Packing.from_lengths([1, 1, 1])
            outputs.append(net(*part, packing=packing, cache=(cache, sequences))[0])
        for i, values in enumerate(tails):
            full = [torch.cat([a, b]) for a, b in zip(start, values, strict=True)]
            packing = Packing.from_lengths([prompt + tail])
            whole, _ = net(*full, packing=packing, is_causal=True)
            ours = torch.stack([out[i] for out in outputs])
            torch.testing.assert_close(ours, whole[prompt:], rtol=1e-10, atol=1e-10)
    for sequence in sequences:
        cache.free(sequence)
    assert cache.free_pages == 20


def test_a_shared_page_is_copied_before_it_is_written():
    cache = PagedCache(4, 4)
    first = cache.new()
    places = cache.extend([first], [6])
    k = torch.arange(6.0).view(6, 1, 1)
    keys, _ = cache.write(0, places, k, k)
    second = cache.fork(first)
    places = cache.extend([second], [1])
    cache.write(0, places, torch.full((1, 1, 1), 9.0), torch.zeros(1, 1, 1))
    for sequence, expected in ((first, [0, 1, 2, 3, 4, 5]), (second, [0, 1, 2, 3, 4, 5, 9])):
        assert keys[cache.keys([sequence]).index()].flatten().tolist() == expected
    assert cache.shared_pages([first, second]) == [0]


@pytest.mark.parametrize("place", [-1, 16])
def test_nothing_is_written_outside_of_the_storage(place):
    cache = PagedCache(4, 4)
    k = torch.ones(1, 1, 1)
    with pytest.raises(ValueError, match="^places"):
        cache.write(0, torch.tensor([place]), k, k)


def test_the_last_user_of_a_shared_page_needs_no_copy():
    cache = PagedCache(2, 4)
    first = cache.new()
    cache.extend([first], [3])
    second = cache.fork(first)
    cache.extend([first, second], [1, 1])
    assert cache.free_pages == 0
    assert set(cache.keys([first]).index().tolist()).isdisjoint(
        cache.keys([second]).index()[:4].tolist()
    )


class TestErrors:
    @pytest.mark.parametrize(("names", "counts"), [([0, 0], [1, 1]), ([0], [-1])])
    def test_extend(self, names, counts):
        cache = PagedCache(4, 4)
        numbers = [cache.new()]
        with pytest.raises(ValueError, match="twice in the batch|at least 0, not -1"):
            cache.extend([numbers[n] for n in names], counts)
        assert cache.free_pages == 4

    def test_full(self):
        cache = PagedCache(2, 4)
        sequence = cache.new()
        cache.extend([sequence], [7])
        with pytest.raises(ValueError, match="free pages"):
            cache.extend([sequence], [2])
        assert cache.length(sequence) == 7

    def test_gradients(self):
        net, cache = networks.build(LGATr), PagedCache(4)
        values = networks.inputs(LGATr, 3)
        packing = Packing.from_lengths([3])
        with pytest.raises(ValueError, match="no_grad"):
            net(*values, packing=packing, cache=(cache, [cache.new()]))

    def test_more_than_a_cache(self):
        net, cache = networks.build(LGATr), PagedCache(4)
        values = networks.inputs(LGATr, 3)
        with pytest.raises(ValueError, match="needs packing"):
            net(*values, cache=(cache, [cache.new()]))
        with pytest.raises(ValueError, match="2 events"):
            net(*values, packing=Packing.from_lengths([1, 2]), cache=(cache, [cache.new()]))
        twice = cache.new()
        with pytest.raises(ValueError, match="fork"):
            net(*values, packing=Packing.from_lengths([1, 2]), cache=(cache, [twice, twice]))

    def test_no_pages(self):
        with pytest.raises(ValueError, match="pages"):
            PagedCache(0)
