"""The CUDA kernels against the plain formulas; run by test_triton.py in a process of its own."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from lgatr import LGATr, LGATrSlim
from lgatr.layout import Sectors
from lgatr.ops._runtime.tuning import Tuned
from lgatr.ops.gate.formula import gated
from lgatr.ops.heads.formula import sector_heads, sectors_from_heads
from lgatr.ops.norm.formula import EPSILON
from lgatr.ops.norm.formula import layer_norm as plain_norm
from lgatr.ops.product.formula import product_by_table
from lgatr.utils.nonlinearities import get_nonlinearity
from support import networks
from support.slow import slow_but_for
from support.triton_passes import passes_in_triton
from support.triton_states import BY_LIBRARY, DEVICE, FUSED_LINEAR, MISSING, agree, exact, state

LAYER_NORM = 1e-5

triton_norm = pytest.importorskip("lgatr.ops.norm.triton", **MISSING)
triton_gate = pytest.importorskip("lgatr.ops.gate.triton", **MISSING)
triton_kernels = pytest.importorskip("lgatr.ops.heads.triton_kernels", **MISSING)
triton_linear = pytest.importorskip("lgatr.ops.linear.triton_products", **MISSING)
triton_products = pytest.importorskip("lgatr.ops.product.triton", **MISSING)


DOUBLE, AT_THE_FLOOR = (pytest.param(x, marks=pytest.mark.slow) for x in (torch.float64, 1e-3))
TUNED = [
    kernel
    for module in (triton_gate, triton_kernels, triton_linear, triton_norm, triton_products)
    for kernel in vars(module).values()
    if isinstance(kernel, Tuned)
]


@pytest.fixture
def as_on_cuda(monkeypatch):
    """Passes in Triton, wherever tensors lie; the names of the operations that used them."""
    with passes_in_triton(monkeypatch) as used:
        yield used


def empty(x):
    return Sectors(*(torch.full_like(part, torch.nan) for part in x))


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE], ids=str)
@pytest.mark.parametrize(("tokens", "channels"), [(1, 1), (37, 5)])
class TestProduct:
    def test_forward(self, tokens, channels, dtype):
        x, y = state(tokens, channels, dtype=dtype), state(tokens, channels, dtype=dtype)
        out = triton_products.write_product(x, y, empty(x))
        tolerance = 1e-12 if dtype == torch.float64 else 2e-5
        agree(out, product_by_table(exact(x), exact(y)), tolerance)

    def test_gradients_in_one_pass(self, tokens, channels, dtype):
        x, y, grad = (state(tokens, channels, dtype=dtype) for _ in range(3))
        of_x, of_y = triton_products.write_gradients(x, y, grad, (empty(x), empty(y)))
        tolerance = 1e-12 if dtype == torch.float64 else 2e-5
        inputs = [part.requires_grad_() for part in (*exact(x), *exact(y))]
        outputs = product_by_table(Sectors(*inputs[:3]), Sectors(*inputs[3:]))
        agree((*of_x, *of_y), torch.autograd.grad(outputs, inputs, exact(grad)), tolerance)

    def test_halves_of_wider_rows(self, tokens, channels, dtype):
        joined = state(tokens, 2 * channels, dtype=dtype)
        x, y = (Sectors(*parts) for parts in zip(*(p.chunk(2, -1) for p in joined), strict=True))
        like = state(tokens, channels, dtype=dtype)
        out = triton_products.write_product(x, y, empty(like))
        tolerance = 1e-12 if dtype == torch.float64 else 2e-5
        agree(out, product_by_table(exact(x), exact(y)), tolerance)


def test_channels_side_by_side():
    x = state(4, 3)
    apart = Sectors(x.z.repeat(1, 2)[:, ::2], x.v, x.b)
    with pytest.raises(ValueError, match="side by side"):
        triton_products.write_product(apart, x, empty(x))


@pytest.mark.parametrize("size", [1.0, AT_THE_FLOOR], ids=["", "at the floor"])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize(("tokens", "channels", "scalars"), [(3, 8, 16), (10, 5, 3)])
def test_layer_norm(tokens, channels, scalars, affine, size, monkeypatch):
    monkeypatch.setattr(triton_norm, "_PROGRAMS", 4)  # fewer than tokens: several turns each
    gain = 0.7
    x, grad = state(tokens, channels, scalars, size), state(tokens, channels, scalars)
    weight = torch.randn(channels, 5, device=DEVICE) if affine else None
    weight_s = torch.randn(scalars, device=DEVICE) if affine and scalars else None
    _, out, moments = triton_norm.layer_norm(x, weight, weight_s, EPSILON, gain, LAYER_NORM)
    found, of_weight, of_weight_s = triton_norm.layer_norm_gradients(
        x, weight, weight_s, grad, moments, EPSILON, gain
    )
    inputs = [
        None if t is None else t.double().cpu().requires_grad_() for t in (*x, weight, weight_s)
    ]
    expected = partial(plain_norm, EPSILON, gain)(*inputs)
    given = [t for t in inputs if t is not None]
    gradients = iter(torch.autograd.grad(expected, given, exact(grad)))
    agree(out, expected, 2e-5)
    ours = [t for t in (*found, of_weight, of_weight_s) if t is not None]
    for a, b in zip(ours, gradients, strict=True):
        scale = float(b.abs().max().clamp(min=1e-3))
        assert float((a.double().cpu() - b).abs().max()) <= 2e-5 * scale


HEADS = [
    # groups, channels, scalars, parts with the signs of the inner product, norm
    (3, 2, 3, (True, False, False), 0.01),
    (4, 3, 0, (False, True), 0.01),
    (6, 4, 5, (True,), None),
    (2, 3, 4, (True,), 1.5),
]


@pytest.mark.parametrize("size", [1.0, AT_THE_FLOOR], ids=["", "at the floor"])
@pytest.mark.parametrize(("groups", "channels", "scalars", "metric", "epsilon"), HEADS)
def test_heads(groups, channels, scalars, metric, epsilon, size):
    tokens, w = 4, 2 * channels
    per_part = groups // len(metric)
    x = state(tokens, groups * channels, groups * scalars, size)
    reference = [t.double().cpu().requires_grad_() for t in x]

    def plain(z, v, b):
        parts = (t.unflatten(-1, (len(metric), per_part, -1)) for t in (z, v, b))
        return sector_heads(Sectors(*parts), metric, epsilon).flatten(1, 2)

    expected = plain(*reference)
    kernels = triton_kernels.Heads(groups, w, scalars, per_part, metric, epsilon)
    heads = torch.full(expected.shape, torch.nan, device=DEVICE)
    factors, scales = torch.empty(2, tokens, groups, device=DEVICE).unbind(0)
    kernels.forward(x, heads, factors, scales, LAYER_NORM)
    agree([heads], [expected], 2e-5)
    grad = torch.randn_like(heads)
    found = empty(x)
    limit = 0.0 if epsilon is None else epsilon**-0.5 * (1 - 4e-7)
    kernels.backward(heads, grad, found, (factors, scales), limit)
    gradients = torch.autograd.grad(expected, reference, grad.double().cpu())
    for a, b in zip(found, gradients, strict=True):
        scale = float(b.abs().max())
        assert float((a.double().cpu() - b).abs().max()) <= 2e-5 * max(scale, 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("scalars", slow_but_for([7], [3, 7, 11]))
def test_equal_scalars_have_exactly_their_mean(scalars):
    x = state(20, 2, scalars)
    x.z[:, 4:] = torch.rand(20, 1, device=DEVICE)
    _, out, _ = triton_norm.layer_norm(x, None, None, EPSILON, 1.0, LAYER_NORM)
    assert not out.z[:, 4:].any()
    heads = torch.full((20, 1, 8 * 4 + scalars), torch.nan, device=DEVICE)
    factors, scales = torch.empty(2, 20, 1, device=DEVICE).unbind(0)
    kernels = triton_kernels.Heads(1, 4, scalars, 1, (True,), 0.01)
    kernels.forward(x, heads, factors, scales, LAYER_NORM)
    assert not heads[..., 4 : 4 + scalars].any()


@pytest.mark.parametrize(("groups", "channels", "scalars"), [(3, 2, 3), (1, 4, 0), (5, 1, 7)])
def test_moving_heads(groups, channels, scalars):
    heads = torch.randn(4, groups, 16 * channels + scalars, device=DEVICE)
    x = empty(state(4, groups * channels, groups * scalars))
    kernels = triton_kernels.Heads(groups, 2 * channels, scalars)
    kernels.unpack(heads, x)
    expected = sectors_from_heads(heads, channels)
    assert all(torch.equal(a, b) for a, b in zip(x, expected, strict=True))
    back = torch.full_like(heads, torch.nan)
    kernels.pack(x, back)
    assert torch.equal(back, heads)


OTHER = torch.exp, torch.sin
"""Functions that kernels do not know."""
FUNCTIONS = {
    "": (get_nonlinearity("gelu"), get_nonlinearity("gelu_exact")),
    "given": OTHER,
    "gates given": (OTHER[0], torch.tanh),
    "scalars given": (torch.sigmoid, OTHER[1]),
}


@pytest.mark.parametrize("functions", FUNCTIONS.values(), ids=FUNCTIONS)
@pytest.mark.parametrize(("tokens", "channels", "scalars"), [(1, 1, 0), (60, 9, 4)])
def test_gate(tokens, channels, scalars, functions):
    x, grad = (state(tokens, channels, scalars) for _ in range(2))
    out, found = empty(x), empty(x)
    triton_gate.write_gated(x, out, *functions)
    triton_gate.write_gradient(x, grad, found, *functions)
    inputs = [part.requires_grad_() for part in exact(x)]
    expected = gated(*functions, *inputs)
    agree(out, expected, 2e-6)
    agree(found, torch.autograd.grad(expected, inputs, exact(grad)), 5e-6)


NUMBERS = range(max(len(tuned.candidates) for tuned in TUNED))


@pytest.mark.slow
@pytest.mark.parametrize("number", slow_but_for([1], NUMBERS))
def test_results_do_not_depend_on_launch_options(number, monkeypatch):
    monkeypatch.setenv("LGATR_TUNE", "0")

    def results():
        torch.manual_seed(0)
        x, y, grad = (state(40, 9, 0) for _ in range(3))
        places, functions = [empty(x) for _ in range(5)], FUNCTIONS[""]
        triton_products.write_product(x, y, places[0])
        triton_products.write_gradients(x, y, grad, (places[1], places[2]))
        triton_gate.write_gated(x, places[3], *functions)
        triton_gate.write_gradient(x, grad, places[4], *functions)
        return [part for place in places for part in place]

    before = results()
    for tuned in TUNED:
        chosen = tuned.candidates[number % len(tuned.candidates)]
        monkeypatch.setattr(tuned, "candidates", (chosen,))
    after = results()
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("fused_linear", [pytest.param(False, marks=pytest.mark.slow), True])
@pytest.mark.parametrize("kind", slow_but_for([LGATr, LGATrSlim], networks.KINDS))
def test_a_network_on_these_kernels(kind, fused_linear, monkeypatch, request):
    """Everything as on CUDA, but in the interpreter where there is none."""
    # In single precision, for which alone there are kernels on CUDA.
    blocks = 2 if networks.is_slim(kind) else 1  # slim ones share a kernel with the next block
    net = networks.build(kind, num_blocks=blocks).to(DEVICE, torch.float32)
    given = networks.inputs(kind, 2, 4)
    inputs = [x.detach().to(DEVICE, torch.float32).requires_grad_() for x in given]

    def run():
        outputs = [out for out in net(*inputs) if out is not None]
        total = sum((out * (1 + out)).sum() for out in outputs)
        return [*outputs, *torch.autograd.grad(total, [*inputs, *net.parameters()])]

    expected = run()
    used = request.getfixturevalue("as_on_cuda")
    candidates = FUSED_LINEAR if fused_linear else BY_LIBRARY
    for kernel in (triton_linear._PLAIN, triton_linear._GATED):
        monkeypatch.setattr(kernel, "candidates", candidates)
    # The scale is that of the largest entry: small ones are differences of such.
    for a, b in zip(run(), expected, strict=True):
        assert (a - b).abs().max() <= 1e-5 * b.abs().max().clamp(min=1.0)
    assert len(used) > (4 if networks.is_slim(kind) else 5)
