"""Kernels with hand-written gradients, against automatic differentiation of the plain formulas."""

from __future__ import annotations

import threading

import networks
import pytest
import torch
from torch.nn import functional as F

from lgatr import Packing
from lgatr.layout import Sectors
from lgatr.ops._runtime import matmul
from lgatr.ops._runtime.scratch import scratch
from lgatr.ops._runtime.stage import Stage, Then
from lgatr.ops.heads.from_heads import FromHeadsStage
from lgatr.ops.heads.stage import HeadsStage
from lgatr.ops.linear.stage import Placement
from lgatr.ops.product import formula as weyl
from lgatr.ops.product.stage import ProductStage, signed_products_reference
from lgatr.primitives import attention, linear, nonlinearities, normalization
from lgatr.primitives.linear import LINEAR, SectorMatrices

TOKENS = 7


def state(channels, scalars, leading=(TOKENS,), dtype=torch.float64, size=1.0):
    shapes = (
        (*leading, 2 * channels + scalars),
        (4, *leading, 2 * channels),
        (3, *leading, 2 * channels),
    )
    return [(size * torch.randn(shape, dtype=dtype)).requires_grad_() for shape in shapes]


def matrices(rows, columns, rows_z, columns_z, bias=True):
    shapes = ((rows_z, columns_z), (rows, columns), (rows, columns))
    found = [torch.randn(s, dtype=torch.float64).requires_grad_() for s in shapes]
    return [*found, torch.randn(rows_z, dtype=torch.float64).requires_grad_() if bias else None]


def gains(channels, scalars):
    shapes = ((channels, 5), (scalars,))
    return [torch.randn(s, dtype=torch.float64).requires_grad_() for s in shapes]


def norm(stage=normalization.NormStage, gain=1.0):
    from functools import partial

    epsilon = normalization.EPSILON
    return stage(partial(normalization._plain_norm, epsilon, gain), epsilon, gain)


def gate(name="gelu", scalar_name="gelu"):
    from functools import partial

    functions = [nonlinearities.get_nonlinearity(n) for n in (name, scalar_name)]
    return nonlinearities.GateStage(partial(nonlinearities._plain_gate, *functions), *functions)


FUNCTIONS = [nonlinearities.get_nonlinearity(name) for name in ("gelu", "silu")]


def heads(metric=(True, False, False), count=2, scalars=3, epsilon=0.01):
    def formula(z, v, b, *map):
        y = linear.sector_linear(Sectors(z, v, b), SectorMatrices(*map))
        grouped = Sectors(*(t.unflatten(-1, (len(metric), count, -1)) for t in y))
        return attention.sector_heads(grouped, metric, epsilon is not None).unbind(-3)

    return HeadsStage(formula, count, metric, scalars, epsilon)


def from_heads():
    return FromHeadsStage(lambda x: tuple(attention.sectors_from_heads(x, 2)), 4)


def head_tensor():
    return torch.randn(TOKENS, 3, 8 * 4 + 5, dtype=torch.float64).requires_grad_()


