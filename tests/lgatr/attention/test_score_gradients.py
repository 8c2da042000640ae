"""Whatever tensors a score uses get their gradients, on every way to compute attention.

Blocks are made small, so that small events are cut, sorted and computed again as large ones are.
"""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from lgatr.attention import (
    ALiBi,
    Causal,
    MaskMod,
    Packing,
    ScoreModFunction,
    SlidingWindow,
    SoftCap,
    partial_attention,
    prepare_attention,
)
from lgatr.attention.backends.dropout import draw_seed, drop_threshold, keep_mask
from lgatr.attention.backends.native import blocks, scored
from lgatr.attention.pattern.positions import block_positions
from support.scores_of_tensors import (
    HEADS,
    ON_SELF_ONLY,
    SCORES,
    WIDTH,
)

few = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)


MASKS = {
    "none": None,
    "causal": Causal(),
    "corner": Causal(bottom_right=True),
    "window": SlidingWindow(1, 0),
    "function": MaskMod(lambda b, h, q, k: (q + 2 * k + h) % 3 > 0),
    "hides rows": MaskMod(lambda b, h, q, k: q % 2 == 0),
}


def definition(q, k, v, queries, keys, score, mask, scale, dropout):
    """Outputs and log-sum-exp, event by event and from all scores."""
    repeat = q.shape[1] // k.shape[1]
    k, v = (x.repeat_interleave(repeat, 1) for x in (k, v))
    outs, lses = [], []
    q0 = k0 = 0
    torch.manual_seed(3)
    seed = draw_seed()
    for i, (n, m) in enumerate(zip(queries, keys, strict=True)):
        at = block_positions(range(i, i + 1), HEADS, range(n), range(m), (n, m), (q0, k0))
        a, b, c = q[q0 : q0 + n], k[k0 : k0 + m], v[k0 : k0 + m]
        scores = torch.einsum("qhd,khd->hqk", a, b).unsqueeze(0) * scale
        scores = score(scores, at)
        live = scores > -math.inf
        if mask is not None:
            live = live & mask.allowed(at)
        top = scores.detach().masked_fill(~live, -math.inf).amax(-1, keepdim=True)
        top = top.masked_fill(top == -math.inf, 0.0)
        weights = torch.where(live, torch.exp(torch.where(live, scores - top, 0.0)), 0.0)
        total = weights.sum(-1, keepdim=True)
        some = total > 0
        safe = torch.where(some, total, 1.0)
        weights = weights / safe
        if dropout:
            weights = weights * keep_mask(seed, at, drop_threshold(dropout)) / (1 - dropout)
        outs.append(torch.einsum("hqk,khd->qhd", weights[0], c))
        lses.append(torch.where(some, safe.log() + top, -math.inf)[0, :, :, 0].T)
        q0, k0 = q0 + n, k0 + m
    return torch.cat(outs), torch.cat(lses)


lengths = st.lists(st.integers(1, 9), min_size=1, max_size=5)


@st.composite
def problems(draw):
    queries = draw(lengths)
    cross = draw(st.booleans())
    keys = [draw(st.integers(1, 9)) for _ in queries] if cross else queries
    name = draw(st.sampled_from(sorted(set(SCORES) - (ON_SELF_ONLY if cross else set()))))
    return {
        "queries": queries,
        "keys": keys,
        "score": name,
        "mask": draw(st.sampled_from(sorted(MASKS))),
        "shared": draw(st.sampled_from([1, 2, 4])),
        "scale": draw(st.sampled_from([None, 0.3, 1, 0.0, -0.5])),
        "dropout": draw(st.sampled_from([0.0, 0.0, 0.3])),
        "lse": draw(st.booleans()),
        "frozen": draw(st.booleans()),
        "kept": draw(st.sampled_from([0, 2**40])),
        "short": draw(st.sampled_from([2, 512])),
        "budget": draw(st.sampled_from([1, 40, 2**24])),
        "seed": draw(st.integers(0, 99)),
    }


