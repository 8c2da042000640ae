"""What stands for the torch.nn.Linear modules inside layers is followed, or refused."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from lgatr import LGATr, LGATrSlim, Packing
from support import networks

KINDS = (LGATr, LGATrSlim)
pytestmark = [
    pytest.mark.parametrize("kind", KINDS),
    pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated"),
]
EVENTS = {"packing": Packing.from_lengths([4, 5])}


class LoRA(nn.Linear):
    """A linear map and a change of low rank."""

    def __init__(self, linear):
        super().__init__(linear.in_features, linear.out_features, linear.bias is not None)
        self.weight, self.bias = linear.weight, linear.bias
        self.down = nn.Parameter(torch.randn(2, linear.in_features).to(linear.weight))
        self.up = nn.Parameter(torch.randn(linear.out_features, 2).to(linear.weight))

    def forward(self, x):
        return super().forward(x) + x @ self.down.t() @ self.up.t()

    def merged(self):
        linear = nn.Linear(self.in_features, self.out_features, self.bias is not None)
        linear.weight = nn.Parameter(self.weight.detach() + self.up.detach() @ self.down.detach())
        linear.bias = self.bias
        return linear


def changed(net, wanted, change):
    """The network with every inner module of a type replaced by what ``change`` makes of it."""
    for module in list(net.modules()):
        for name, child in list(module.named_children()):
            if type(child) is wanted:
                setattr(module, name, change(child))
    return net


def inner(net):
    return [module for module in net.modules() if isinstance(module, nn.Linear)]


@pytest.fixture
def net(kind):
    return networks.build(kind)


@pytest.fixture
def values(kind):
    return networks.inputs(kind, 9)


def test_adapters_are_computed_and_trained(net, values):
    """An adapter that is never called: fine-tuning that does nothing."""
    before = net(*values, **EVENTS)
    adapted = changed(net, nn.Linear, LoRA)
    out = adapted(*values, **EVENTS)
    adapters = [m for m in adapted.modules() if isinstance(m, LoRA)]
    torch.autograd.backward([x.square().sum() for x in out])
    assert adapters and all(m.up.grad is not None and m.up.grad.any() for m in adapters[1:])
    merged = changed(copy.deepcopy(adapted), LoRA, lambda m: m.merged())
    for a, b, c in zip(out, merged(*values, **EVENTS), before, strict=True):
        torch.testing.assert_close(a, b)
        assert not torch.allclose(a, c)


@pytest.mark.parametrize("wrap", [nn.Sequential, lambda m: nn.Sequential(m, nn.Identity())])
def test_wrapped_modules_are_called(net, values, wrap):
    before = net(*values, **EVENTS)
    for a, b in zip(changed(net, nn.Linear, wrap)(*values, **EVENTS), before, strict=True):
        torch.testing.assert_close(a, b)


def test_a_replaced_forward_is_called(net, values):
    doubled = copy.deepcopy(net)
    for linear, other in zip(inner(net), inner(doubled), strict=True):
        linear.forward = lambda x, own=linear: 2 * nn.Linear.forward(own, x)
        with torch.no_grad():
            other.weight.mul_(2)
            if other.bias is not None:
                other.bias.mul_(2)
    for a, b in zip(net(*values, **EVENTS), doubled(*values, **EVENTS), strict=True):
        torch.testing.assert_close(a, b)


def weight_norm(linear):
    nn.utils.weight_norm(linear)


def pruned(linear):
    prune.random_unstructured(linear, "weight", 0.3)


def own_hook(linear):
    linear.register_forward_hook(lambda module, inputs, output: 2 * output)


@pytest.mark.parametrize("change", [weight_norm, pruned, own_hook, parametrizations.spectral_norm])
def test_hooks_and_parametrizations_train(net, values, change):
    """Weights made by a hook once, whose graph the second step no longer has."""
    for linear in inner(net):
        change(linear)
    optimizer = torch.optim.SGD(net.parameters(), 1e-3)
    outputs = []
    for _ in range(3):
        out = net(*values, **EVENTS)
        outputs.append(out[0].detach())
        optimizer.zero_grad()
        torch.autograd.backward([x.square().mean() for x in out])
        optimizer.step()
    assert not torch.equal(outputs[1], outputs[2])


@pytest.mark.parametrize("extra", [nn.ReLU, lambda: nn.Dropout(0.5)])
def test_what_is_no_linear_map_is_refused(net, values, extra):
    net = changed(net.train(), nn.Linear, lambda m: nn.Sequential(m, extra()))
    with pytest.raises(ValueError, match="Sequential stands for a torch.nn.Linear.* no linear map"):
        net(*values, **EVENTS)


@pytest.mark.filterwarnings("ignore")
def test_quantized_weights(kind):
    net = networks.build(kind, torch.float32)
    values = networks.inputs(kind, 9, dtype=torch.float32)
    quantized = torch.ao.quantization.quantize_dynamic(net, {nn.Linear})
    with torch.no_grad():
        for a, b in zip(quantized(*values, **EVENTS), net(*values, **EVENTS), strict=True):
            assert (a - b).abs().max() <= 0.05 * b.abs().max()
            assert not torch.equal(a, b)


@pytest.mark.slow
def test_compiled(net, values):
    torch._dynamo.reset()
    adapted = changed(net, nn.Linear, LoRA)
    fast = torch.compile(adapted, backend="eager")
    for a, b in zip(fast(*values, **EVENTS), adapted(*values, **EVENTS), strict=True):
        torch.testing.assert_close(a, b)


def test_a_hook_on_each_of_them_alone_changes_nothing(kind):
    """A bias of one part of the scalars where the other has none: of another size than both."""
    net = networks.build(kind, torch.float64, num_blocks=1)
    inputs = networks.inputs(kind, 9, dtype=torch.float64)
    expected = net(*inputs, **EVENTS)
    grads = torch.autograd.grad(sum(x.square().sum() for x in expected), inputs)
    for name, module in net.named_modules():
        if isinstance(module, nn.Linear):
            hook = module.register_forward_hook(lambda *_: None)
            found = net(*inputs, **EVENTS)
            again = torch.autograd.grad(sum(x.square().sum() for x in found), inputs)
            for a, b in zip((*found, *again), (*expected, *grads), strict=True):
                assert torch.allclose(a, b, rtol=1e-10, atol=1e-10), name
            hook.remove()