CASES = {
    "linear": lambda: (LINEAR, [*state(2, 3), *matrices(6, 4, 8, 7)]),
    "linear, dense": lambda: (LINEAR, [*state(2, 3, (2, 3)), *matrices(6, 4, 8, 7, False)]),
    "norm": lambda: (norm(), [*state(3, 4), *gains(3, 4)]),
    "norm, dense": lambda: (norm(gain=0.7), [*state(3, 4, (2, 3)), *gains(3, 4)]),
    "norm, no gains": lambda: (norm(), [*state(3, 4), None, None]),
    "norm, no scalars": lambda: (norm(), [*state(3, 0), gains(3, 0)[0], None]),
    "norm, at its floor": lambda: (norm(), [*state(3, 4, size=1e-3), *gains(3, 4)]),
    "norm of outputs": lambda: (
        norm(normalization.NormOfOutputs, 0.7), [*state(3, 4), None, None],
    ),
    "gate": lambda: (gate(), state(3, 4)),
    "gate, dense, no scalars": lambda: (gate("silu"), state(3, 0, (2, 3))),
    "gate, two functions": lambda: (gate("gelu", "gelu_exact"), state(3, 4)),
    "product": lambda: (ProductStage(), state(6, 0)),
    "heads": lambda: (heads(), [*state(2, 3), *matrices(3 * 2 * 4, 4, 3 * 2 * 7, 7)]),
    "heads, no bias": lambda: (
        heads(), [*state(2, 3), *matrices(3 * 2 * 4, 4, 3 * 2 * 7, 7, False)],
    ),
    "heads, one part": lambda: (heads((True,)), [*state(2, 3), *matrices(8, 4, 14, 7)]),
    "heads, no scalars": lambda: (
        heads((False, True), scalars=0), [*state(2, 0), *matrices(16, 4, 16, 4)],
    ),
    "heads, no norm": lambda: (
        heads(epsilon=None), [*state(2, 3), *matrices(24, 4, 42, 7)],
    ),
    "heads at the floor": lambda: (
        heads(), [*state(2, 3, size=1e-3), *matrices(24, 4, 42, 7, False)],
    ),
    "from heads": lambda: (from_heads(), [head_tensor()]),
    "from heads, linear": lambda: (
        Then(from_heads(), LINEAR, 1, "again"), [head_tensor(), *matrices(4, 12, 8, 27)],
    ),
    "linear, norm": lambda: (
        Then(LINEAR, norm(normalization.NormOfOutputs), 7, "nothing"),
        [*state(2, 3), *matrices(6, 4, 10, 7), None, None],
    ),
    "gate, linear": lambda: (
        nonlinearities.gated_linear_stage(*FUNCTIONS), [*state(2, 3), *matrices(6, 4, 10, 7)],
    ),
    "linear, product": lambda: (
        Then(LINEAR, ProductStage(), 7, "kept"), [*state(2, 3), *matrices(8, 4, 8, 7)],
    ),
}  # fmt: skip


def gradients(outputs, inputs, probes):
    wanted = [x for x in inputs if x is not None]
    return torch.autograd.grad(outputs, wanted, probes, allow_unused=True)


@pytest.fixture(params=CASES)
def case(request, kernels):
    torch.manual_seed(0)
    return CASES[request.param]()


def test_outputs_and_gradients_are_those_of_the_formula(case):
    stage, inputs = case
    ours, theirs = stage(*inputs), stage.plain(*inputs)
    assert any("_Run" in type(out.grad_fn).__name__ for out in ours)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    probes = [torch.randn_like(out) for out in theirs]
    for a, b in zip(
        gradients(ours, inputs, probes), gradients(theirs, inputs, probes), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-11)


def test_single_precision(case):
    stage, inputs = case
    exact = stage.plain(*inputs)
    single = [None if x is None else x.detach().float().requires_grad_() for x in inputs]
    ours = stage(*single)
    probes = [torch.randn_like(out) for out in exact]
    theirs = gradients(exact, inputs, probes)
    found = gradients(ours, single, [p.float() for p in probes])
    for a, b in (*zip(ours, exact, strict=True), *zip(found, theirs, strict=True)):
        scale = b.abs().max().clamp(min=1e-3)
        assert (a.double() - b).abs().max() <= 1e-5 * scale


