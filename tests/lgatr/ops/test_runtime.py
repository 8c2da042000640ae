"""What all operations share: matrix products, scratch memory, threads, and what is kept."""

from __future__ import annotations

import threading

import pytest
import torch
from torch.nn import functional as F

from lgatr import Packing
from lgatr.ops._runtime import matmul
from lgatr.ops._runtime.scratch import scratch
from lgatr.ops._runtime.stage import Stage
from support import networks


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
