"""Hooks on the layers inside a network: they run once per forward pass and see what layers do."""

from __future__ import annotations

import copy
from collections import Counter

import pytest
import torch
from torch import nn

from lgatr import ConditionalLGATr, LGATr, LGATrSlim
from lgatr.layers import GradeDropout, SlimDropout
from lgatr.layers.base import Layer
from lgatr.layout import Sectors, SlimState, from_sectors
from support import networks
from support.slow import every, slow_but_for


def variants(kind):
    slim = networks.is_slim(kind)
    found = {"plain": {}, "dropout": {"dropout_prob": 0.5}}
    if slim:
        return found | {"three layers": {"num_layers_mlp": 3}, "biases": {"qkv_bias": True}}
    found |= {"three layers": {"mlp": {"num_layers_mlp": 3}}}
    found |= {"no product": {"primitives": {"geometric_product": False}}}
    found |= {"full group": {"primitives": {"subgroup": False}}}
    name = "crossattention" if kind is ConditionalLGATr else "attention"
    return found | {"multi-query": {name: {"num_heads": 2, "multi_query": True}}}


CASES = [(kind, name) for kind in networks.KINDS for name in variants(kind)]


def tensors(values):
    """All tensors in nested tuples."""
    if isinstance(values, torch.Tensor):
        return [values]
    return [t for v in values for t in tensors(v)] if isinstance(values, (tuple, list)) else []


def inner_layers(net):
    """Everything that computes inside the network, with how often it runs in a forward pass."""
    layers = {name: m for name, m in net.named_modules() if isinstance(m, Layer)}
    times = dict.fromkeys(layers, 1)
    for name in layers:
        sides = {"norm_qkv": "v_linear", "norm": "kv_linear"}  # norms of several parts
        parent, _, last = name.rpartition(".")
        if last in sides and f"{parent}.{sides[last]}" in layers:
            times[name] = 3 if last == "norm_qkv" else 2
        if last == "norm" and f"{parent}.linear_in_kv" in layers:
            times[name] = 2
    return layers, times


