"""Layers that users change after they were built follow the change, or refuse it."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

from lgatr import CrossAttentionConfig, LGATr, LGATrSlim, SelfAttentionConfig
from lgatr.layers import (
    CrossAttention,
    EquiLayerNorm,
    EquiLinear,
    GeometricBilinear,
    ScalarGatedNonlinearity,
    SelfAttention,
)
from lgatr.layers.base import Layer
from lgatr.layers.slim.mlp import SlimGLU
from lgatr.layout import Sectors
from support import networks
from support.slow import slow_but_for


def multivectors(channels=3):
    return torch.randn(5, channels, 16, dtype=torch.float64)


class TestParameters:
    def test_a_bias_is_added(self):
        layer, x = EquiLinear(3, 4, bias=False).double(), multivectors()
        before = layer(x)[0]
        layer.bias = nn.Parameter(torch.ones(4, 1, dtype=torch.float64))
        after = layer(x)[0]
        torch.testing.assert_close(after[..., 0], before[..., 0] + 1)
        after.sum().backward()
        assert layer.bias.grad.eq(5).all()

    def test_a_bias_is_removed(self):
        layer, x = EquiLinear(3, 4).double(), multivectors()
        with torch.no_grad():
            layer.bias.fill_(2.0)
        before = layer(x)[0]
        layer.bias = None
        torch.testing.assert_close(layer(x)[0][..., 0], before[..., 0] - 2)

    def test_outputs_are_pruned(self):
        layer, x = EquiLinear(3, 4, bias=False).double(), multivectors()
        before = layer(x)[0]
        layer.weight = nn.Parameter(layer.weight[:2].detach())
        torch.testing.assert_close(layer(x)[0], before[:, :2])

    def test_a_weight_of_as_many_entries_in_another_shape_is_refused(self):
        layer = EquiLinear(3, 6, bias=False)
        layer.weight = nn.Parameter(torch.randn(2, 9, 10))
        with pytest.raises(RuntimeError):
            layer(torch.randn(5, 3, 16))


class TestInnerLayers:
    def bilinear(self):
        torch.manual_seed(0)
        return GeometricBilinear(3, 4).double()

    @pytest.mark.parametrize("way", ["None", "del", "setattr", "add_module", "register_module"])
    def test_a_norm_is_taken_away(self, way):
        layer, x = self.bilinear(), multivectors()
        expected = layer.linear_out(*layer_product(layer, x))
        if way == "None":
            layer.norm = None
        elif way == "del":
            del layer.norm
            layer.norm = None
        elif way == "setattr":
            layer.norm = nn.Identity()
        else:
            getattr(layer, way)("norm", nn.Identity())
        for changed in (layer, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
            torch.testing.assert_close(changed(x)[0], expected[0])

    def test_put_back_it_is_fused_again(self):
        layer, x = self.bilinear(), multivectors()
        norm, before = layer.norm, layer(x)[0]
        layer.norm = nn.Identity()
        assert layer.must_call_inner_layers()
        layer.norm = norm
        assert not layer.must_call_inner_layers()
        assert torch.equal(layer(x)[0], before)

    def test_what_was_replaced_is_not_kept(self):
        layer = self.bilinear()
        size = len(pickle.dumps(layer))
        layer.linear_left = nn.Identity()
        assert len(pickle.dumps(layer)) < size - 8 * 4 * 3 * 10

    def test_a_norm_is_put_into_cross_attention(self):
        def built(**options):
            torch.manual_seed(0)
            config = CrossAttentionConfig(
                q_mv_channels=3, kv_mv_channels=3, out_mv_channels=3, num_heads=1, **options
            )
            return CrossAttention(config).double()

        x, layer = multivectors(), built(head_norm=False)
        layer.norm = EquiLayerNorm()
        torch.testing.assert_close(layer(x, x)[0], built()(x, x)[0])
        layer.norm = None
        torch.testing.assert_close(layer(x, x)[0], built(head_norm=False)(x, x)[0])

    @pytest.mark.parametrize("multi_query", [False, True])
    def test_queries_keys_and_values_on_their_own(self, multi_query):
        config = SelfAttentionConfig(
            in_mv_channels=3, out_mv_channels=3, num_heads=3, multi_query=multi_query
        )
        layer, seen = SelfAttention(config).double().qkv_module, []
        expected = layer(multivectors())
        layer.norm_qkv.register_forward_hook(lambda *found: seen.append(found))
        torch.manual_seed(0)
        found = layer(multivectors())
        assert len(seen) == (3 if multi_query else 1)
        for a, b in zip(found[:3], expected[:3], strict=True):
            assert a.shape == b.shape

    @pytest.mark.parametrize("kind", slow_but_for([LGATrSlim], networks.KINDS))
    def test_compiled(self, kind):
        """With a backend that compiles nothing: tracing is what differs."""
        net = networks.build(kind, torch.float32)
        values = networks.inputs(kind, 2, 5, dtype=torch.float32)
        for layer in net.modules():
            if isinstance(layer, Layer) and "norm" in layer.fused and layer.norm is not None:
                layer.register_module("norm", nn.Identity())
        expected = net(*values)
        torch.compiler.reset()
        found = torch.compile(net, backend="eager")(*values)
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)

    def test_a_subclass_with_its_own_computation_decides_itself(self):
        class Own(GeometricBilinear):
            def forward_hidden(self, x):
                return Sectors(*(torch.zeros_like(t) for t in self.linear_left(x)))

        layer = Own(3, 4)
        layer.norm = nn.Identity()
        assert not layer(torch.randn(5, 3, 16))[0].any()


def layer_product(layer, x):
    """The product inside of a bilinear layer."""
    from lgatr.primitives.bilinear import geometric_product

    return (geometric_product(layer.linear_left(x)[0], layer.linear_right(x)[0]),)


def test_settings_are_read_only():
    gate, glu, norm = ScalarGatedNonlinearity(), SlimGLU(3, 3, 4, 4), EquiLayerNorm()
    for layer, name in (
        (gate, "function"), (gate, "scalar_function"), (glu, "function"), (glu, "function_v"),
        (norm, "epsilon"), (norm, "gain"),
    ):  # fmt: skip
        with pytest.raises(AttributeError, match=name):
            setattr(layer, name, getattr(layer, name))


def test_a_second_hessian_in_one_program():
    """Tables must not be kept that were made inside of a transformation."""
    layer = EquiLinear(1, 1, bias=False)
    x = torch.randn(2, 1, 16)
    first, second = (torch.func.hessian(lambda x: layer(x)[0].square().sum())(x) for _ in range(2))
    assert torch.equal(first, second)


def test_networks_are_built_as_sealed():
    for kind in networks.KINDS:
        for layer in networks.build(kind, torch.float32).modules():
            if isinstance(layer, Layer) and layer.fused:
                assert not layer.must_call_inner_layers(), type(layer).__name__
    assert LGATr in networks.KINDS


@pytest.mark.parametrize("kind", [LGATr, LGATrSlim])
class TestNormsOfBlocks:
    """Norms run in one operation with the sum before them, unless somebody changes them."""

    @pytest.fixture
    def net(self, kind):
        return networks.build(kind)

    @pytest.fixture
    def output(self, kind, net):
        inputs = [x.detach() for x in networks.inputs(kind, 2, 4)]
        return lambda: net(*inputs)[0].detach()

    def test_another_setting(self, net, output):
        norm = net.blocks[0].norm1
        before, norm.stage = output(), type(norm.stage)(*(0.5, 2.0)[: len(vars(norm.stage))])
        after = output()
        assert not torch.allclose(before, after)
        with norm.register_forward_hook(lambda *_: None):
            torch.testing.assert_close(after, output())

    @pytest.mark.parametrize("name", ["forward", "forward_hidden"])
    @pytest.mark.parametrize("place", ["norm1", "norm2"])
    def test_another_computation(self, net, output, name, place):
        norm, called = getattr(net.blocks[0], place), []
        computed = getattr(norm, name)
        setattr(norm, name, lambda x: called.append(1) or computed(x))
        before = output()
        assert called
        delattr(norm, name)
        torch.testing.assert_close(before, output())

    def test_another_class(self, net, output):
        norm = net.blocks[0].norm1
        before = output()

        class Doubled(type(norm)):
            def forward_hidden(self, x):
                return type(x)(*(2 * part for part in super().forward_hidden(x)))

        norm.__class__ = Doubled
        assert not torch.allclose(before, output())

    def test_hooks_of_all_modules(self, net, output):
        seen, before = [], output()
        hook = nn.modules.module.register_module_forward_hook(lambda m, *_: seen.append(m))
        try:
            torch.testing.assert_close(before, output())
        finally:
            hook.remove()
        inner = {m for m in net.modules() if isinstance(m, Layer)}
        assert inner <= set(seen)


STAGES = {
    kind: [
        name
        for name, layer in networks.build(kind, num_blocks=1).named_modules()
        if "stage" in vars(layer)
    ]
    for kind in networks.KINDS
}
"""Layers that are one operation."""


CONDITIONAL = [kind for kind in networks.KINDS if "Conditional" in kind.__name__]


def doubled(layer):
    """Give a layer another operation, whose results are twice as large."""
    stage = layer.stage
    layer.stage = lambda *inputs: tuple(2 * out for out in stage(*inputs))


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        pytest.param(kind, name, marks=[pytest.mark.slow] * (kind in CONDITIONAL))
        for kind in STAGES
        for name in STAGES[kind]
    ],
)
def test_another_operation(kind, name):
    """Whether it is fused with others or not."""
    net, inputs = networks.build(kind, num_blocks=1), networks.inputs(kind, 2, 4)
    before = net(*inputs)[0]
    doubled(net.get_submodule(name))
    after = net(*inputs)[0]
    hook = nn.modules.module.register_module_forward_hook(lambda *_: None)
    try:
        apart = net(*inputs)[0]
    finally:
        hook.remove()
    torch.testing.assert_close(after, apart)
    # Between them and the output a norm may divide by a common factor.
    if torch.allclose(after, before):
        assert "linear" in name


@pytest.mark.slow
@pytest.mark.parametrize("kind", slow_but_for([LGATrSlim], networks.KINDS))
def test_another_operation_in_a_compiled_network(kind):
    net, inputs = networks.build(kind, num_blocks=1), networks.inputs(kind, 2, 4)
    for name in STAGES[kind]:
        if "mlp" in name and "linear" not in name:  # gates, gated units, and norms
            doubled(net.get_submodule(name))
    expected = net(*inputs)
    torch.compiler.reset()
    for a, b in zip(torch.compile(net, backend="eager")(*inputs), expected, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("shape", [(), (3,), (9, 2)])
def test_scales_of_other_shapes_are_refused(shape):
    net = networks.build(LGATr)
    net.blocks[0].attention.head_scale = nn.Parameter(torch.ones(shape, dtype=torch.float64))
    inputs = [x.detach() for x in networks.inputs(LGATr, 2, 4)]
    with pytest.raises(ValueError, match="head_scale has one number for each of"):
        net(*inputs)
