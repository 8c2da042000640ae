"""Attention of packed events on CUDA against its definition; run as ``triton_checks.py`` is."""

from __future__ import annotations

import math

import pytest
import torch

from lgatr.attention import ALiBi, Causal, SlidingWindow, SoftCap
from lgatr.attention.backends.native.cuda import PackedEvents
from lgatr.ops._runtime.products import AS_THEY_ARE, Products, same_products
from support.packed_case import DEVICE, TOLERANCE, Case, agree, check
from support.slow import slow_but_for

MISSING = {"reason": "Triton is not installed: pip install triton", "exc_type": ImportError}
launches = pytest.importorskip("lgatr.attention.backends.native.triton_launch", **MISSING)
# NumPy computes in the interpreter, and warns of infinite numbers and of those that are none.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

KEYS = (3, 1, 24)
SMALL = {"BLOCK_M": 16, "BLOCK_N": 16, "num_warps": 2, "num_stages": 1}
SLOPES = torch.tensor([0.5, 0.1])


@pytest.fixture(autouse=True)
def in_small_tiles(monkeypatch):
    """Everything by the kernels, and events longer than a tile."""
    torch.manual_seed(0)
    monkeypatch.setattr(PackedEvents, "runs_on", lambda self, x: True)
    set_options(monkeypatch, SMALL, serial=False)


def set_options(monkeypatch, options, **backward):
    """Launch options of both kernels, and further ones of the gradient."""
    monkeypatch.setattr(launches._FORWARD, "candidates", (options,))
    options = options | {name.upper(): value for name, value in backward.items()}
    monkeypatch.setattr(launches._BACKWARD, "candidates", (options,))


def cross(by_default=(KEYS,)):
    cases = slow_but_for(by_default, [None, KEYS])
    return pytest.mark.parametrize("keys", cases, ids=["self", "cross"])


MASKS = {
    "none": None,
    "causal": Causal(),
    "causal, last corner": Causal(bottom_right=True),
    "window": SlidingWindow(3, 2),
    "window, last corner": SlidingWindow(3, 2, bottom_right=True),
    "earlier": SlidingWindow(2, None, bottom_right=True),
    "later": SlidingWindow(None, 2),
    "joined": Causal() & SlidingWindow(17),
}
SCORES = {
    "cap": SoftCap(1.5),
    "large cap": SoftCap(1000.0),
    "alibi": ALiBi(SLOPES),
    "both": SoftCap(1.5) >> ALiBi(SLOPES),
}
CHANGED = [(score, mask) for score in SCORES for mask in ("none", "causal", "window")]
BY_DEFAULT = [("both", "window")]


@cross()
@pytest.mark.parametrize("mask", slow_but_for(["causal, last corner"], MASKS))
def test_masks(mask, keys):
    """A band seen from the wrong corner, or a tile of keys or queries left out at its edge."""
    case = Case(keys=keys, mask=MASKS[mask])
    check(case, *case.tensors())


@cross()
@pytest.mark.parametrize("changed", slow_but_for(BY_DEFAULT, CHANGED), ids=", ".join)
def test_changed_scores(changed, keys):
    """Distances from the wrong corner, a tangent that cancels near zero, a wrong derivative."""
    case = Case(keys=keys, mask=MASKS[changed[1]], score=SCORES[changed[0]])
    check(case, *case.tensors())


@pytest.mark.parametrize(
    ("mask", "shape"),
    [
        ("window", (2, 24)),
        *(
            pytest.param(mask, shape, marks=pytest.mark.slow)
            for mask, shape in [
                ("causal, last corner", (2, 100)),
                ("joined", (2, 1)),
                ("later", (2, 128)),
            ]
        ),
    ],
)
def test_keys_one_tile_after_the_other(mask, shape, monkeypatch):
    """What earlier tiles gave the queries is lost, or what was in memory before is added."""
    set_options(monkeypatch, SMALL, serial=True)
    case = Case((1, 18, 33), (3, 1, 40), MASKS[mask], SCORES["both"])
    check(case, *case.tensors(*shape))


@pytest.mark.slow
@pytest.mark.parametrize("scale", slow_but_for([-0.7], [0.0, -0.7, 2.0]))
def test_scales(scale):
    """A scale that is taken for none given, or whose sign gets lost."""
    case = Case((5, 20), scale=scale)
    check(case, *case.tensors())


SHAPES = [(8, 1), (1, 16), (2, 24), (3, 40), (2, 72), (1, 100), (5, 100), (1, 128)]


