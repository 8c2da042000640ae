"""Kernels with hand-written gradients, against automatic differentiation of the plain formulas."""

from __future__ import annotations

import pytest
import torch

from lgatr.layers import EquiLayerNorm
from lgatr.layout import Sectors
from lgatr.ops._runtime.cpu import has_native_kernels
from lgatr.ops._runtime.stage import Fused, OfSum, Stage
from lgatr.ops.gate.stage import Gate, GatedLinear
from lgatr.ops.heads.stage import FromHeads, LinearOfHeads, ToHeads
from lgatr.ops.linear.matrices import Assembly, SideBySide
from lgatr.ops.linear.placement import Placement, place, place_gradients
from lgatr.ops.linear.stage import LINEAR_STAGE, Linear
from lgatr.ops.norm.formula import EPSILON
from lgatr.ops.norm.stage import Norm, NormByOutputs, SumAndNorm, linear_norm
from lgatr.ops.product.formula import product_by_matrices, product_by_table
from lgatr.ops.product.stage import Product, ProductOfHalves, bilinear
from lgatr.utils.nonlinearities import get_nonlinearity

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


def norm(stage=Norm, gain=1.0):
    return stage(EPSILON, gain)


def gate(name="gelu", scalar_name="gelu"):
    return Gate(get_nonlinearity(name), get_nonlinearity(scalar_name))


FUNCTIONS = [get_nonlinearity(name) for name in ("gelu", "silu")]


def heads(metric=(True, False, False), count=2, scalars=3, epsilon=0.01, linear=LINEAR_STAGE):
    return ToHeads(linear, count, metric, scalars, epsilon)


def from_heads():
    return FromHeads(4)


def parameters(maps=10, mv=(2, 6), s=(3, 4), bias=True):
    """Of a linear map, with these channels in and out."""
    (i, o), (j, p), twice = mv, s, 2 if maps == 10 else 1
    shapes = ((o, i, maps), (twice * o, j), (p, twice * i), (p, j), (twice * o,), (p,))
    found = [torch.randn(shape, dtype=torch.float64).requires_grad_() for shape in shapes]
    if not p:
        found[2] = found[3] = found[5] = None
    return found if bias else [*found[:4], None, None]


def mapped(*sizes, groups=(1, 1), parts=0, **options):
    """The stage of a linear map by its parameters, and these."""
    found = parameters(*sizes, **options)
    out_groups, in_groups = groups
    return Linear(Assembly(out_groups, in_groups, parts)), found


def with_map(make, *sizes, **options):
    """A case whose linear map assembles its matrices."""
    stage, inputs = mapped(*sizes, **options)
    return make(stage), [*state(2, 3), *inputs]


def pair():
    (left, of_left), (right, of_right) = (mapped(mv=(2, 6), s=(3, 0)) for _ in range(2))
    return bilinear(left, right), [*state(2, 3), *of_left, *of_right]


def head_tensor():
    return torch.randn(TOKENS, 3, 8 * 4 + 5, dtype=torch.float64).requires_grad_()


