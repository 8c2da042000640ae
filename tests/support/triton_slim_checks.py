"""The CUDA kernels of slim networks against the plain formulas; run as ``triton_checks.py`` is."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from torch.nn import functional as F

from lgatr.ops.slim_glu.stage import GatedUnits, linear_glu
from lgatr.ops.slim_heads.stage import SlimFromHeads, SlimToHeads, linear_of_heads, linear_to_heads
from lgatr.ops.slim_linear.stage import SLIM_LINEAR_STAGE
from lgatr.ops.slim_norm.formula import EPSILON
from lgatr.ops.slim_norm.stage import SlimNorm, SlimSumAndNorm
from lgatr.utils.nonlinearities import NONLINEARITIES
from support.slow import every, slow_but_for
from support.triton_passes import passes_in_triton

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
MISSING = {"reason": "Triton is not installed: pip install triton", "exc_type": ImportError}
functions = pytest.importorskip("lgatr.ops._runtime.triton_functions", **MISSING)
triton_norm = pytest.importorskip("lgatr.ops.slim_norm.triton", **MISSING)
triton_kernels = pytest.importorskip("lgatr.ops.slim_heads.triton_kernels", **MISSING)
triton_glu = pytest.importorskip("lgatr.ops.slim_glu.triton", **MISSING)
TUNED = [
    (module, name)
    for module in (triton_norm, triton_kernels, triton_glu)
    for name, kernel in vars(module).items()
    if isinstance(kernel, triton_norm.Tuned)
]
TOLERANCE = 4e-6
"""Of the largest entry."""


@pytest.fixture(autouse=True)
def as_on_cuda(monkeypatch):
    """Everything by the passes in Triton; and tiles smaller than the few tokens here."""
    for module, name in TUNED:
        tuned = getattr(module, name)
        small = {key: min(number, 64) for key, number in tuned.candidates[0].items()}
        monkeypatch.setattr(tuned, "candidates", (small,))
    monkeypatch.setattr(triton_norm, "_PROGRAMS", 3)
    with passes_in_triton(monkeypatch) as used:
        yield used


def random(*shape, size=1.0):
    return (size * torch.randn(*shape)).to(DEVICE).requires_grad_()


def state(leading, channels, scalars, size=1.0):
    return random(*leading, 4, channels, size=size), random(*leading, scalars, size=size)


def agree(ours, theirs, tolerance=TOLERANCE):
    for a, b in zip(ours, theirs, strict=True):
        if b is None or not b.numel():
            assert a is None or a.shape == b.shape
            continue
        assert a.shape == b.shape
        a, b = a.detach().double().cpu(), b.detach()
        assert (a - b).abs().max() <= tolerance * b.abs().max().clamp(min=1e-3)


def strided(x):
    """The same numbers, not side by side."""
    return x.repeat_interleave(2, -1)[..., ::2]


def check(stage, inputs, as_they_lie=lambda x: x, tolerance=TOLERANCE):
    """Outputs and all gradients against the formula in double precision."""
    exact = [None if x is None else x.detach().double().cpu().requires_grad_() for x in inputs]
    ours = stage(*(None if x is None else as_they_lie(x) for x in inputs))
    theirs = stage.plain(*exact)
    assert "_Run" in str(ours[0].grad_fn) or "_Run" in str(ours[0].grad_fn.next_functions)
    agree(ours, theirs, tolerance)
    probes = [torch.randn_like(out) for out in ours]
    found, expected = (
        torch.autograd.grad(outputs, [x for x in of if x is not None], grads)
        for outputs, of, grads in (
            (ours, inputs, [as_they_lie(p) for p in probes]),
            (theirs, exact, [p.double().cpu() for p in probes]),
        )
    )
    agree(found, expected, tolerance)


LEADING = {"one token": (1,), "": (2, 7)}
APART = pytest.param(strided, marks=pytest.mark.slow, id="strided")
as_they_lie = pytest.mark.parametrize("as_they_lie", [pytest.param(lambda x: x, id=""), APART])
leading = pytest.mark.parametrize("leading", slow_but_for([(2, 7)], LEADING.values()), ids=LEADING)


@as_they_lie
@pytest.mark.parametrize("gains", [True, False], ids=["", "no gains"])
@pytest.mark.parametrize(("channels", "scalars"), every(2, [(4, 8), (1, 0), (5, 3)]))
@leading
def test_norm(leading, channels, scalars, gains, as_they_lie):
    weights = [random(channels), random(scalars)] if gains else [None, None]
    check(SlimNorm(EPSILON), [*state(leading, channels, scalars), *weights], as_they_lie)


@as_they_lie
@pytest.mark.parametrize("gains", [True, False], ids=["", "no gains"])
@pytest.mark.parametrize("more", [True, False], ids=["", "of one state"])
@leading
def test_sum_and_norm(leading, more, gains, as_they_lie):
    weights = [random(5), random(3)] if gains else [None, None]
    others = state(leading, 5, 3) if more else (None, None)
    given = [*state(leading, 5, 3), *others, *weights]
    check(SlimSumAndNorm(SlimNorm(EPSILON)), given, as_they_lie)


@pytest.mark.slow
def test_small_states_and_zeros():
    v, s = state((9,), 5, 3, size=1e-3)
    check(SlimNorm(EPSILON), [v, s, random(5), random(3)])
    with torch.no_grad():
        v[:, :, ::2], s[3:5] = 0, 0
        v[:, 0, 1], v[:, 1:, 1] = 5e-4, torch.tensor([3e-4, 0.0, 4e-4])[:, None].to(DEVICE).T
    check(SlimNorm(EPSILON), [v, s, random(5), random(3)])


HEADS = [
    # heads of each part; vector and scalar channels; parts with the signs of the inner product
    (2, (4, 12), (True, False, False)),
    (3, (3, 1), (False, True)),
    (1, (1, 4), (True,)),
    (2, (2, 0), (False, True, False, True)),
]


@as_they_lie
@pytest.mark.parametrize(("heads", "channels", "metric"), every(2, HEADS))
@leading
def test_to_heads(heads, channels, metric, leading, as_they_lie):
    groups = heads * len(metric)
    stage = SlimToHeads(heads, metric, 0.02, channels)
    check(stage, state(leading, *(groups * n for n in channels)), as_they_lie)


@pytest.mark.slow
@pytest.mark.parametrize("turned", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_gradients_of_heads_in_memory_of_their_own(turned):
    """Attention gives them head by head, or token by token."""
    inputs = state((2, 5), 6 * 4, 6 * 3)
    outputs = SlimToHeads(2, (True, False, False), 0.02, (4, 3))(*inputs)
    grads = [torch.randn_like(out) for out in outputs]
    expected = torch.autograd.grad(outputs, inputs, grads, retain_graph=True)
    if turned:
        grads = [g[:1].transpose(-2, -3).contiguous().transpose(-2, -3) for g in grads]
        grads = [torch.cat([g, torch.zeros_like(g)]) for g in grads]
        expected = [torch.cat([x[:1], torch.zeros_like(x[1:])]) for x in expected]
    else:
        grads = list(torch.stack(grads, -3).unbind(-3))
    found = torch.autograd.grad(outputs, inputs, grads)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@as_they_lie
@pytest.mark.parametrize(("heads", "channels"), [(2, (4, 12)), (3, (3, 0)), (1, (1, 5))])
@leading
def test_from_heads(heads, channels, leading, as_they_lie):
    given = random(*leading, heads, 4 * channels[0] + channels[1])
    check(SlimFromHeads(channels[0]), [given], as_they_lie)


def test_heads_that_lie_head_by_head():
    given = random(2, 7, 5).transpose(0, 1)  # (T, H, D)
    check(SlimFromHeads(1), [given])


OTHER = {"cubic": lambda x: x**3 / 3, "narrow": partial(F.gelu, approximate="none")}
FUNCTIONS = {**NONLINEARITIES, **OTHER}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_of_the_unit(name):
    """Of vectors and of scalars, each with every other one in turn."""
    names = list(FUNCTIONS)
    other = names[(names.index(name) + 1) % len(names)]
    assert (functions.number_of(FUNCTIONS[name]) == functions.GIVEN.value) == (name in OTHER)
    check(GatedUnits(FUNCTIONS[name], FUNCTIONS[other]), state((9,), 3 * 5, 2 * 7))


WIDE = pytest.param(129, 130, marks=pytest.mark.slow)


@as_they_lie
@pytest.mark.parametrize(("channels", "scalars"), [(1, 1), (3, 0), (6, 20), WIDE])
@leading
def test_glu(channels, scalars, leading, as_they_lie):
    stage = GatedUnits(NONLINEARITIES["sigmoid"], NONLINEARITIES["gelu"])
    check(stage, state(leading, 3 * channels, 2 * scalars), as_they_lie)


def test_copies_of_functions_are_known():
    for name, function in NONLINEARITIES.items():
        assert functions.number_of(copy.deepcopy(function)) == functions.NUMBERS[name]
    for function in (abs, partial(F.gelu), partial(F.gelu, approximate="none"), torch.exp):
        assert functions.number_of(function) == functions.GIVEN.value


@pytest.mark.parametrize("name", NONLINEARITIES)
def test_each_function_is_accurate(name):
    """Relative to itself, where no formula has to cancel; by a unit whose scalars are ones."""
    ends = torch.tensor([0.0, 1e-8, 0.1, 0.2499, 0.2501, 9.0, 20.0, 90.0, 1e4])
    x = torch.cat([torch.linspace(-6, 6, 200), ends, -ends]).to(DEVICE)
    t = x.clone().requires_grad_()
    s = torch.stack([torch.ones_like(x), t], -1)
    function = NONLINEARITIES[name]
    _, out = GatedUnits(function, function)(torch.zeros(len(x), 4, 3, device=DEVICE), s)
    (found,) = torch.autograd.grad(out.sum(), t)
    exact = x.double().cpu().requires_grad_()
    theirs = function(exact)
    (wanted,) = torch.autograd.grad(theirs.sum(), exact)
    # The normal distribution is one plus an odd function; derivatives change their sign somewhere.
    floor = 1e-6 if name == "gelu_exact" else 1e-12
    assert ((out[:, 0].double().cpu() - theirs).abs() <= 3e-6 * theirs.abs() + floor).all()
    floor = 1e-12 if name in ("sigmoid", "tanh", "relu") else 5e-7
    assert ((found.double().cpu() - wanted).abs() <= 3e-6 * wanted.abs() + floor).all()


def test_unknown_values():
    """NaN stays NaN."""
    for function in NONLINEARITIES.values():
        s = torch.tensor([[1.0, torch.nan]], device=DEVICE)
        out = GatedUnits(function, function)(torch.zeros(1, 4, 3, device=DEVICE), s)
        assert out[1].isnan().all()


@pytest.mark.parametrize("bias", [True, False])
@leading
def test_linear(leading, bias):
    matrices = random(6, 5), random(4, 3), random(4) if bias else None
    check(SLIM_LINEAR_STAGE, [*state(leading, 5, 3), *matrices])


@pytest.mark.slow  # a network of them is tried with the other kernels
def test_stages_with_their_linear_maps(as_on_cuda):
    v, s = state((11,), 5, 3)
    to_heads = linear_to_heads(2, (True, False, False), (4, 3), EPSILON)
    check(to_heads, [v, s, random(24, 5), random(18, 3), random(18)], tolerance=2e-5)
    check(linear_of_heads(4), [random(11, 2, 19), random(5, 8), random(6, 6), None], tolerance=2e-5)
    unit = linear_glu(GatedUnits(torch.sigmoid, NONLINEARITIES["gelu"]))
    check(unit, [v, s, random(18, 5), random(8, 3), random(8)], tolerance=2e-5)
    assert len(as_on_cuda) == 4


@pytest.mark.slow  # in the interpreter programs run one after the other
def test_results_do_not_vary():
    inputs = [*state((40,), 5, 3), random(5), random(3)]
    runs = [
        torch.autograd.grad([out.square().sum() for out in SlimNorm(EPSILON)(*inputs)], inputs)
        for _ in range(2)
    ]
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))
