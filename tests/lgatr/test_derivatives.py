"""Derivatives of every kind: reverse, forward, second, mapped over batches."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from lgatr import LGATr, LGATrSlim, Packing
from lgatr.primitives import (
    abs_squared_norm,
    equi_layer_norm,
    equi_linear,
    geometric_product,
    grade_involute,
    grade_project,
    inner_product,
    reverse,
    sdp_attention,
)
from support import networks
from support.slow import every

MV = (2, 3, 16)
# Functions of (multivectors, second argument), and the shape of that argument.
PRIMITIVES = {
    "equi_linear": (equi_linear, (2, 3, 10)),
    "equi_linear, full group": (equi_linear, (2, 3, 5)),
    "geometric_product": (geometric_product, MV),
    "inner_product": (inner_product, MV),
    "abs_squared_norm": (lambda x, y: abs_squared_norm(x) * y, MV),
    "equi_layer_norm": (lambda x, y: equi_layer_norm(x) * y, MV),
    "grade_project": (lambda x, y: grade_project(x) * y.unsqueeze(-2), MV),
    "reverse": (lambda x, y: reverse(x) * grade_involute(y), MV),
    "sdp_attention": (lambda x, y: sdp_attention(x[None], y[None], x[None] * y[None])[0], MV),
}
primitives = pytest.mark.parametrize("name", PRIMITIVES)


def arguments(name):
    function, shape = PRIMITIVES[name]
    x = torch.randn(*MV, dtype=torch.float64)
    return function, x, torch.randn(*shape, dtype=torch.float64)


@pytest.mark.parametrize("name", every(2, PRIMITIVES))
def test_first_derivatives(name):
    function, x, y = arguments(name)
    leaves = (x.requires_grad_(), y.requires_grad_())
    assert gradcheck(function, leaves, check_forward_ad=True)


@pytest.mark.parametrize("name", every(3, PRIMITIVES))
def test_second_derivatives(name):
    function, x, y = arguments(name)
    with sdpa_kernel(SDPBackend.MATH):  # fused attention kernels have no second derivative
        assert gradgradcheck(function, (x.requires_grad_(), y.requires_grad_()))


@primitives
def test_forward_mode_equals_reverse_mode(name):
    function, x, y = arguments(name)
    torch.testing.assert_close(jacfwd(function, (0, 1))(x, y), jacrev(function, (0, 1))(x, y))


@primitives
def test_mapped_equals_looped(name):
    function, x, y = arguments(name)
    many = torch.randn(4, *MV, dtype=torch.float64)
    looped = torch.stack([function(each, y) for each in many])
    torch.testing.assert_close(vmap(function, (0, None))(many, y), looped)


def tiny(kind):
    net = networks.build(
        kind,
        num_blocks=1,
        **{"hidden_s_channels": 4},
        **({"hidden_v_channels": 2} if networks.is_slim(kind) else {"hidden_mv_channels": 2}),
    )
    return net, networks.inputs(kind, 5)


kinds = pytest.mark.parametrize("kind", networks.KINDS, ids=lambda kind: kind.__name__)
packings = pytest.mark.parametrize("packed", [False, True], ids=["dense", "packed"])


def call(kind, net, values, packed):
    options = {"packing": Packing.from_lengths([2, 3])} if packed else {}
    return net(*values, **networks.attention(kind, **options))


@kinds
@packings
def test_derivatives_of_networks(kind, packed):
    net, values = tiny(kind)
    first, *rest = (v.detach() for v in values)

    def scalars(x):
        return call(kind, net, (x, *rest), packed)[1]

    tangent = torch.randn_like(first)
    jacobian = jacrev(scalars)(first)
    _, pushed = jvp(scalars, (first,), (tangent,))
    torch.testing.assert_close(pushed, (jacobian * tangent).sum((-1, -2, -3)))
    torch.testing.assert_close(jacfwd(scalars)(first), jacobian)
    leaves = tuple(v.clone().requires_grad_() for v in (first, *rest))
    assert gradcheck(lambda *v: call(kind, net, v, packed), leaves, fast_mode=True)


@pytest.mark.parametrize("kind", [LGATr, LGATrSlim], ids=lambda kind: kind.__name__)
@packings
def test_second_derivatives_of_networks(kind, packed):
    net, values = tiny(kind)
    first, second = (v.detach() for v in values)
    matrix = hessian(lambda x: call(kind, net, (x, second), packed)[1].sum())(first)
    size = first.numel()
    matrix = matrix.reshape(size, size)
    torch.testing.assert_close(matrix, matrix.T)
    with sdpa_kernel(SDPBackend.MATH):
        leaf = first.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(
            call(kind, net, (leaf, second), packed)[1].sum(), leaf, create_graph=True
        )
        direction = torch.randn_like(first)
        (product,) = torch.autograd.grad((gradient * direction).sum(), leaf)
    torch.testing.assert_close(product.flatten(), matrix @ direction.flatten())


@kinds
@packings
def test_networks_mapped_over_events_and_weights(kind, packed):
    net, values = tiny(kind)
    first, *rest = (v.detach() for v in values)
    many = torch.stack([first, 0.5 * first, -first])
    looped = torch.stack([call(kind, net, (x, *rest), packed)[0] for x in many])
    mapped = vmap(lambda x: call(kind, net, (x, *rest), packed)[0])(many)
    torch.testing.assert_close(mapped, looped)

    def loss(weights, x):
        module = lambda *v, **o: functional_call(net, weights, v, o)  # noqa: E731
        return call(kind, module, (x, *rest), packed)[1].square().sum()

    weights = {k: v.detach() for k, v in net.named_parameters()}
    per_event = vmap(grad(loss), (None, 0))(weights, many)
    for index, x in enumerate(many):
        single = grad(loss)(weights, x)
        for name, gradient in single.items():
            torch.testing.assert_close(per_event[name][index], gradient)