CASES = {
    "linear": lambda: (LINEAR_STAGE, [*state(2, 3), *matrices(6, 4, 8, 7)]),
    "linear, dense": lambda: (LINEAR_STAGE, [*state(2, 3, (2, 3)), *matrices(6, 4, 8, 7, False)]),
    "norm": lambda: (norm(), [*state(3, 4), *gains(3, 4)]),
    "sum and norm": lambda: (SumAndNorm(norm()), [*state(3, 4), *state(3, 4), *gains(3, 4)]),
    "norm and what it is of": lambda: (
        SumAndNorm(norm(gain=0.7)), [*state(3, 4), None, None, None, *gains(3, 4)]
    ),
    "norm, dense": lambda: (norm(gain=0.7), [*state(3, 4, (2, 3)), *gains(3, 4)]),
    "norm, no gains": lambda: (norm(), [*state(3, 4), None, None]),
    "norm, no scalars": lambda: (norm(), [*state(3, 0), gains(3, 0)[0], None]),
    "norm, at its floor": lambda: (norm(), [*state(3, 4, size=1e-3), *gains(3, 4)]),
    "norm of outputs": lambda: (
        norm(NormByOutputs, 0.7), [*state(3, 4), None, None],
    ),
    "gate": lambda: (gate(), state(3, 4)),
    "gate, dense, no scalars": lambda: (gate("silu"), state(3, 0, (2, 3))),
    "gate, no multivectors": lambda: (gate(), state(0, 4)),
    "gate, dense, no multivectors": lambda: (gate("silu"), state(0, 4, (2, 3))),
    "gate, two functions": lambda: (gate("gelu", "gelu_exact"), state(3, 4)),
    "product": lambda: (Product(), [*state(3, 0), *state(3, 0)]),
    "product, dense": lambda: (Product(), [*state(3, 0, (2, 3)), *state(3, 0, (2, 3))]),
    "product of halves": lambda: (ProductOfHalves(), state(6, 0)),
    "heads": lambda: (heads(), [*state(2, 3), *matrices(3 * 2 * 4, 4, 3 * 2 * 7, 7)]),
    "heads, no bias": lambda: (
        heads(), [*state(2, 3), *matrices(3 * 2 * 4, 4, 3 * 2 * 7, 7, False)],
    ),
    "heads, another floor": lambda: (
        heads(epsilon=9.0), [*state(2, 3), *matrices(3 * 2 * 4, 4, 3 * 2 * 7, 7)],
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
        LinearOfHeads(2, LINEAR_STAGE), [head_tensor(), *matrices(4, 12, 8, 27)],
    ),
    "linear, norm": lambda: (
        Fused(LINEAR_STAGE, norm(NormByOutputs), 7, "unused"),
        [*state(2, 3), *matrices(6, 4, 10, 7), None, None],
    ),
    "gate, linear": lambda: (
        GatedLinear(Gate(*FUNCTIONS), LINEAR_STAGE), [*state(2, 3), *matrices(6, 4, 10, 7)],
    ),
    "linear, product": lambda: (
        Fused(LINEAR_STAGE, ProductOfHalves(), 7, "kept"), [*state(2, 3), *matrices(8, 4, 8, 7)],
    ),
    "linear map": lambda: with_map(lambda linear: linear),
    "linear map of the full group, no bias": lambda: with_map(
        lambda linear: linear, 5, bias=False
    ),
    "linear map, norm": lambda: _with_gains(
        with_map(lambda linear: linear_norm(linear, norm()))
    ),
    "linear map, heads": lambda: with_map(
        lambda linear: heads((True, False), scalars=3, linear=linear),
        10, (2, 8), (3, 12), groups=(4, 1), parts=2,
    ),
    "linear map, kept, product": lambda: with_map(
        lambda linear: Fused(linear, ProductOfHalves(), linear.count, "kept"), 10, (2, 6), (3, 0),
    ),
    "gate, linear map": lambda: with_map(
        lambda linear: GatedLinear(Gate(*FUNCTIONS), linear)
    ),
    "pair of linear maps, product": pair,
}  # fmt: skip


def gradients(outputs, inputs, probes):
    wanted = [x for x in inputs if x is not None]
    return torch.autograd.grad(outputs, wanted, probes, allow_unused=True)


def _with_gains(case):
    stage, inputs = case
    return stage, [*inputs, None, None]


@pytest.fixture(params=CASES)
def case(request):
    if not has_native_kernels(torch.zeros(1)):
        pytest.skip("no C++ compiler")
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
        scale = max((float(x) for x in b.detach().abs().flatten()), default=1.0)
        assert ((a.double() - b).abs() <= 1e-5 * max(scale, 1e-3)).all()