def test_without_gradients(case):
    stage, inputs = case
    with torch.no_grad():
        for a, b in zip(stage(*inputs), stage.plain(*inputs), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_second_derivatives(case):
    stage, inputs = case
    given = [x for x in inputs if x is not None]

    def function(*values):
        left = iter(values)
        return stage(*(None if x is None else next(left) for x in inputs))

    assert torch.autograd.gradgradcheck(function, given, fast_mode=True, atol=1e-4)


def test_forward_mode_and_vmap(case):
    stage, inputs = case
    if not isinstance(stage, (ProductStage, normalization.NormStage)) or inputs[0].dim() > 2:
        pytest.skip("one stage suffices: all ask the same question")
    first, *rest = inputs
    tangent = torch.randn_like(first)
    _, ours = torch.func.jvp(lambda x: stage(x, *rest)[0], (first,), (tangent,))
    _, theirs = torch.func.jvp(lambda x: stage.plain(x, *rest)[0], (first,), (tangent,))
    torch.testing.assert_close(ours, theirs)
    both = torch.stack([first, 2 * first])
    mapped = torch.func.vmap(lambda x: stage(x, *rest)[0])(both)
    torch.testing.assert_close(mapped[1], stage(2 * first, *rest)[0])


def test_strided_inputs_and_gradients(case):
    stage, inputs = case

    def strided(x):
        if x is None:
            return None
        return x.detach().repeat_interleave(2, -1)[..., ::2].requires_grad_()

    views = [strided(x) for x in inputs]
    ours, theirs = stage(*views), stage.plain(*inputs)
    probes = [torch.randn_like(out) for out in theirs]
    found = gradients(ours, views, [strided(p).detach() for p in probes])
    for a, b in zip(found, gradients(theirs, inputs, probes), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-11)


def test_every_stage_is_tested():
    def below(kind):
        return [k for child in kind.__subclasses__() for k in (child, *below(child))]

    from lgatr.attention.backends.native.cpu import EventsStage
    from lgatr.attention.backends.native.grouped import GroupsStage
    from lgatr.ops.linear.stage import PlacementStage

    elsewhere = {PlacementStage, GroupsStage, EventsStage}  # below; tests/test_events.py
    # tests/test_slim_stages.py
    elsewhere |= {k for k in below(Stage) if k.__module__.startswith("lgatr.ops.slim")}
    tested = {type(make()[0]) for make in CASES.values()}
    assert set(below(Stage)) <= tested | elsewhere


class TestProduct:
    @pytest.mark.parametrize("plane", [1, 10, 1 << 17])
    def test_pieces_make_the_whole(self, plane, monkeypatch):
        monkeypatch.setattr(weyl, "_PLANE", plane)
        x, y, grad = (Sectors(*(t.detach() for t in state(3, 0))) for _ in range(3))
        expected = signed_products_reference(x, y)
        for a, b in zip(weyl.product(x, y), expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
        found = weyl.product_gradients(x, y, grad, (weyl.empty(x), weyl.empty(y)))
        of_x = signed_products_reference(grad, y, (2, 1, 0))
        of_y = signed_products_reference(x, grad, (0, 2, 1))
        for a, b in zip((*found[0], *found[1]), (*of_x, *of_y), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)

    def test_later_calls_leave_earlier_results_alone(self):
        x, y = (Sectors(*(t.detach() for t in state(3, 0))) for _ in range(2))
        first = weyl.product(x, y)
        copies = [t.clone() for t in first]
        weyl.product(y, first)
        assert all(torch.equal(a, b) for a, b in zip(first, copies, strict=True))


class TestMatmul:
    @pytest.mark.parametrize("bias", [True, False])
    @pytest.mark.parametrize("shape", [(300, 40), (2, 150, 40)], ids=str)
    @pytest.mark.parametrize("smallest", [1, 1 << 30], ids=["onednn", "mkl"])
    def test_linear(self, shape, bias, smallest, monkeypatch):
        monkeypatch.setattr(matmul, "_SMALLEST", smallest)
        x, w = torch.randn(shape, requires_grad=True), torch.randn(30, 40, requires_grad=True)
        b = torch.randn(30, requires_grad=True) if bias else None
        given = [t for t in (x, w, b) if t is not None]
        ours = matmul.linear(x, w, b)
        exact = [t.detach().double().requires_grad_() for t in given]
        theirs = F.linear(*exact)
        probe = torch.randn_like(theirs)
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-5, atol=1e-5)
        found = torch.autograd.grad(ours, given, probe.float(), create_graph=True)
        expected = torch.autograd.grad(theirs, exact, probe, create_graph=True)
        for a, e in zip(found, expected, strict=True):
            torch.testing.assert_close(a.double(), e, rtol=1e-4, atol=1e-4)
        again = torch.autograd.grad(found[0].square().sum(), w)[0]
        (twice,) = torch.autograd.grad(expected[0].square().sum(), exact[1])
        torch.testing.assert_close(again.double(), twice, rtol=1e-4, atol=1e-3)

    def test_without_the_operator(self, monkeypatch):
        x, w = torch.randn(300, 40), torch.randn(30, 40)
        monkeypatch.setattr(matmul, "_available", lambda: False)
        assert torch.equal(matmul.linear(x, w), F.linear(x, w))

    def test_an_operator_that_changed_its_arguments_is_not_used(self, monkeypatch):
        def changed(*args):
            raise RuntimeError("expected at most 5 arguments")

        matmul._available.cache_clear()
        monkeypatch.setattr(matmul, "_onednn", changed)
        assert not matmul._available()
        matmul._available.cache_clear()


class TestPlacement:
    @pytest.mark.parametrize("maps", [10, 5])
    @pytest.mark.parametrize(("groups", "parts"), [((1, 1), 0), ((6, 1), 3), ((1, 2), 0)])
    def test_equal_to_its_formula(self, groups, parts, maps):
        from functools import partial

        twice = 2 if maps == 10 else 1
        shapes = ((6, 4, maps), (twice * 6, 2), (12, twice * 4), (12, 2), (twice * 6,), (12,))
        parameters = [torch.randn(s, dtype=torch.float64, requires_grad=True) for s in shapes]
        mixing = linear.ScalarMixing(*parameters[1:])
        ours = linear.sector_matrices(parameters[0], mixing, *groups, parts)
        theirs = partial(linear._matrices, *groups, parts)(*parameters)
        probes = [torch.randn_like(t) for t in theirs]
        for a, b in zip(ours, theirs, strict=True):
            assert torch.equal(a, b)
        for a, b in zip(
            gradients(ours, parameters, probes),
            gradients(theirs, parameters, probes),
            strict=True,
        ):
            torch.testing.assert_close(a, b, rtol=1e-13, atol=1e-13)

    def test_entries_that_arrive_nowhere_have_no_gradient(self):
        placement = Placement(lambda x: (x[:2],), (torch.Size([4]),))
        assert placement.target_sign.sum(0).tolist() == [1, 1, 0, 0]

    def test_tables_are_brought_to_a_device_once(self):
        """Whatever other maps the network has: a copy in each step would stop a GPU."""
        placements = [Placement(lambda x: (x,), (torch.Size([n]),)) for n in range(1, 20)]
        where = torch.device("cpu"), torch.float32
        first = [placement.tables(*where) for placement in placements]
        assert all(p.tables(*where) is t for p, t in zip(placements, first, strict=True))


def test_scratch_is_kept_and_belongs_to_one_thread():
    like = torch.zeros(1)
    first = scratch("test", (4, 5), like)
    assert scratch("test", (3, 2), like).data_ptr() == first.data_ptr()
    assert scratch("other", (4, 5), like).data_ptr() != first.data_ptr()
    seen = []
    thread = threading.Thread(target=lambda: seen.append(scratch("test", (4, 5), like)))
    thread.start()
    thread.join()
    assert seen[0].data_ptr() != first.data_ptr()


@pytest.mark.parametrize("kind", networks.KINDS)
def test_threads_do_not_disturb_each_other(kind):
    net = networks.build(kind)
    batches = [networks.inputs(kind, 1, n) for n in (5, 9, 13, 17)]
    expected = [net(*batch) for batch in batches]
    found: list = [None] * len(batches)

    def work(i):
        for _ in range(3):
            found[i] = net(*batches[i])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(batches))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for ours, theirs in zip(found, expected, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def kept_bytes(function):
    """What automatic differentiation keeps, each storage once."""
    storages = {}

    def pack(x):
        storages[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        out = function()
    return sum(storages.values()), out


def test_stages_keep_less_than_the_formulas(monkeypatch):
    from lgatr import LGATr

    net = networks.build(LGATr, torch.float32)
    packing = Packing.from_lengths([30, 50, 40])
    x, s = networks.inputs(LGATr, 120, dtype=torch.float32)
    ours, _ = kept_bytes(lambda: net(x, s, packing=packing))
    monkeypatch.setattr(Stage, "__call__", lambda self, *inputs: self.plain(*inputs))
    plain, _ = kept_bytes(lambda: net(x, s, packing=packing))
    assert ours < 0.6 * plain