@pytest.mark.parametrize("shape", slow_but_for([(1, 100)], SHAPES), ids=str)
def test_heads_and_widths(shape):
    """Columns beyond the head that are not zero, and a second tile of columns left out."""
    case = Case((1, 18) if shape[0] < 8 else (1, 5))
    check(case, *case.tensors(*shape))


OPTIONS = [*launches._FORWARD.candidates, {**SMALL, "BLOCK_M": 32}]


@pytest.mark.slow
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("serial", [False, True])
def test_launch_options(options, serial, monkeypatch):
    """Tiles of queries and keys confused, where they differ in size."""
    set_options(monkeypatch, options, serial=serial)
    case = Case((3, 70), (33, 41), SlidingWindow(9, 30))
    check(case, *case.tensors(1, 16))


CORNER = Causal(bottom_right=True)


@pytest.mark.slow
@pytest.mark.parametrize("mask", [CORNER, SlidingWindow(1)], ids=str)
def test_queries_without_keys(mask):
    """Averages over no keys: zeros, and gradients that do not see them."""
    case = Case((20, 34), (7, 18), mask)
    inputs = case.tensors(1)
    out, lse, of_q, *others = case.run(*inputs)
    expected = case.exact(*inputs)
    agree([out, lse, of_q, *others], expected)
    alone = (lse == -math.inf).unsqueeze(-1)
    assert alone.any() and not alone.all()
    assert not (out * alone).any() and not (of_q * alone).any()
    inputs[3] = inputs[3].where(~alone, 7.0)
    agree(case.run(*inputs), expected)


@pytest.mark.slow
@pytest.mark.parametrize("reach", [(2, 2**31 - 1), (2**31 - 1, 0)])
def test_windows_wider_than_numbers_are(reach):
    """Sums of positions and a reach that run over."""
    case = Case((1, 18), mask=SlidingWindow(*reach))
    check(case, *case.tensors(1))


@pytest.mark.slow
def test_views_of_one_buffer():
    """Strides of one tensor used for another, or heads taken to lie side by side."""
    buffer = torch.randn(23, 3, 3, 28, device=DEVICE)[:, :2, :, :24]  # heads lie apart
    v, grad = torch.randn(2, 2, 23, 24, device=DEVICE).transpose(1, 2)  # head by head
    check(Case((5, 18)), *buffer.unbind(2)[:2], v, grad)


SIZES = [
    (100.0, 0.03, 1e4, 1e-12),
    (1e-4, 3e4, 1e-9, 1e6),
    (1e30, 1e-30, 1e20, 1e-20),
    (1e-30, 1e30, 1e-30, 1e30),
    (1e-15, 1e15, 1e30, 1e-30),
    (1.0, 1.0, 1e-20, 1e-10),
    (1e-30, 1e-30, 1.0, 1e-3),
]


@pytest.mark.slow
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_magnitudes(sizes):
    """A scale of a tensor that is not undone, or that leaves the range of 16 or 32 bits."""
    case = Case((5, 17))
    check(case, *case.tensors(sizes=sizes))


@pytest.mark.slow
def test_entries_of_many_magnitudes():
    """Small entries beside large ones, in all tensors."""
    case = Case((5, 17))
    inputs = case.tensors(1, 40)
    check(case, *(x * 10.0 ** (-6 * torch.rand_like(x)) for x in inputs))


@pytest.mark.slow
def test_a_large_event_or_head_takes_nothing_from_the_others():
    """One scale for all events, or all heads: small ones would keep few bits."""
    case = Case((1, 17, 9))
    inputs = case.tensors()
    for x in inputs:
        x[:1] *= 1e5
        x[:, 1] *= 1e-5
    ours, theirs = case.run(*inputs), case.exact(*inputs)
    for first, end in ((1, 18), (18, 27)):
        for head in (0, 1):
            agree(*([x[first:end, head] for x in found] for found in (ours, theirs)))


@pytest.mark.slow
def test_numbers_below_the_normal_ones():
    """A scale for numbers so small that its inverse is zero."""
    case = Case((5, 20))
    inputs = case.tensors(sizes=(1.0, 1.0, 1e-35, 1.0))
    out, exact = case.run(*inputs)[0], case.exact(*inputs)[0]
    # Of factors below 2^-126 some bits are lost.
    assert (out.double().cpu() - exact).abs().max() <= 1e-2 * exact.abs().max()


@pytest.mark.slow
@pytest.mark.parametrize("which", [(0,), (1,), (2,), (3,), (0, 1, 2, 3)], ids=str)
def test_zeros(which):
    """The largest number of a tensor is zero, and has no inverse."""
    case = Case((5, 17))
    inputs = [0.0 * x if i in which else x for i, x in enumerate(case.tensors())]
    check(case, *inputs)


