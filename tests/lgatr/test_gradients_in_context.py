"""Gradients of layers among other operations: inputs that depend on each other, hooks, modes."""

from __future__ import annotations

import math

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.functional import jacobian
from torch.utils.flop_counter import FlopCounterMode

from lgatr import Packing
from lgatr.attention import (
    ALiBi,
    Causal,
    PagedCache,
    SlidingWindow,
    partial_attention,
    prepare_attention,
)
from lgatr.layers import EquiLayerNorm, EquiLinear
from lgatr.layers.slim import SlimGLU, SlimLinear, SlimMLP, SlimRMSNorm
from lgatr.primitives import equi_linear, geometric_product
from support import networks

PACKING = Packing.from_lengths([5, 3, 4])
TOKENS = PACKING.num_tokens
MASKS = {"none": {}, "causal": {"mask": Causal()}, "window": {"mask": SlidingWindow(1)},
         "alibi": {"score": ALiBi.geometric(2)}}  # fmt: skip
# Queries, keys and values that are the same, or made of each other.
RELATIONS = {
    "the same": lambda x: (x, x, x),
    "from one": lambda x: (x, x * x, x.sin()),
    "in a chain": lambda x: (q := x.sin(), k := q.cos(), k * q),
}


def attention(x, relation, options):
    attend = prepare_attention(x.device, x.dtype, packing=PACKING, **options)
    return attend(*RELATIONS[relation](x))


def slim(layer):
    def call(x):
        v = x.flatten(1)[:, :8].unflatten(1, (4, 2))
        # As scalars are in practice: functions of the same vectors.
        return torch.cat([out.flatten(1) for out in layer(v, (v[:, 0].square() + 1.0).log())], 1)

    return call


def multivectors(layer):
    def call(x):
        mv = x.flatten(1).unsqueeze(1).expand(-1, 2, -1)
        return torch.cat([out.flatten(1) for out in layer(mv, mv[:, :, 0].cos())], 1)

    return call


FUNCTIONS = {
    **{
        f"attention, {relation}, {mask}": (lambda x, r=relation, o=options: attention(x, r, o))
        for relation in RELATIONS
        for mask, options in MASKS.items()
    },
    "geometric_product": lambda x: geometric_product(x.flatten(1), x.flatten(1).sin()),
}
LAYERS = {
    "SlimRMSNorm": lambda: slim(SlimRMSNorm(2, 2)),
    "SlimLinear": lambda: slim(SlimLinear(2, 3, 2, 3)),
    "SlimGLU": lambda: slim(SlimGLU(2, 2, 2, 2)),
    "SlimMLP": lambda: slim(SlimMLP(2, 2)),
    "EquiLayerNorm": lambda: multivectors(EquiLayerNorm(2, 2, elementwise_affine=True)),
    "EquiLinear": lambda: multivectors(EquiLinear(2, 2, in_s_channels=2, out_s_channels=2)),
}


def function(name):
    if name in FUNCTIONS:
        return FUNCTIONS[name]
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        return LAYERS[name]()
    finally:
        torch.set_default_dtype(before)


every_function = pytest.mark.parametrize("name", [*FUNCTIONS, *LAYERS])


@every_function
def test_first_derivatives_are_the_same_where_second_ones_are_wanted(name):
    f = function(name)
    x = torch.randn(TOKENS, 2, 8, dtype=torch.float64, requires_grad=True)
    (plain,) = torch.autograd.grad(f(x).sin().sum(), x)
    (again,) = torch.autograd.grad(f(x).sin().sum(), x, create_graph=True)
    torch.testing.assert_close(again, plain)
    assert again.requires_grad


@every_function
def test_jacobians_at_once_equal_those_row_by_row(name):
    f = function(name)
    x = torch.randn(TOKENS, 2, 8, dtype=torch.float64)

    def few(x):
        return f(x).flatten(1)[:3, :4].sum(0)

    torch.testing.assert_close(jacobian(few, x, vectorize=True), jacobian(few, x))


@pytest.mark.parametrize("kind", networks.KINDS)
def test_hooks_on_tensors_run_once(kind):
    net = networks.build(kind, num_blocks=1)
    inputs = networks.inputs(kind, TOKENS)
    options = networks.attention(kind, packing=PACKING)
    parameters = [p for p in net.parameters() if p.requires_grad]

    def gradients(create_graph):
        loss = sum(out.square().sum() for out in net(*inputs, **options))
        return torch.autograd.grad(loss, parameters, create_graph=create_graph)

    for parameter in parameters:
        parameter.register_hook(lambda g: 2.0 * g)
    for plain, again in zip(gradients(False), gradients(True), strict=True):
        torch.testing.assert_close(again, plain)


