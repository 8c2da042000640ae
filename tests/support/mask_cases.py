"""Every mask beside its rule in plain Python, entry by entry."""

from __future__ import annotations

import itertools
from functools import cache

import torch

from lgatr.attention import (
    AttentionSpec,
    Causal,
    ColumnRanges,
    GlobalTokens,
    MaskMod,
    Neighbourhood,
    Packing,
    PrefixLM,
    ShiftedWindows,
    SlidingWindow,
    prepare_attention,
)
from support import attention_reference as reference

CPU = torch.device("cpu")
HEADS = 2
LENGTHS = {
    "one": ((1,), (1,)),
    "ragged": ((1, 2, 6), (3, 1, 6)),
    "equal": ((4, 4, 4), (5, 5, 5)),
    "long": ((1, 2, 200), (2, 150, 1)),
}


@cache
def numbers(seed, high, *shape):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, high, shape, generator=generator)


def own_positions(n, i):
    """Positions of global tokens in event i, which has n tokens."""
    return sorted({0, n - 1} if i % 2 else {n // 2})


@cache
def entries(columns):
    return columns.tolist()


def hidden(columns, e, row=()):
    a, b, c, d = (column[row[0]] if row else column for column in entries(columns))
    k = e["kt"]
    return a[k] <= e["q"] < b[k] or c[k] <= e["q"] < d[k]


# A mask for events with so many queries and keys, and whether e is allowed: event i with n queries
# and m keys, positions q and k, tokens qt and kt, head h.
MASKS = {
    "causal": (lambda q, k: Causal(), lambda e: e["k"] <= e["q"]),
    "causal from the corner": (
        lambda q, k: Causal(bottom_right=True),
        lambda e: e["k"] - e["m"] <= e["q"] - e["n"],
    ),
    "window": (lambda q, k: SlidingWindow(2, 1), lambda e: -2 <= e["k"] - e["q"] <= 1),
    "window ahead": (lambda q, k: SlidingWindow(0, None), lambda e: e["k"] >= e["q"]),
    "window from the corner": (
        lambda q, k: SlidingWindow(None, 1, bottom_right=True),
        lambda e: e["k"] - e["m"] <= e["q"] - e["n"] + 1,
    ),
    "prefix": (lambda q, k: PrefixLM(2), lambda e: e["k"] < 2 or e["k"] <= e["q"]),
    "prefix of each": (
        lambda q, k: PrefixLM(torch.arange(len(q)) + 1),
        lambda e: e["k"] < e["i"] + 1 or e["k"] <= e["q"],
    ),
    "first": (lambda q, k: GlobalTokens(1), lambda e: e["q"] < 1 or e["k"] < 1),
    "positions": (
        lambda q, k: GlobalTokens([0, 3]),
        lambda e: e["q"] in (0, 3) or e["k"] in (0, 3),
    ),
    "positions of each": (
        lambda q, k: GlobalTokens([own_positions(n, i) for i, n in enumerate(q)]),
        lambda e: bool({e["q"], e["k"]} & set(own_positions(e["n"], e["i"]))),
    ),
    "windows": (
        lambda q, k: ShiftedWindows(3, 1),
        lambda e: (e["q"] + 1) // 3 == (e["k"] + 1) // 3,
    ),
    "neighbourhood": (
        lambda q, k: Neighbourhood(3),
        lambda e: 0 <= e["k"] - min(max(e["q"] - 1, 0), max(e["m"] - 3, 0)) < 3,
    ),
    "columns": (
        lambda q, k: ColumnRanges(*numbers(1, 8, 4, sum(k))),
        lambda e: not hidden(numbers(1, 8, 4, e["kts"]), e),
    ),
    "columns of each head": (
        lambda q, k: ColumnRanges(*numbers(2, 8, 4, HEADS, sum(k))),
        lambda e: not hidden(numbers(2, 8, 4, HEADS, e["kts"]), e, (e["h"],)),
    ),
    "function": (
        lambda q, k: MaskMod(lambda b, h, q, k: (q + k + h + b) % 3 != 0),
        lambda e: (e["q"] + e["k"] + e["h"] + e["i"]) % 3 != 0,
    ),
}
JOINS = {
    "&": (lambda a, b: a & b, lambda a, b: a and b),
    "|": (lambda a, b: a | b, lambda a, b: a or b),
    "& ~": (lambda a, b: a & ~b, lambda a, b: a and not b),
    "~ |": (lambda a, b: ~a | b, lambda a, b: not a or b),
}


def table(rule, queries, keys):
    """Entry by entry: ``(heads, T, U)``."""
    allowed = torch.zeros(HEADS, sum(queries), sum(keys), dtype=torch.bool)
    q0 = k0 = 0
    for i, (n, m) in enumerate(zip(queries, keys, strict=True)):
        for h, q, k in itertools.product(range(HEADS), range(n), range(m)):
            e = dict(i=i, h=h, q=q, k=k, n=n, m=m, qt=q0 + q, kt=k0 + k, kts=sum(keys))
            allowed[h, q0 + q, k0 + k] = rule(e)
        q0, k0 = q0 + n, k0 + m
    return allowed


_tables: dict = {}


def table_of(name, queries, keys):
    """The same, computed once."""
    key = (name, queries, keys)
    if key not in _tables:
        _tables[key] = table(MASKS[name][1], queries, keys)
    return _tables[key]


def values(queries, keys, dtype=torch.float64):
    generator = torch.Generator().manual_seed(5)
    shapes = ((sum(queries), HEADS, 4), (sum(keys), HEADS, 4), (sum(keys), HEADS, 3))
    return [torch.randn(s, generator=generator, dtype=torch.float64).to(dtype) for s in shapes]


def compare(mask, allowed, queries, keys, storage=None, places=None, **options):
    """Outputs, log-sum-exp and gradients of all inputs."""
    packing = Packing.from_lengths(queries)
    if storage is None and queries != keys:
        storage = Packing.from_lengths(keys)
    spec = AttentionSpec(packing=packing, kv_packing=storage, mask=mask)
    inputs = [x.requires_grad_() for x in values(queries, keys)]
    stored = inputs
    if places is not None:
        room = int(places.max()) + 3 if storage.num_places is None else storage.num_places
        stored = [inputs[0]]
        for x in inputs[1:]:
            # Whatever lies between the keys is never read.
            junk = torch.full((room, *x.shape[1:]), 9.0, dtype=x.dtype)
            stored.append(junk.index_put((places,), x))
    attend = prepare_attention(CPU, torch.float64, spec=spec, **options)
    out, lse = attend(*stored), attend.partial(*stored)[1]
    event = [p.batch_index() for p in (packing, Packing.from_lengths(keys))]
    inside = allowed & (event[0][:, None] == event[1][None])
    theirs, their_lse = reference.attention(*inputs, inside, torch.zeros(()))
    torch.testing.assert_close(out, theirs, rtol=1e-11, atol=1e-11)
    alive = inside.any(-1).T
    assert torch.equal(lse > -torch.inf, alive) and (out[~alive] == 0).all()
    torch.testing.assert_close(lse[alive], their_lse[alive], rtol=1e-11, atol=1e-11)
    probe = torch.randn(out.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(6))
    for a, b in zip(
        torch.autograd.grad((out * probe).sum(), inputs),
        torch.autograd.grad((theirs * probe).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)