@pytest.mark.parametrize(("kind", "name"), CASES, ids=lambda x: getattr(x, "__name__", x))
def test_hooks_see_each_layer_and_its_hidden_states(kind, name):
    net = networks.build(kind, **variants(kind)[name])
    values = networks.inputs(kind, 2, 5)
    expected = net(*values)
    layers, times = inner_layers(net)
    before, seen = Counter(), {}

    def pre_hook(layer, inputs):
        before[layer] += 1

    def hook(layer, inputs, output):
        seen.setdefault(layer, []).append((inputs, output))

    handles = [layer.register_forward_pre_hook(pre_hook) for layer in layers.values()]
    handles += [layer.register_forward_hook(hook) for layer in layers.values()]
    outputs = net(*values)
    for handle in handles:
        handle.remove()
    assert {n: len(seen.get(layer, ())) for n, layer in layers.items()} == times
    assert {n: before[layer] for n, layer in layers.items()} == times
    # Layer by layer is the same up to rounding.
    for a, b in zip(outputs, expected, strict=True):
        torch.testing.assert_close(a, b)
    for layer, calls in seen.items():
        for inputs, output in calls:
            assert isinstance(inputs[0], (Sectors, SlimState))
            for a, b in zip(tensors(layer(*inputs)), tensors(output), strict=True):
                torch.testing.assert_close(a, b)
    # Without hooks, the fast path again.
    for a, b in zip(net(*values), expected, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("kind", every(2, networks.KINDS), ids=lambda kind: kind.__name__)
def test_a_hook_on_one_layer_alone_runs_once_and_may_change_its_output(kind):
    net = networks.build(kind)
    values = networks.inputs(kind, 2, 5)
    expected = net(*values)
    layers, times = inner_layers(net)
    for name, layer in layers.items():
        calls = []

        def zero(layer, inputs, output, calls=calls):
            calls.append(layer)
            if isinstance(output, (Sectors, SlimState)):
                return type(output)(*(torch.zeros_like(t) for t in output))
            return tuple(torch.zeros_like(t) for t in output)

        handle = layer.register_forward_hook(zero)
        changed = net(*values)
        handle.remove()
        assert len(calls) == times[name], name
        assert not torch.equal(changed[0], expected[0]), name


class Doubled(nn.Module):
    """Somebody's own layer in the place of one of ours."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, *inputs):
        return doubled(self, inputs, self.layer(*inputs))


def doubled(layer, inputs, output):
    if isinstance(output, (Sectors, SlimState)):
        return type(output)(*(2 * t for t in output))
    return tuple(2 * t for t in output)


@pytest.mark.parametrize("kind", slow_but_for([LGATrSlim], networks.KINDS))
def test_a_layer_that_is_replaced_is_called(kind):
    """Also where it would have run in one operation with others."""
    for name in [name for name in inner_layers(networks.build(kind))[0] if name]:
        torch.manual_seed(3)
        net = networks.build(kind)
        torch.manual_seed(4)
        values = networks.inputs(kind, 2, 5)
        layer = net.get_submodule(name)
        handle = layer.register_forward_hook(doubled)
        expected = net(*values)
        handle.remove()
        place, _, last = name.rpartition(".")
        parent = net.get_submodule(place)
        if isinstance(parent, nn.ModuleList):
            parent[int(last)] = Doubled(layer)
        else:
            setattr(parent, last, Doubled(layer))
        for changed in (net, copy.deepcopy(net)):
            for a, b in zip(changed(*values), expected, strict=True):
                torch.testing.assert_close(a, b, msg=name)


# Inputs of layers are hidden states, in which torch finds no tensors.
@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
@pytest.mark.parametrize("full", [False, True], ids=["pre-hook", "full"])
@pytest.mark.parametrize("kind", networks.KINDS, ids=lambda kind: kind.__name__)
def test_backward_hooks_get_the_gradients_of_the_output(kind, full):
    net = networks.build(kind)
    layers, times = inner_layers(net)
    # Queries, keys and values of a decoder's norms are several calls of one module.
    once = {name: layer for name, layer in layers.items() if times[name] == 1}
    gradients, outputs = {}, {}
    for name, layer in once.items():

        def backward(layer, *grads, name=name):
            gradients[name] = grads[-1]

        def forward(layer, inputs, output, name=name):
            outputs[name] = output

        register = "register_full_backward_hook" if full else "register_full_backward_pre_hook"
        getattr(layer, register)(backward)
        layer.register_forward_hook(forward)
    out = net(*networks.inputs(kind, 2, 5))
    sum(t.square().sum() for t in out).backward()
    assert gradients.keys() == once.keys()
    for name, grads in gradients.items():
        for grad, output in zip(grads, outputs[name], strict=True):
            assert grad is None or grad.shape == output.shape


def test_hidden_states_become_public_tensors():
    """The recipe of the documentation."""
    net, seen = networks.build(LGATr), []
    net.blocks[0].register_forward_hook(lambda layer, inputs, output: seen.append((inputs, output)))
    mv, s = networks.inputs(LGATr, 2, 5)
    net(mv, s)
    (((x, *_), y),) = seen
    multivectors, scalars = from_sectors(x)
    for a, b in zip(net.linear_in(mv, s), (multivectors, scalars), strict=True):
        torch.testing.assert_close(a, b)
    for a, b in zip(net.blocks[0](multivectors, scalars), from_sectors(y), strict=True):
        torch.testing.assert_close(a, b)


def test_hooks_run_when_users_call_a_layer():
    layer = networks.build(LGATrSlim).blocks[0]
    seen = []
    layer.attention.register_forward_hook(lambda *call: seen.append(call[1:]))
    vectors, scalars = torch.randn(5, 4, 4).double(), torch.randn(5, 8).double()
    out = layer.attention(vectors, scalars)
    (((v, s), output),) = seen
    assert v is vectors and s is scalars and output is out and type(out) is tuple
    layer(vectors, scalars)
    assert isinstance(seen[1][0][0], SlimState)


@pytest.mark.parametrize("kind", networks.KINDS, ids=lambda kind: kind.__name__)
def test_checkpointed_blocks_run_hooks_again_in_backward(kind):
    net = networks.build(kind, checkpoint_blocks=True)
    calls = Counter()
    for name, module in net.blocks.named_modules():
        # What lies behind the last tensor that is kept need not be repeated.
        if name.endswith(("attention", "norm1")):
            module.register_forward_hook(lambda *_, name=name: calls.update([name]))
    out = net(*networks.inputs(kind, 2, 5))
    assert calls and set(calls.values()) == {1}
    sum(t.sum() for t in out).backward()
    assert set(calls.values()) == {2}


@pytest.mark.parametrize("kind", slow_but_for([LGATrSlim], networks.KINDS))
def test_compiled_blocks_run_hooks(kind):
    """Blocks share one compilation; one with hooks runs as it is, whenever they were registered."""
    net = networks.build(kind, compile=True, compile_kwargs={"backend": "eager"})
    values = networks.inputs(kind, 2, 5)
    expected = net(*values)
    seen = []
    first, last = net.blocks[0].mlp, net.blocks[-1]
    for module in (first, last):
        module.register_forward_hook(lambda layer, inputs, output: seen.append(layer))
    for _ in range(2):
        for a, b in zip(net(*values), expected, strict=True):
            torch.testing.assert_close(a, b)
    assert seen == [first, last] * 2


def test_every_module_is_a_layer_or_holds_parameters():
    """Nothing that computes hides from hooks: linear layers of torch hold parameters of ours."""
    for kind in networks.KINDS:
        for name, module in networks.build(kind, dropout_prob=0.5).named_modules():
            assert isinstance(module, (Layer, kind, nn.ModuleList)) or (
                type(module) is nn.Linear and name.endswith(("s2mvs", "mvs2s", "s2s", "linear_s"))
            )
            assert not isinstance(module, (GradeDropout, SlimDropout)) or module.p == 0.5
