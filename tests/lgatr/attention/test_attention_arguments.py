"""No keyword of attention is ignored: alone and in pairs, each is computed or refused by name."""

from __future__ import annotations

import math

import pytest
import torch

from lgatr.attention import (
    PagedCache,
    SoftCap,
    prepare_attention,
)
from lgatr.attention.backends.dropout import draw_seed, drop_threshold, keep_mask
from lgatr.attention.pattern import kernel_keywords
from lgatr.attention.pattern.packing import Packing
from lgatr.attention.pattern.positions import block_positions
from support.attention_keywords import (
    CAUSAL,
    DEVICE,
    EVENTS,
    HEADS,
    ITEMS,
    KEYWORDS,
    OFFSETS,
    TOKENS,
    WIDTH,
    packing,
    tensors,
    whole,
)
from support.slow import every

VALUES = [(name, *value) for name, values in KEYWORDS.items() for value in values]
THEIRS = {*kernel_keywords.RENAMED, *kernel_keywords.TRANSLATED}


def test_every_keyword_is_here():
    import inspect

    known = set(inspect.signature(prepare_attention).parameters)
    others = {*kernel_keywords.RENAMED, *kernel_keywords.TRANSLATED}
    assert known | others == {*KEYWORDS, "device", "cache", "others"}


def definition(q, k, v, effects, causal=False):
    """Outputs from the definition, in float64; ``q`` is ``(T, H, D)``."""
    q, k, v = (x.double().unflatten(0, (EVENTS, ITEMS)) for x in (q, k, v))
    scale = WIDTH**-0.5
    allowed = CAUSAL if causal else torch.ones_like(CAUSAL)
    for effect in effects:
        scale = effect.get("scale", scale)
        allowed = allowed & effect.get("allowed", True)
    scores = torch.einsum("eqhd,ekhd->ehqk", q, k) * scale
    for effect in effects:
        scores = effect.get("change", lambda s: s)(scores)
    scores = scores + sum(effect.get("bias", 0.0) for effect in effects)
    live = allowed & (scores > -math.inf)
    exponentials = torch.where(live, torch.exp(torch.where(live, scores, 0.0)), 0.0)
    weights = exponentials / exponentials.sum(-1, keepdim=True).clamp(min=1e-300)
    for effect in effects:
        if "dropout" in effect:
            at = block_positions(
                range(EVENTS), HEADS, range(ITEMS), range(ITEMS), (ITEMS, ITEMS), (0, 0)
            )
            torch.manual_seed(7)
            p = effect["dropout"]
            weights = weights * keep_mask(draw_seed(), at, drop_threshold(p)) / (1 - p)
    return torch.einsum("ehqk,ekhd->eqhd", weights, v).flatten(0, 1)


def in_two_steps(values, options):
    """One and three tokens of the events, then the rest, with a cache."""
    cache = PagedCache(6, 2)
    sequences = [cache.new(), cache.new()]
    rows = [torch.tensor([0, 4, 5, 6]), torch.tensor([1, 2, 3, 7])]
    out = torch.empty(TOKENS, HEADS, WIDTH, dtype=torch.float64)
    with torch.no_grad():
        for place, lengths in zip(rows, ([1, 3], [3, 1]), strict=True):
            step = dict(options, packing=Packing.from_lengths(lengths), cache=(cache, sequences))
            attend = prepare_attention(DEVICE, torch.float64, **step)
            out[place] = attend(*(x[place] for x in values))
    return out


@pytest.mark.parametrize("base", ["bare", "packed", "cache"])
@pytest.mark.parametrize("first", every(3, KEYWORDS))
def test_each_pair_is_computed_or_refused(first, base):
    computed = 0
    for name, value, effect in VALUES:
        for mine, my_effect in KEYWORDS[first]:
            pair = {name: (value, effect), first: (mine, my_effect)}
            if name == first and mine is not value:
                continue
            if name != first and base != "bare" and {name, first} & THEIRS:
                continue  # they mean keywords that are tried in these pairs
            computed += compare(pair, base)
    # Those that a base does not take at all are refused every time.
    never = {"cache": {"spec", "kv_packing", "dropout_p", "attn_mask", "attn_bias", "is_causal",
                       "block_mask", "p", "alibi_slopes", *OFFSETS},
             "packed": {"spec", "attn_mask", "attn_bias", "block_mask", *OFFSETS},
             "bare": set()}[base]  # fmt: skip
    assert (computed == 0) == (first in never)


def compare(pair, base):
    """Whether the pair was computed, as the definition is."""
    options = {
        name: value() if callable(value) and not isinstance(value, SoftCap) else value
        for name, (value, _) in pair.items()
    }
    effects = [effect for _, effect in pair.values()]
    if base == "packed":
        options.setdefault("packing", packing())
    values = [x.requires_grad_(base != "cache") for x in tensors()]
    try:
        ours = (in_two_steps if base == "cache" else whole)(values, options)
    except (ValueError, TypeError) as error:
        message = str(error)
        assert any(name in message for name in pair), f"{sorted(pair)}: {message}"
        assert "\n" not in message
        return False
    assert None not in effects, f"{sorted(pair)} is accepted"
    theirs = definition(*values, effects, base == "cache")
    limit = max(effect.get("tolerance", 1e-10) for effect in effects)
    torch.testing.assert_close(ours, theirs, rtol=limit, atol=limit, msg=lambda m: f"{pair}: {m}")
    if base != "cache":
        probe = torch.linspace(-1, 1, ours.numel(), dtype=torch.float64).view_as(ours)
        gradients = [torch.autograd.grad((out * probe).sum(), values) for out in (ours, theirs)]
        for a, b in zip(*gradients, strict=True):
            torch.testing.assert_close(a, b, rtol=limit, atol=limit, msg=lambda m: f"{pair}: {m}")
    return True


def test_every_effect_shows():
    plain = definition(*tensors(), [])
    for name, _, effect in VALUES:
        if effect and "tolerance" not in effect:
            assert not torch.allclose(definition(*tensors(), [effect]), plain), name