@pytest.mark.parametrize("kind", networks.KINDS)
def test_modes_that_look_at_every_operation(kind):
    net = networks.build(kind, num_blocks=1)
    inputs = [x.detach() for x in networks.inputs(kind, 2, 5)]
    options = networks.attention(kind)
    # Other sizes than in any other test: nothing is remembered of them yet.
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        shapes = [out.shape for out in net(*map(mode.from_tensor, inputs), **options)]
    outputs = net(*inputs, **options)
    assert shapes == [out.shape for out in outputs]
    with FlopCounterMode(display=False) as counter:
        counted = net(*inputs, **options)
    assert counter.get_total_flops() > 0
    torch.testing.assert_close(counted, outputs)


def test_linear_maps_and_products_on_the_meta_device():
    x = torch.randn(5, 2, 16, device="meta")
    assert equi_linear(x, torch.randn(3, 2, 10, device="meta")).shape == (5, 3, 16)
    assert geometric_product(x, x).shape == x.shape


def test_linear_maps_to_nothing():
    x = torch.randn(5, 2, 16, requires_grad=True)
    weight = torch.randn(0, 2, 10, requires_grad=True)
    out = equi_linear(x, weight)
    out.sum().backward()
    assert out.shape == (5, 0, 16) and not x.grad.any() and weight.grad.shape == weight.shape


def test_other_default_devices_do_not_matter():
    net = networks.build(networks.KINDS[0], num_blocks=1)
    inputs = networks.inputs(networks.KINDS[0], TOKENS)
    with torch.device("meta"):
        packing = Packing.from_lengths([5, 3, 4])
        outputs = net(*inputs, packing=packing)
    torch.testing.assert_close(outputs, net(*inputs, packing=PACKING))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("compute", [None, "float32"])
def test_negative_scales_change_signs_alone(dtype, compute):
    q, k, v = (torch.randn(TOKENS, 2, 8) for _ in range(3))
    q, k, v = (800 * q).to(dtype), (k / 80_000).to(dtype), v.to(dtype)

    def run(q, scale):
        options = {"packing": PACKING, "scale": scale, "compute_dtype": compute}
        return prepare_attention(q.device, dtype, **options)(q, k, v)

    torch.testing.assert_close(run(q, -100.0), run(-q, 100.0))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_lowest_number_of_a_wider_format_is_no_minus_infinity(dtype):
    q, k, v = (torch.randn(1, 3, 1, 8).to(dtype) for _ in range(3))
    table = torch.zeros(3, 3)
    table[0], table[1] = torch.finfo(torch.float32).min, -math.inf
    out = prepare_attention(q.device, dtype, attn_mask=table)(q, k, v)
    # In float32, as the table is: all scores are the lowest number, and the row is a mean.
    scores = q[0, 0].float() @ k[0, :, 0].float().T / math.sqrt(8) + table[0, 0]
    expected = scores.softmax(-1) @ v[0, :, 0].float()
    torch.testing.assert_close(out[0, 0].float(), expected, atol=1e-2, rtol=1e-2)
    assert not out[:, 1].any()


def test_a_cache_filled_in_inference_mode_goes_on_outside_of_it():
    cache, q = PagedCache(8, 4), torch.randn(4, 2, 8)
    sequence = cache.new()

    def step(q):
        packing = Packing.from_lengths([len(q)])
        options = {"packing": packing, "cache": (cache, [sequence])}
        return prepare_attention(q.device, q.dtype, **options)(q, q, q)

    with torch.inference_mode():
        step(q[:3])
    with torch.no_grad():
        last = step(q[3:])
    whole = prepare_attention(q.device, q.dtype, packing=Packing.from_lengths([4]), mask=Causal())
    torch.testing.assert_close(last, whole(q, q, q)[3:])


def test_dense_attention_to_no_keys():
    q = torch.full((2, 3, 2, 8), math.inf, dtype=torch.float64, requires_grad=True)
    k, v = (torch.randn(2, 0, 2, 8, dtype=torch.float64, requires_grad=True) for _ in range(2))
    out = prepare_attention(q.device, q.dtype)(q, k, v)
    out.sum().backward()
    assert not out.any() and not q.grad.any()
    assert k.grad.shape == k.shape and v.grad.shape == v.shape
    assert partial_attention(q, k, v)[1].dtype == torch.float64