@pytest.mark.parametrize("count", [3, 5, 7, 11, 16])
def test_equal_scalars_have_exactly_their_mean(count):
    """A rounding of it would be magnified by the inverse deviation, here 316 times."""
    layer_norm = EquiLayerNorm()
    for value in torch.rand(50).tolist():
        normalised = layer_norm(torch.randn(2, 1, 16), torch.full((2, count), value))[1]
        assert not normalised.any(), value
    z, v, b = (t.detach().float() for t in state(2, count))
    maps = [torch.eye(4 + count), torch.eye(4), torch.eye(4), None]
    z[:, 4:] = torch.rand(TOKENS, 1)
    (head,) = ToHeads(LINEAR_STAGE, 1, (True,), count, 0.01)(z, v, b, *maps)
    assert not head.flatten(1)[:, 4 : 4 + count].any()


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
    if not isinstance(stage, (ProductOfHalves, Norm)) or inputs[0].dim() > 2:
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
        found = [k for child in kind.__subclasses__() for k in (child, *below(child))]
        return [k for k in found if k.__module__.startswith("lgatr.")]  # tests have some as well

    from lgatr.attention.backends.native.cpu import EventsStage
    from lgatr.attention.backends.native.cuda import PackedEvents
    from lgatr.attention.backends.native.masked import MaskedEvents
    from lgatr.attention.backends.native.torch_groups import GroupsStage

    elsewhere = {GroupsStage, EventsStage}  # tests/lgatr/attention/test_events.py
    elsewhere |= {MaskedEvents}  # tests/lgatr/attention/test_masked_events.py
    elsewhere |= {PackedEvents}  # tests/support/triton_attention_checks.py
    # tests/lgatr/ops/test_slim_stages.py
    elsewhere |= {k for k in below(Stage) if k.__module__.startswith("lgatr.ops.slim")}
    elsewhere |= {OfSum}  # by its subclasses
    tested = {type(make()[0]) for make in CASES.values()}
    assert set(below(Stage)) <= tested | elsewhere


class TestProductFormulas:
    def test_matrices_and_table_agree_with_all_derivatives(self):
        inputs = [*state(3, 0), *state(3, 0)]
        ours, theirs = (
            formula(Sectors(*inputs[:3]), Sectors(*inputs[3:]))
            for formula in (product_by_matrices, product_by_table)
        )
        probes = [torch.randn_like(out) for out in theirs]
        for a, b in (
            *zip(ours, theirs, strict=True),
            *zip(gradients(ours, inputs, probes), gradients(theirs, inputs, probes), strict=True),
        ):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


class TestPlacement:
    @pytest.mark.parametrize("maps", [10, 5])
    @pytest.mark.parametrize(("groups", "parts"), [((1, 1), 0), ((6, 1), 3), ((1, 2), 0)])
    def test_equal_to_its_formula(self, groups, parts, maps):
        twice = 2 if maps == 10 else 1
        shapes = ((6, 4, maps), (twice * 6, 2), (12, twice * 4), (12, 2), (twice * 6,), (12,))
        parameters = [torch.randn(s, dtype=torch.float64, requires_grad=True) for s in shapes]
        formula = Assembly(*groups, parts)
        placement = Placement(formula, tuple(x.shape for x in parameters))
        theirs = formula(*parameters)
        for a, b in zip(place(placement, [p.detach() for p in parameters]), theirs, strict=True):
            assert torch.equal(a, b)
        probes = [torch.randn_like(t) for t in theirs]
        for a, b in zip(
            place_gradients(placement, parameters, probes),
            gradients(theirs, parameters, probes),
            strict=True,
        ):
            torch.testing.assert_close(a, b, rtol=1e-13, atol=1e-13)

    def test_a_bias_of_one_side_alone_is_kept(self):
        left, right = (parameters(mv=(2, 6), s=(3, 0)) for _ in range(2))
        right[4] = None
        found = SideBySide(Assembly(), Assembly())(*left, *right)[3]
        assert torch.equal(found[:12], Assembly()(*left)[3]) and not found[12:].any()

    def test_entries_that_arrive_nowhere_have_no_gradient(self):
        placement = Placement(lambda x: (x[:2],), (torch.Size([4]),))
        assert placement.target_sign.sum(0).tolist() == [1, 1, 0, 0]

    def test_tables_are_brought_to_a_device_once(self):
        """Whatever other maps the network has: a copy in each step would stop a GPU."""
        placements = [Placement(lambda x: (x,), (torch.Size([n]),)) for n in range(1, 20)]
        where = torch.device("cpu"), torch.float32
        first = [placement.tables(*where) for placement in placements]
        assert all(p.tables(*where) is t for p, t in zip(placements, first, strict=True))
