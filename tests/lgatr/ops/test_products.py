"""How kernels on CUDA multiply: what the user asks for, and that a gradient asks for the same."""

from __future__ import annotations

import threading

import pytest
import torch

from lgatr import naive_amp
from lgatr.ops._runtime.products import (
    AS_THEY_ARE,
    ROUNDED,
    SPLIT,
    Products,
    products,
    same_products,
)
from lgatr.ops._runtime.stage import Stage

OTHER = Products(AS_THEY_ARE, ROUNDED)


@pytest.fixture(autouse=True)
def allow_tf32():
    """Sets torch's switch, which is off unless a test sets it, and is restored after it."""
    before = torch.backends.cuda.matmul.allow_tf32

    def allow(tf32):
        torch.backends.cuda.matmul.allow_tf32 = tf32

    allow(False)
    yield allow
    allow(before)


@pytest.fixture
def under_autocast(monkeypatch):
    """As inside ``torch.autocast("cuda")``, which does nothing on a machine without a GPU."""
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda kind="cuda": kind == "cuda")
    monkeypatch.setattr(torch, "get_autocast_dtype", lambda kind: torch.bfloat16)


def test_float32_numbers_are_split_by_default():
    """TF32 that nobody asked for."""
    assert products() == Products(SPLIT, SPLIT)


def test_naive_amp_alone_changes_nothing():
    """Rounding outside of autocast."""
    with naive_amp():
        assert products() == Products(SPLIT, SPLIT)


def test_tf32_where_torch_may_use_it(allow_tf32):
    """A switch of torch that is read once, or not at all."""
    allow_tf32(True)
    assert products() == Products(AS_THEY_ARE, AS_THEY_ARE)


@pytest.mark.parametrize(("tf32", "components"), [(False, SPLIT), (True, AS_THEY_ARE)])
def test_autocast_rounds_invariants_alone(under_autocast, allow_tf32, tf32, components):
    """Vectors that are rounded under autocast, which breaks the symmetry."""
    allow_tf32(tf32)
    assert products() == Products(ROUNDED, components)
    with naive_amp():
        assert products() == Products(ROUNDED, ROUNDED)
    assert products() == Products(ROUNDED, components)


def test_autocast_to_float16_does_not_take_fewer_bits(under_autocast, monkeypatch):
    """bfloat16 where somebody asked for float16."""
    monkeypatch.setattr(torch, "get_autocast_dtype", lambda kind: torch.float16)
    assert products() == Products(AS_THEY_ARE, SPLIT)
    with naive_amp():
        assert products() == Products(AS_THEY_ARE, AS_THEY_ARE)


def test_a_block_decides_for_all_inside(under_autocast):
    """A gradient outside of autocast that follows what is set then."""
    with same_products(OTHER), naive_amp():
        assert products() == OTHER


def test_blocks_nest():
    """An inner block that ends the outer one, or an error that leaves a block in force."""
    outer = Products(ROUNDED, ROUNDED)
    with same_products(outer):
        with same_products(OTHER):
            assert products() == OTHER
        assert products() == outer
        with pytest.raises(KeyError), same_products(OTHER):
            raise KeyError
        assert products() == outer
    assert products() == Products(SPLIT, SPLIT)


def test_blocks_belong_to_a_thread():
    """A backward pass that changes how another thread multiplies."""
    seen = []
    with same_products(OTHER):
        thread = threading.Thread(target=lambda: seen.append(products()))
        thread.start()
        thread.join()
    assert seen == [Products(SPLIT, SPLIT)]


class OnCuda(torch.Tensor):
    """A tensor that says it is on a GPU."""

    is_cuda = True
    __torch_function__ = torch._C._disabled_torch_function_impl


class Twice(Stage):
    """A stage that notes how it multiplies."""

    def __init__(self):
        self.seen = []

    def plain(self, x):
        return (2 * x,)

    def runs_on(self, x):
        return True

    def forward(self, x):
        self.seen.append(products())
        return (2 * x,), ()

    def backward(self, inputs, outputs, kept, grads):
        self.seen.append(products())
        return (2 * grads[0],)


def test_a_gradient_multiplies_as_its_outputs_did(allow_tf32):
    """Outputs under autocast or TF32, and gradients after its end."""
    x = torch.ones(3).as_subclass(OnCuda).requires_grad_()
    stage = Twice()
    allow_tf32(True)
    (out,) = stage(x)
    allow_tf32(False)
    torch.autograd.grad(out.sum(), x)
    assert stage.seen == [Products(AS_THEY_ARE, AS_THEY_ARE)] * 2
    assert products() == Products(SPLIT, SPLIT)