@given(problems())
@few
def test_every_tensor_gets_its_gradient(problem):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scored, "_MAX_SCORES_KEPT", problem["kept"])
        for module in (scored, blocks):
            patch.setattr(module, "MAX_SHORT_EVENT", problem["short"])
        patch.setattr(blocks, "_QUERIES_PER_BLOCK", problem["short"] // 2)
        patch.setattr(blocks, "MAX_SCORES", problem["budget"])
        compare(problem)


def compare(problem):
    torch.manual_seed(problem["seed"])
    queries, keys = problem["queries"], problem["keys"]
    shapes = [(sum(queries), HEADS), *[(sum(keys), problem["shared"])] * 2]
    values = [torch.randn(*s, WIDTH, dtype=torch.float64) for s in shapes]
    score, learned = SCORES[problem["score"]](sum(queries))
    if not problem["frozen"]:
        learned = [*(x.requires_grad_() for x in values), *learned]
    dropout = 0.0 if problem["lse"] else problem["dropout"]
    options = {
        "packing": Packing.from_lengths(queries),
        "kv_packing": None if keys is queries else Packing.from_lengths(keys),
        "mask": MASKS[problem["mask"]],
        "score": score,
        "scale": problem["scale"],
        "dropout_p": dropout,
        "backend": "native",
    }
    torch.manual_seed(3)
    if problem["lse"]:
        ours = partial_attention(*values, **options)
    else:
        ours = (prepare_attention(values[0].device, torch.float64, **options)(*values),)
    scale = WIDTH**-0.5 if problem["scale"] is None else problem["scale"]
    theirs = definition(*values, queries, keys, score, options["mask"], scale, dropout)
    results = []
    for outputs in (ours, theirs):
        total = sum(
            (x.masked_fill(x == -math.inf, 0.0) * torch.linspace(-1, 1, x.numel()).view_as(x)).sum()
            for x in outputs[: len(ours)]
        )
        first = torch.autograd.grad(total, learned, create_graph=True, allow_unused=True)
        twice = sum((g**2).sum() for g in first if g is not None and g.requires_grad)
        second = ()
        if problem["score"] not in ("own_function", "positions", "pairs") and not dropout:
            second = torch.autograd.grad(twice, learned, allow_unused=True, retain_graph=True)
        results.append((*outputs[: len(ours)], *first, *second))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(
            torch.zeros(()) if a is None else a.detach(),
            torch.zeros(()) if b is None else b.detach(),
            rtol=1e-8,
            atol=1e-8,
            check_dtype=False,
        )


@pytest.mark.parametrize("score", sorted(set(SCORES) - {"pairs"}))
def test_the_long_way_is_taken_at_its_real_sizes(score):
    """An event over 512 tokens whose mask hides most keys, without patched sizes."""
    score_mod, learned = SCORES[score](600)
    values = [torch.randn(600, HEADS, WIDTH, dtype=torch.float64) for _ in range(3)]
    mask = SlidingWindow(10)
    attend = prepare_attention(
        values[0].device, torch.float64, packing=Packing.from_lengths([600]), score=score_mod,
        mask=mask,
    )  # fmt: skip
    ours = torch.autograd.grad(
        attend(*values).square().sum(), learned, allow_unused=True, retain_graph=True
    )
    out, _ = definition(*values, [600], [600], score_mod, mask, WIDTH**-0.5, 0.0)
    theirs = torch.autograd.grad(out.square().sum(), learned, allow_unused=True)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("checkpointed", [False, True])
def test_through_a_network(checkpointed):
    from lgatr import LGATr
    from support import networks

    gradients = []
    for limit in (0, 2**40):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(scored, "_MAX_SCORES_KEPT", limit)
            torch.manual_seed(0)
            net = networks.build(LGATr, checkpoint_blocks=checkpointed and not limit)
            w = nn.Parameter(torch.tensor(0.3, dtype=torch.float64))
            values = networks.inputs(LGATr, 12)
            packing = Packing.from_lengths([5, 7])
            mod = lambda s, b, h, q, k, w=w: s + w * (q - k)  # noqa: E731
            outputs = net(*values, packing=packing, score_mod=mod)
            sum(out.square().sum() for out in outputs).backward()
            gradients.append([w.grad, *(p.grad for p in net.parameters())])
    assert gradients[0][0].abs() > 0
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_random_scores_are_the_same_in_the_backward_pass():
    values = [torch.randn(6, 2, 3, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    gradients = []
    for limit in (0, 2**40):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(scored, "_MAX_SCORES_KEPT", limit)
            torch.manual_seed(5)
            noisy = prepare_attention(
                values[0].device, torch.float64, packing=Packing.from_lengths([6]),
                score_mod=lambda s, b, h, q, k: s + torch.randn_like(s),
            )  # fmt: skip
            gradients.append(torch.autograd.grad(noisy(*values).square().sum(), values))
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


OF_DENSE_ROWS = (None, SoftCap(5.0), ALiBi.geometric(2))
KINDS_OF_MASKS = ("boolean", "float", "function")


# Flex compiles each for seconds: every kind once, and every score once.
@pytest.mark.parametrize(
    ("kind", "score", "backend"),
    [
        *((kind, score, "native") for kind in KINDS_OF_MASKS for score in OF_DENSE_ROWS),
        *(
            pytest.param(kind, score, "flex", marks=pytest.mark.slow)
            for kind, score in zip(KINDS_OF_MASKS, OF_DENSE_ROWS, strict=True)
        ),
    ],
    ids=str,
)
def test_rows_without_keys_in_dense_batches(kind, score, backend):
    training = backend == "native"
    values = [torch.randn(2, 6, 2, 16, requires_grad=training) for _ in range(3)]
    allowed = torch.rand(2, 1, 6, 6) < 0.6
    allowed[:, :, 2] = False
    options = {"backend": backend, "score": score}
    if kind == "function":
        hidden = ScoreModFunction(
            lambda s, b, h, q, k: torch.where(allowed[b, 0, q, k], s, -math.inf)
        )
        options["score"] = hidden if score is None else score >> hidden
    else:
        table = torch.zeros(2, 1, 6, 6).masked_fill(~allowed, -math.inf)
        options["attn_mask"] = allowed if kind == "boolean" else table
    with torch.set_grad_enabled(training):
        out = prepare_attention(values[0].device, torch.float32, **options)(*values)
    assert out[:, 2].abs().max() == 0 and torch.isfinite(out).all()
    flat = [x.detach().double().flatten(0, 1).requires_grad_() for x in values]
    rule = MaskMod(lambda b, h, q, k: allowed[b, 0, q, k])
    change = score if score is not None else ScoreModFunction(lambda s, b, h, q, k: s)
    theirs, _ = definition_of_two_heads(*flat, change, rule)
    torch.testing.assert_close(out.flatten(0, 1).double(), theirs, rtol=1e-4, atol=1e-5)
    if training:
        ours = torch.autograd.grad(out.square().sum(), values)
        expected = torch.autograd.grad(theirs.square().sum(), flat)
        for a, b in zip(ours, expected, strict=True):
            torch.testing.assert_close(a.flatten(0, 1).double(), b, rtol=1e-3, atol=1e-4)


def definition_of_two_heads(q, k, v, score, mask):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(globals(), "HEADS", 2)
        return definition(q, k, v, [6, 6], [6, 6], score, mask, 0.25, 0.0)
