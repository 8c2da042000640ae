"""The stages of slim networks: equal to their formulas, with first and second derivatives."""

from __future__ import annotations

import pytest
import torch

from lgatr.ops._runtime.cpu import has_native_kernels
from lgatr.ops._runtime.stage import Stage
from lgatr.ops.slim_glu.stage import GatedUnits, linear_glu
from lgatr.ops.slim_heads.stage import linear_of_heads, linear_to_heads
from lgatr.ops.slim_norm.formula import EPSILON
from lgatr.ops.slim_norm.stage import SlimNorm, SlimSumAndNorm
from lgatr.utils.nonlinearities import get_nonlinearity

LEADING = {"one token": (1,), "": (7,), "dense": (2, 3), "many": (130,)}


@pytest.fixture(autouse=True)
def built():
    if not has_native_kernels(torch.zeros(1)):
        pytest.skip("no C++ compiler")


def random(*shape, size=1.0):
    return (size * torch.randn(*shape, dtype=torch.float64)).requires_grad_()


def states(leading, channels, scalars, size=1.0):
    return random(*leading, 4, channels, size=size), random(*leading, scalars, size=size)


def norm(leading, channels=5, scalars=3, gains=True, size=1.0):
    weights = [random(channels), random(scalars)] if gains else [None, None]
    inputs = [*states(leading, channels, scalars, size), *weights]
    return SlimNorm(EPSILON), inputs


def sum_and_norm(leading, more=True):
    stage, (v, s, *weights) = norm(leading)
    others = states(leading, 5, 3) if more else (None, None)
    return SlimSumAndNorm(stage), [v, s, *others, *weights]


def heads(leading, c=4, s=3, metric=(True, False, False), bias=True, epsilon=0.01):
    groups = 2 * len(metric)
    matrices = [random(groups * c, 5), random(groups * s, 7), random(groups * s) if bias else None]

    return linear_to_heads(2, metric, (c, s), epsilon), [*states(leading, 5, 7), *matrices]


def from_heads(leading, c=4, s=3, bias=True):
    matrices = [random(5, 2 * c), random(6, 2 * s), random(6) if bias else None]

    return linear_of_heads(c), [random(*leading, 2, 4 * c + s), *matrices]


def glu(leading, name_v="sigmoid", name="gelu", bias=True):
    functions = get_nonlinearity(name_v), get_nonlinearity(name)
    matrices = [random(3 * 6, 5), random(2 * 4, 7), random(2 * 4) if bias else None]

    return linear_glu(GatedUnits(*functions)), [*states(leading, 5, 7), *matrices]


CASES = {
    "norm": norm,
    "norm, no gains": lambda leading: norm(leading, gains=False),
    "norm, small": lambda leading: norm(leading, size=1e-3),
    "norm, no scalars": lambda leading: norm(leading, scalars=0),
    "sum and norm": sum_and_norm,
    "norm and what it is of": lambda leading: sum_and_norm(leading, more=False),
    "heads": heads,
    "heads, another epsilon": lambda leading: heads(leading, epsilon=3.0),
    "heads, no bias": lambda leading: heads(leading, bias=False),
    "heads, eight channels": lambda leading: heads(leading, c=8, metric=(True,)),
    "heads, odd channels": lambda leading: heads(leading, c=3, s=1, metric=(False, True)),
    "from heads": from_heads,
    "from heads, odd channels": lambda leading: from_heads(leading, c=3, s=5, bias=False),
    "glu": glu,
    "glu, other functions": lambda leading: glu(leading, "gelu_exact", "silu", False),
}


@pytest.fixture(params=CASES)
def make(request):
    return CASES[request.param]


def by_formula(function, inputs, monkeypatch):
    """The same by the formulas."""
    with monkeypatch.context() as patch:
        patch.setattr(Stage, "passes", lambda self, x: None)
        return function(*inputs)


def used_stages(outputs):
    functions = [out.grad_fn for out in outputs if out.grad_fn is not None]
    # A sum before a norm is torch's on CPUs.
    return any("_Run" in str(f) or "_Run" in str(f.next_functions) for f in functions)


@pytest.mark.parametrize("leading", LEADING.values(), ids=LEADING)
def test_outputs_and_gradients_are_those_of_the_formula(make, leading, monkeypatch):
    function, inputs = make(leading)
    ours, theirs = function(*inputs), by_formula(function, inputs, monkeypatch)
    assert used_stages(ours) and not used_stages(theirs)
    probes = [torch.randn_like(out) for out in theirs]
    given = [x for x in inputs if x is not None]
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    for a, b in zip(
        torch.autograd.grad(ours, given, probes),
        torch.autograd.grad(theirs, given, probes),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-11)


def test_single_precision(make, monkeypatch):
    function, inputs = make((40,))
    exact = by_formula(function, inputs, monkeypatch)
    single = [None if x is None else x.detach().float().requires_grad_() for x in inputs]
    ours = function(*single)
    probes = [torch.randn_like(out) for out in exact]
    theirs = torch.autograd.grad(exact, [x for x in inputs if x is not None], probes)
    found = torch.autograd.grad(
        ours, [x for x in single if x is not None], [p.float() for p in probes]
    )
    for a, b in (*zip(ours, exact, strict=True), *zip(found, theirs, strict=True)):
        scale = max((float(x) for x in b.detach().abs().flatten()), default=1.0)
        assert ((a.double() - b).abs() <= 1e-5 * max(scale, 1e-3)).all()


def test_second_derivatives(make):
    function, inputs = make((3,))
    given = [x for x in inputs if x is not None]

    def of_given(*values):
        left = iter(values)
        return function(*(None if x is None else next(left) for x in inputs))

    assert torch.autograd.gradgradcheck(of_given, given, fast_mode=True, atol=1e-4)


def test_strided_inputs_and_gradients(make, monkeypatch):
    function, inputs = make((7,))

    def strided(x):
        return None if x is None else x.detach().repeat_interleave(2, -1)[..., ::2].requires_grad_()

    views = [strided(x) for x in inputs]
    ours, theirs = function(*views), by_formula(function, inputs, monkeypatch)
    probes = [torch.randn_like(out) for out in theirs]
    found = torch.autograd.grad(
        ours, [x for x in views if x is not None], [strided(p).detach() for p in probes]
    )
    expected = torch.autograd.grad(theirs, [x for x in inputs if x is not None], probes)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-11)


def test_sums_do_not_depend_on_threads(make):
    function, inputs = make((300,))
    found = []
    before = torch.get_num_threads()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        outputs = function(*(None if x is None else x.float() for x in inputs))
        found.append([out.detach() for out in outputs])
    torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