ODD = [(which, value) for which in range(4) for value in (math.nan, math.inf, -math.inf)]
ODD_BY_DEFAULT = [(1, math.inf)]


@pytest.mark.parametrize("odd", slow_but_for(ODD_BY_DEFAULT, ODD), ids=str)
def test_odd_values_stay_in_their_event(odd):
    """A scale of all events from an infinite number of one; NaN that turns into a number."""
    which, value = odd
    case = Case((5, 8, 3))
    event, head, inputs = slice(5, 13), 1, case.tensors()
    inputs[which][8, head] = 0.0
    before = case.run(*inputs)
    inputs[which][8, head, 3] = value
    after = case.run(*inputs)
    for x, y in zip(before, after, strict=True):
        x, y = x.clone(), y.clone()
        x[event, head], y[event, head] = 0.0, 0.0
        assert torch.equal(x, y)
    out, lse, of_q, of_k, of_v = (x[event, head] for x in after)
    if which == 0:
        assert all(x[3].isnan().all() for x in (out, lse, of_q))
        assert of_k.isnan().all() and of_v.isnan().all()
    elif which == 1:  # scores of all queries
        assert all(x.isnan().all() for x in (out, lse, of_q, of_k, of_v))
    else:
        assert of_k.isnan().any() and of_q.isnan().any()
        assert (out if which == 2 else of_v)[:, 3].isnan().all()


# The interpreter multiplies the bits of bfloat16 numbers.
HALF = {torch.float16: 3e-3, **({torch.bfloat16: 2e-2} if DEVICE == "cuda" else {})}


@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_formats_of_16_bits(dtype):
    """Scales applied where there are none, and sums in 16 bits."""
    case = Case(keys=KEYS, mask=Causal(), score=SCORES["both"])
    check(case, *case.tensors(2, 40, dtype=dtype), tolerance=HALF[dtype])


@pytest.mark.slow
def test_numbers_multiplied_as_they_are():
    """What TF32 is allowed for: no scales, whatever the largest numbers."""
    case = Case(keys=KEYS)
    with same_products(Products(AS_THEY_ARE, AS_THEY_ARE)):
        check(case, *case.tensors(), tolerance=TOLERANCE if DEVICE == "cpu" else 5e-3)


@pytest.mark.slow  # in the interpreter programs run one after the other
def test_results_do_not_vary():
    """Sums whose order depends on what runs first."""
    case = Case((33, 5), mask=SlidingWindow(20))
    inputs = case.tensors(1)
    assert all(torch.equal(a, b) for a, b in zip(*(case.run(*inputs) for _ in "ab"), strict=True))


def test_as_a_stage():
    """Gradients, of some inputs alone too, whatever the strides; and second derivatives."""
    case = Case((1, 18), mask=Causal(), score=SCORES["both"])
    q, k, v, grad = case.tensors(2, 7)
    given = [x.repeat_interleave(2, -1)[..., ::2].requires_grad_() for x in (q, k, v)]
    assert given[0].stride(-1) != 1
    (out,) = case.stage(*given)
    assert "_Run" in str(out.grad_fn)
    expected = case.run(q, k, v, grad)
    assert torch.equal(out, expected[0])
    found = torch.autograd.grad(out, given, grad, retain_graph=True)
    assert all(torch.equal(a, b) for a, b in zip(found, expected[2:], strict=True))
    (alone,) = torch.autograd.grad(case.stage(q, k, given[2])[0], given[2], grad)
    assert torch.equal(alone, expected[4])
    first = torch.autograd.grad(out, given, grad, create_graph=True)
    exact = [x.detach().double().cpu().requires_grad_() for x in given]
    theirs = case.definition(*exact)[0]
    theirs = torch.autograd.grad(theirs, exact, grad.double().cpu(), create_graph=True)
    ours, theirs = (
        torch.autograd.grad(sum(x.square().sum() for x in grads), of)
        for grads, of in ((first, given), (theirs, exact))
    )
    for a, b in zip(ours, theirs, strict=True):
        assert (a.double().cpu() - b).abs().max() <= 2e-5 * b.abs().max()


@pytest.mark.slow
def test_one_tensor_for_queries_keys_and_values():
    """Scales of keys and values that were taken from nowhere."""
    case = Case((5, 3))
    x, *_, grad = case.tensors()
    check(case, x, x, 3.0 * x, grad)
    x.requires_grad_()
    (found,) = torch.autograd.grad(case.stage(x, x, x)[0], x, grad)
    expected = sum(case.exact(x, x, x, grad)[2:])
    assert (found.double().cpu() - expected).abs().max() <= TOLERANCE * expected.abs().max()
