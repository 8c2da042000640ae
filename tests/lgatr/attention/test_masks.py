"""Every mask, alone and in every composition, against attention from its definition."""

from __future__ import annotations

import itertools
import random

import pytest
import torch

from lgatr.attention import (
    AttentionSpec,
    ColumnRanges,
    GappyKeys,
    GlobalTokens,
    Packing,
    PaddedKeys,
    PagedKeys,
    SlidingWindow,
    prepare_attention,
)
from support import attention_reference as reference
from support.mask_cases import (
    CPU,
    HEADS,
    JOINS,
    LENGTHS,
    MASKS,
    compare,
    numbers,
    own_positions,
    table,
    table_of,
    values,
)
from support.slow import every

pytestmark = pytest.mark.filterwarnings("ignore:.*lru_cache")


LONG = ("prefix", "columns of each head", "window from the corner")
ALONE = [
    pytest.param(name, lengths, marks=[pytest.mark.slow] * (lengths == "long" and name not in LONG))
    for name in MASKS
    for lengths in LENGTHS
]


@pytest.mark.parametrize("cross", [False, True], ids=["self", "cross"])
@pytest.mark.parametrize(("name", "lengths"), ALONE)
def test_alone(name, lengths, cross):
    queries, keys = LENGTHS[lengths]
    keys = keys if cross else queries
    allowed = table_of(name, queries, keys)
    compare(MASKS[name][0](queries, keys), allowed, queries, keys)
    compare(~MASKS[name][0](queries, keys), ~allowed, queries, keys)


SLOW = pytest.mark.slow


@pytest.mark.parametrize("join", ["&", "|", *(pytest.param(j, marks=SLOW) for j in ("& ~", "~ |"))])
@pytest.mark.parametrize("name", every(2, MASKS))
def test_every_pair(name, join):
    for other, cross in itertools.product(MASKS, (False, True)):
        queries, keys = LENGTHS["ragged"]
        keys = keys if cross else queries
        one, two = (MASKS[n][0](queries, keys) for n in (name, other))
        a, b = (table_of(n, queries, keys) for n in (name, other))
        masks, tables = JOINS[join]
        both = {"&": a & b, "|": a | b, "& ~": a & ~b, "~ |": ~a | b}[join]
        entry = (0, -1, -1)
        assert bool(both[entry]) == bool(tables(bool(a[entry]), bool(b[entry])))
        compare(masks(one, two), both, queries, keys)


def grow(draw, depth, queries, keys):
    """A random composition, and its entries."""
    if not depth or draw.random() < 0.2:
        name = draw.choice(list(MASKS))
        return MASKS[name][0](queries, keys), table_of(name, queries, keys)
    (a, x), (b, y) = (grow(draw, depth - 1, queries, keys) for _ in range(2))
    return draw.choice([(a & b, x & y), (a | b, x | y), (~a, ~x)])


@pytest.mark.parametrize("seed", range(30))
def test_deeper(seed):
    draw = random.Random(seed)
    queries, keys = LENGTHS[draw.choice(["one", "ragged", "equal"])]
    keys = draw.choice([queries, keys])
    compare(*grow(draw, 4, queries, keys), queries, keys)


