"""Every keyword of attention with values that make sense, and what each does."""

from __future__ import annotations

import math

import torch

from lgatr.attention import (
    AttentionSpec,
    Causal,
    SlidingWindow,
    SoftCap,
    prepare_attention,
)
from lgatr.attention.pattern.packing import Packing

# As many tokens in each event, so that one reference serves packed and dense batches.
EVENTS, ITEMS, HEADS, WIDTH = 2, 4, 2, 6

TOKENS = EVENTS * ITEMS

LENGTHS = [ITEMS] * EVENTS

POSITION = torch.arange(ITEMS)

CAUSAL = POSITION[:, None] >= POSITION

WINDOW = (POSITION[:, None] - POSITION).abs() <= 1

TABLE = torch.tensor([[1, 0, 1, 1], [0, 0, 0, 0], [1, 1, 0, 1], [0, 1, 0, 1]]).bool()

BIAS = torch.linspace(-1, 1, ITEMS * ITEMS, dtype=torch.float64).view(ITEMS, ITEMS)

BIAS[2] = -math.inf

DISTANCE = (POSITION[:, None] - POSITION).abs()

SLOPES = torch.tensor([0.5, 0.25], dtype=torch.float64)

DEVICE = torch.device("cpu")


def packing():
    return Packing.from_lengths(LENGTHS)


def block_mask():
    from torch.nn.attention.flex_attention import create_block_mask

    return create_block_mask(lambda b, h, q, k: q >= k, None, None, ITEMS, ITEMS, device="cpu")


def score_mod(score, b, h, q, k):
    return torch.where(q == 3, -math.inf, score * (1.0 + h) + 0.3 * (q - 2 * k))


def their_score_mod(scores):
    h, q, k = torch.meshgrid(torch.arange(HEADS), POSITION, POSITION, indexing="ij")
    return torch.where(q == 3, -math.inf, scores * (1.0 + h) + 0.3 * (q - 2 * k))


def softcap(scores):
    return 1.5 * torch.tanh(scores / 1.5)


# Each keyword with values that it may have, and what they do to the reference. Values that are
# made for a call are functions.
KEYWORDS = {
    "spec": [(lambda: AttentionSpec(packing=packing(), mask=Causal()), {"allowed": CAUSAL})],
    "packing": [(packing, {})],
    "kv_packing": [(packing, {})],
    "mask": [(SlidingWindow(1), {"allowed": WINDOW}), (TABLE, {"allowed": TABLE})],
    "score": [(SoftCap(1.5), {"change": softcap})],
    "dropout_p": [(0.4, {"dropout": 0.4})],
    "scale": [(0.7, {"scale": 0.7}), (0.0, {"scale": 0.0}), (-1, {"scale": -1.0})],
    "backend": [("native", {})],
    "strict": [(True, {})],
    "compute_dtype": [("bfloat16", {"tolerance": 0.1}), (torch.float32, {"tolerance": 1e-4})],
    "head_width": [(WIDTH, {}), (WIDTH + 1, None)],
    "attn_mask": [(TABLE, {"allowed": TABLE}), (BIAS, {"bias": BIAS})],
    "attn_bias": [(BIAS, {"bias": BIAS})],
    "is_causal": [(True, {"allowed": CAUSAL})],
    "block_mask": [(block_mask, {"allowed": CAUSAL})],
    "score_mod": [(lambda: score_mod, {"change": their_score_mod})],
    "cu_seqlens_q": [(lambda: packing().ptr, {})],
    "cu_seqlens_k": [(lambda: packing().ptr, {})],
    "max_seqlen_q": [(ITEMS, {}), (ITEMS - 2, None)],
    "max_seqlen_k": [(ITEMS + 1, {}), (ITEMS - 2, None)],
    # Of kernels, as the reference library hands them on. Events have as many keys as queries.
    "cu_seq_q": [(lambda: packing().ptr, {})],
    "cu_seq_k": [(lambda: packing().ptr, {})],
    "max_q": [(ITEMS, {}), (ITEMS - 2, None)],
    "max_k": [(ITEMS + 1, {}), (ITEMS - 2, None)],
    "p": [(0.4, {"dropout": 0.4})],
    "softmax_scale": [(0.7, {"scale": 0.7})],
    "dtype": [(torch.float32, {"tolerance": 1e-4})],
    "causal": [(True, {"allowed": CAUSAL}), (False, {})],
    "window_size": [
        ((1, 1), {"allowed": WINDOW}),
        ((-1, 0), {"allowed": CAUSAL}),
        ([1, -1], {"allowed": POSITION >= POSITION[:, None] - 1}),
        ((-1, -1), {}),
    ],
    "softcap": [(1.5, {"change": softcap}), (0.0, {})],
    "alibi_slopes": [(SLOPES, {"bias": -SLOPES.view(-1, 1, 1) * DISTANCE})],
    "enable_gqa": [(True, {}), (False, {})],
}

OFFSETS = {"cu_seqlens_q", "cu_seqlens_k", "cu_seq_q", "cu_seq_k"}

PACKED = {"spec", "packing", "kv_packing", *OFFSETS}


def tensors():
    generator = torch.Generator().manual_seed(1)
    shape = (TOKENS, HEADS, WIDTH)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(3)]


def whole(values, options):
    """All tokens at once, packed or dense as the keywords say."""
    torch.manual_seed(7)
    packed = bool(PACKED & options.keys())
    values = values if packed else [x.unflatten(0, (EVENTS, ITEMS)) for x in values]
    out = prepare_attention(DEVICE, torch.float64, **options)(*values)
    return out if packed else out.flatten(0, 1)
