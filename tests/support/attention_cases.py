"""Masks, scores, storages of keys and small tensors, for tests of attention on every backend."""

from __future__ import annotations

import pytest
import torch

from lgatr.attention import (
    ALiBi,
    AttentionSpec,
    Causal,
    ColumnRanges,
    GappyKeys,
    GlobalTokens,
    MaskMod,
    Neighbourhood,
    Packing,
    PaddedKeys,
    PagedKeys,
    PairwiseBias,
    PrefixLM,
    RelativePosition,
    ScoreModFunction,
    ShiftedWindows,
    SlidingWindow,
    SoftCap,
    backends,
    prepare_attention,
)
from support import attention_reference as reference
from support.attention_reference import COLUMNS, HEADS, KEYS, LENGTHS, MOMENTA, TABLE, WIDTH

MASKS = {
    "none": lambda: None,
    "causal": lambda: Causal(),
    "causal_bottom_right": lambda: Causal(bottom_right=True),
    "window": lambda: SlidingWindow(2, 1),
    "window_bottom_right": lambda: SlidingWindow(2, 1, bottom_right=True),
    "window_causal": lambda: Causal() & SlidingWindow(2, None),
    "window_causal_bottom_right": lambda: SlidingWindow(2, 0, bottom_right=True),
    "prefix_lm": lambda: PrefixLM(torch.tensor(reference.PREFIXES)),
    "longformer": lambda: SlidingWindow(1) | GlobalTokens(1),
    "shifted_windows": lambda: ShiftedWindows(3, 1),
    "neighbourhood": lambda: Neighbourhood(3),
    "column_ranges": lambda: ColumnRanges(*COLUMNS),
    "mask_mod": lambda: MaskMod(lambda b, h, q, k: (q + k + h + b) % 3 != 0),
    "combined": lambda: Causal() & ~SlidingWindow(1) & MaskMod(lambda b, h, q, k: (q + k) % 2 == 0),
}
SLOPES = torch.tensor(reference.SLOPES, dtype=torch.float64)
SCORES = {
    "none": lambda: None,
    "alibi": lambda: ALiBi(SLOPES),
    "relative_position": lambda: RelativePosition(TABLE),
    "softcap": lambda: SoftCap(1.5),
    "pairwise": lambda: PairwiseBias(MOMENTA, reference.PAIR_WEIGHTS),
    "score_mod": lambda: ScoreModFunction(lambda s, b, h, q, k: s + 0.125 * (q - 2 * k + h)),
    "alibi_softcap": lambda: ALiBi(SLOPES) >> SoftCap(1.5),
}
TOLERANCE = {torch.float64: 1e-11, torch.float32: 2e-5, torch.bfloat16: 3e-2}
DTYPES = list(TOLERANCE)
ON_SELF_ONLY = {"column_ranges", "pairwise"}


def tensors(queries, keys, dtype, heads=HEADS, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = ((sum(queries), HEADS), (sum(keys), heads), (sum(keys), heads))
    return [
        torch.randn(*s, WIDTH, generator=generator, dtype=torch.float64).to(dtype) for s in shapes
    ]


def agree(ours, theirs, dtype):
    torch.testing.assert_close(ours.double(), theirs, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


def with_gradients(function, values, probe, more=()):
    values = [x.detach().requires_grad_() for x in values]
    out = function(*values)
    return out.detach(), torch.autograd.grad((out.double() * probe).sum(), [*values, *more])


def usable(name, spec, dtype, device="cpu", training=True):
    problem = backends()[name].why_unusable(spec, torch.device(device), dtype, training)
    if problem is not None:
        pytest.skip(f"attention={name}: {problem}")


def compare_with_definition(name, mask, score, cross, dtype, device="cpu"):
    if cross and {mask, score} & ON_SELF_ONLY:
        pytest.skip("made for self-attention")
    keys = KEYS if cross else LENGTHS
    spec = AttentionSpec(
        packing=Packing.from_lengths(LENGTHS),
        kv_packing=Packing.from_lengths(keys) if cross else None,
        mask=MASKS[mask](),
        score=SCORES[score](),
    )
    usable(name, spec, dtype, device)
    values = [x.to(device) for x in tensors(LENGTHS, keys, dtype)]
    probe = torch.randn(sum(LENGTHS), HEADS, WIDTH, dtype=torch.float64).to(device)
    attend = prepare_attention(values[0].device, dtype, spec=spec, backend=name)
    ours = with_gradients(attend, values, probe)
    allowed, bias = (t.to(device) for t in reference.tables(mask, score, LENGTHS, keys))
    change = reference.SCORES[score][1]
    theirs = with_gradients(
        lambda q, k, v: reference.attention(q, k, v, allowed, bias, change)[0],
        [x.double() for x in values],
        probe,
    )
    agree(ours[0], theirs[0], dtype)
    for a, b in zip(ours[1], theirs[1], strict=True):
        agree(a, b, dtype)


def packed_spec(mask="none", score="none", keys=None, **more):
    return AttentionSpec(
        packing=Packing.from_lengths(LENGTHS),
        kv_packing=None if keys is None else keys,
        mask=MASKS[mask](),
        score=SCORES[score](),
        **more,
    )


def storages():
    """Keys in a larger storage, and where each live key lies."""
    table = torch.tensor([[7, 2], [0, 9], [4, 9], [1, 5], [8, 3]], dtype=torch.int32)
    pages = [
        [int(p) * 5 + i for p in row for i in range(5)][:n]
        for row, n in zip(table, KEYS, strict=True)
    ]
    starts, late = (3, 12, 20, 25, 40), (4, 0, 7, 1, 2)
    other = torch.tensor([[8, 3], [1, 5], [4, 6], [0, 9], [7, 2]], dtype=torch.int32)
    return {
        "padded": (
            PaddedKeys(11, KEYS),
            [[i * 11 + j for j in range(n)] for i, n in enumerate(KEYS)],
        ),
        "gappy": (
            GappyKeys(starts, KEYS, 55),
            [[s + j for j in range(n)] for s, n in zip(starts, KEYS, strict=True)],
        ),
        "paged": (PagedKeys(table, 5, KEYS), pages),
        "paged_later": (
            PagedKeys(other, 5, KEYS, late),
            [
                [int(row[p // 5]) * 5 + p % 5 for p in range(s, s + n)]
                for row, s, n in zip(other, late, KEYS, strict=True)
            ],
        ),
    }