STORAGES = {
    "padded": (lambda m: PaddedKeys(7, m), lambda i, j: 7 * i + j),
    "gappy": (lambda m: GappyKeys((20, 3, 10), m), lambda i, j: (20, 3, 10)[i] + j),
    "gappy with an end": (lambda m: GappyKeys((0, 3, 10), m, 40), lambda i, j: (0, 3, 10)[i] + j),
    "paged": (
        lambda m: PagedKeys(torch.tensor([[4, 1], [0, 3], [2, 5]]), 4, m),
        lambda i, j: ((4, 1), (0, 3), (2, 5))[i][j // 4] * 4 + j % 4,
    ),
    "paged from a start": (
        lambda m: PagedKeys(torch.tensor([[4, 1], [0, 3], [2, 5]]), 4, m, (1, 5, 2)),
        lambda i, j: (
            ((4, 1), (0, 3), (2, 5))[i][(j + (1, 5, 2)[i]) // 4] * 4 + (j + (1, 5, 2)[i]) % 4
        ),
    ),
}


@pytest.mark.parametrize("kind", STORAGES)
@pytest.mark.parametrize("name", ["none", *MASKS])
def test_keys_in_a_storage(name, kind):
    queries, keys = LENGTHS["ragged"]
    make, place = STORAGES[kind]
    places = torch.tensor([place(i, j) for i, m in enumerate(keys) for j in range(m)])
    if name == "none":
        mask, allowed = None, torch.ones(HEADS, sum(queries), sum(keys), dtype=torch.bool)
    else:
        mask, allowed = MASKS[name][0](queries, keys), table_of(name, queries, keys)
    compare(mask, allowed, queries, keys, make(keys), places)


@pytest.mark.parametrize("cross", [False, True], ids=["self", "cross"])
@pytest.mark.parametrize(
    "name", every(3, ["positions", "positions of each", "columns of each head", "marks"])
)
@pytest.mark.filterwarnings("ignore")
def test_flex(name, cross, monkeypatch):
    """Without compilation, which changes no numbers."""
    from lgatr.attention.backends import flex

    monkeypatch.setattr(flex, "_compiler", lambda device, with_lse: "eager")
    queries, keys = LENGTHS["ragged"]
    keys = keys if cross else queries
    if name == "marks":
        if cross:
            pytest.skip("marks are of the tokens of self-attention")
        mask, allowed = GlobalTokens(MARKS), table(by_marks, queries, keys)
    else:
        mask, allowed = MASKS[name][0](queries, keys), table_of(name, queries, keys)
    storage = Packing.from_lengths(keys) if cross else None
    spec = AttentionSpec(packing=Packing.from_lengths(queries), kv_packing=storage, mask=mask)
    inputs = values(queries, keys, torch.float32)
    with torch.no_grad():
        out = prepare_attention(CPU, torch.float32, spec=spec, backend="flex")(*inputs)
    event = [Packing.from_lengths(x).batch_index() for x in (queries, keys)]
    inside = allowed & (event[0][:, None] == event[1][None])
    theirs = reference.attention(*inputs, inside, torch.zeros(()))[0]
    torch.testing.assert_close(out.double(), theirs, rtol=2e-5, atol=2e-5)


MARKS = torch.tensor([0, 1, 0, 0, 1, 1, 0, 0, 0]).bool()


def by_marks(e):
    return bool(MARKS[e["qt"]] or MARKS[e["kt"]])


def test_global_tokens_by_marks():
    """One entry for each token of the batch, as Longformer's own mask has them."""
    queries = LENGTHS["ragged"][0]
    compare(GlobalTokens(MARKS), table(by_marks, queries, queries), queries, queries)
    dense = torch.zeros(2, 4, dtype=torch.bool)
    dense[0, 1] = dense[1, 3] = True
    q = torch.randn(2, 4, 1, 3, dtype=torch.float64)
    out = prepare_attention(CPU, q.dtype, mask=GlobalTokens(dense))(q, q, q)
    allowed = torch.block_diag(*((m[:, None] | m[None]).double() for m in dense)).bool()
    flat = q.flatten(0, 1)
    theirs = reference.attention(flat, flat, flat, allowed, torch.zeros(()))[0]
    torch.testing.assert_close(out.flatten(0, 1), theirs, rtol=1e-11, atol=1e-11)


def test_ways_to_give_positions():
    queries = LENGTHS["ragged"][0]
    for given in ([0, 3], (0, 3), torch.tensor([3, 0]), range(0, 6, 3)):
        compare(GlobalTokens(given), table_of("positions", queries, queries), queries, queries)
    rows = [own_positions(n, i) for i, n in enumerate(queries)]
    for given in (rows, [torch.tensor(row) for row in rows]):
        name = "positions of each"
        compare(GlobalTokens(given), table_of(name, queries, queries), queries, queries)
    nothing = torch.zeros(HEADS, 9, 9, dtype=torch.bool)
    compare(GlobalTokens([]), nothing, queries, queries)
    compare(GlobalTokens([[], [], [5]]), table(lambda e: e["i"] == 2 and 5 in (e["q"], e["k"]),
            queries, queries), queries, queries)  # fmt: skip


@pytest.mark.parametrize("name", ["positions", "positions of each", "columns of each head"])
def test_events_in_blocks(name):
    """Events that are cut into blocks of queries, and blocks of keys that are left out."""
    lengths = (700, 3, 530)
    queries = torch.arange(700)
    mask: object
    if name == "columns of each head":
        starts = numbers(3, 300, HEADS, sum(lengths)) + torch.tensor([[0], [40]])
        mask = ColumnRanges(lower_start=starts, upper_start=starts * 0, upper_end=starts // 2)
    else:
        given = [0, 650] if name == "positions" else [[5], [1], [100, 529]]
        mask = SlidingWindow(30) | GlobalTokens(given)
    allowed = torch.zeros(HEADS, sum(lengths), sum(lengths), dtype=torch.bool)
    first = 0
    for i, n in enumerate(lengths):
        part = slice(first, first + n)
        q, k = queries[:n, None], queries[None, :n]
        if name == "columns of each head":
            start = starts[:, None, part]
            allowed[:, part, part] = (q < start) & (q >= start // 2)
        else:
            chosen = torch.zeros(n, dtype=torch.bool)
            chosen[[p for p in (given if name == "positions" else given[i]) if p < n]] = True
            near = (q - k).abs() <= 30
            allowed[:, part, part] = near | chosen[:, None] | chosen[None]
        first += n
    compare(mask, allowed, lengths, lengths)
