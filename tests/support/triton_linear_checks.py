"""Linear maps on CUDA against the plain formulas; run as ``triton_checks.py`` is."""

from __future__ import annotations

import pytest
import torch

from lgatr.ops.gate.stage import Gate, GatedLinear
from lgatr.ops.heads.stage import LinearOfHeads
from lgatr.ops.linear.stage import LINEAR_STAGE
from lgatr.utils.nonlinearities import NONLINEARITIES
from support.slow import slow_but_for
from support.triton_passes import passes_in_triton
from support.triton_states import BY_LIBRARY, DEVICE, FUSED_LINEAR, MISSING, agree, exact, state

triton_linear = pytest.importorskip("lgatr.ops.linear.triton_products", **MISSING)
triton_placement = pytest.importorskip("lgatr.ops.linear.triton_matrices", **MISSING)


@pytest.fixture
def as_on_cuda(monkeypatch):
    """Passes in Triton, wherever tensors lie; the names of the operations that used them."""
    with passes_in_triton(monkeypatch) as used:
        yield used


def linear_map(x, channels, scalars):
    """Matrices to a state of other channels, and a bias."""
    widths = (2 * channels + scalars, 2 * channels, 2 * channels)
    matrices = [
        torch.randn(o, part.shape[-1], device=DEVICE) for o, part in zip(widths, x, strict=True)
    ]
    return tuple(matrices), torch.randn(widths[0], device=DEVICE)


LINEAR = [
    # tokens; multivector and scalar channels in and out
    (1, 1, 0, 1, 0),
    (37, 5, 3, 9, 20),
    pytest.param(70, 20, 40, 3, 0, marks=pytest.mark.slow),
]


LIBRARY = pytest.param(BY_LIBRARY, marks=pytest.mark.slow)


@pytest.mark.parametrize("candidates", [FUSED_LINEAR, LIBRARY], ids=["", "library"])
@pytest.mark.parametrize(("tokens", "c", "s", "out_c", "out_s"), LINEAR)
class TestLinear:
    @pytest.fixture(autouse=True)
    def chosen(self, candidates, monkeypatch):
        for kernel in (triton_linear._PLAIN, triton_linear._GATED):
            monkeypatch.setattr(kernel, "candidates", candidates)

    @pytest.mark.parametrize("with_bias", [True, False])
    def test_forward(self, tokens, c, s, out_c, out_s, with_bias):
        x = state(tokens, c, s)
        matrices, bias = linear_map(x, out_c, out_s)
        out = triton_linear.product(x, matrices, bias if with_bias else None)
        expected = [a @ m.double().cpu().t() for a, m in zip(exact(x), matrices, strict=True)]
        if with_bias:
            expected[0] += bias.double().cpu()
        agree(out, expected, 2e-5)

    def test_gradient_of_the_state(self, tokens, c, s, out_c, out_s):
        x, grad = state(tokens, c, s), state(tokens, out_c, out_s)
        matrices, _ = linear_map(x, out_c, out_s)
        out = triton_linear.product(grad, tuple(m.t() for m in matrices), None)
        agree(out, [a @ m.double().cpu() for a, m in zip(exact(grad), matrices, strict=True)], 2e-5)

    @pytest.mark.parametrize(
        "functions",
        [(NONLINEARITIES["gelu"], torch.tanh), (torch.nn.functional.softplus, torch.sin)],
        ids=["evaluated", "given"],
    )
    def test_gates_while_reading(self, tokens, c, s, out_c, out_s, functions, as_on_cuda):
        x = state(tokens, c, s)
        matrices, bias = linear_map(x, out_c, out_s)
        stage = GatedLinear(Gate(*functions), LINEAR_STAGE)
        given = [t.requires_grad_() for t in (*x, *matrices, bias)]
        reference = [t.detach().double().cpu().requires_grad_() for t in given]
        expected, out = stage.plain(*reference), stage(*given)
        agree(out, expected, 2e-5)
        assert "gated_linear" in as_on_cuda
        grads = [torch.randn_like(t) for t in out]
        theirs = torch.autograd.grad(expected, reference, [g.double().cpu() for g in grads])
        for a, b in zip(torch.autograd.grad(out, given, grads), theirs, strict=True):
            scale = float(b.abs().max().clamp(min=1e-3))
            assert float((a.double().cpu() - b).abs().max()) <= 3e-5 * scale


@pytest.mark.parametrize("sizes", slow_but_for([(300, 3, 5)], [(300, 3, 5), (1000, 40, 0)]))
def test_gradients_of_matrices_from_several_chunks(sizes):
    """A chunk that begins or ends at the wrong token, or is added up twice."""
    tokens, c, s = sizes
    x, grad = state(tokens, c, s), state(tokens, c + 1, 2)
    found = triton_linear.weight_gradients(grad, x, True)
    expected = [
        (a.transpose(-1, -2) @ b).view(-1, a.shape[-1], b.shape[-1]).sum(0)
        for a, b in zip(exact(grad), exact(x), strict=True)
    ]
    for a, b in zip(found, [*expected, exact(grad)[0].sum(0)], strict=True):
        assert float((a.double().cpu() - b).abs().max()) <= 2e-6 * float(b.abs().max())


@pytest.mark.parametrize("with_bias", slow_but_for([True], [True, False]))
@pytest.mark.parametrize(
    ("tokens", "heads", "c", "s"),
    [
        (37, 3, 2, 5),
        *(pytest.param(*n, marks=pytest.mark.slow) for n in ((1, 1, 1, 0), (70, 8, 4, 8))),
    ],
)
def test_linear_map_of_heads(tokens, heads, c, s, with_bias, as_on_cuda):
    """Channels of a row looked for in another head or row, or gradients written there."""
    stage = LinearOfHeads(c, LINEAR_STAGE)
    x = state(tokens, heads * c, heads * s)
    matrices, bias = linear_map(x, 7, 3)
    heads = torch.randn(tokens, heads, 16 * c + s, device=DEVICE)
    given = [t.requires_grad_() for t in (heads, *matrices, *((bias,) if with_bias else ()))]
    reference = [t.detach().double().cpu().requires_grad_() for t in given]
    none = () if with_bias else (None,)
    expected, out = stage.plain(*reference, *none), stage(*given, *none)
    assert "linear_of_heads" in as_on_cuda
    agree(out, expected, 2e-5)
    grads = [torch.randn_like(t) for t in out]
    theirs = torch.autograd.grad(expected, reference, [g.double().cpu() for g in grads])
    for a, b in zip(torch.autograd.grad(out, given, grads), theirs, strict=True):
        assert float((a.double().cpu() - b).abs().max()) <= 3e-5 * float(b.abs().max())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(("rows", "count", "first"), [(1, 1, 0), (1, 700, 1), (2, 300, 0)])
def test_placement(rows, count, first, dtype):
    entries = torch.randn(90, dtype=dtype, device=DEVICE)
    table = torch.randint(first, 90 + first, (rows, count), device=DEVICE)
    signs = torch.randint(-1, 2, (rows, count), device=DEVICE).to(dtype)
    table[signs == 0] = 10**9  # such places are never looked at
    found = triton_placement.look_up(entries.split([20, 0, 69, 1]), table, signs, first)
    places = torch.where(signs == 0, 0, table - first)
    assert torch.equal(found, (entries[places] * signs).sum(0))
