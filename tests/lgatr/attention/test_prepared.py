"""Attention prepared once for all layers: what is checked again, and what is not."""

from __future__ import annotations

import pytest
import torch

from lgatr import Packing
from lgatr.attention import Backend, BoundedPacking, Capabilities, prepare_attention
from lgatr.attention.pattern.spec import AttentionSpec

CPU = torch.device("cpu")
EVENTS = Packing.from_lengths([3, 5])


def heads(tokens=8, dtype=torch.float32):
    return tuple(torch.randn(3, tokens, 2, 4, dtype=dtype))


WRONG = {
    "tokens": lambda q, k, v: (q[:7], k[:7], v[:7]),
    "keys": lambda q, k, v: (q, k[:7], v[:7]),
    "width": lambda q, k, v: (q, k[..., :3], v),
    "format": lambda q, k, v: (q, k.double(), v),
    "whole numbers": lambda q, k, v: (q.int(), k.int(), v.int()),
    "sparse": lambda q, k, v: (q.to_sparse(), k, v),
    "meta": lambda q, k, v: (q.to("meta"), k.to("meta"), v.to("meta")),
    "numpy": lambda q, k, v: (q.numpy(), k.numpy(), v.numpy()),
    "nested": lambda q, k, v: (torch.nested.nested_tensor([q, q[:5]]), k, v),
}


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
def test_every_layer_with_other_tensors_is_checked(change):
    attend = prepare_attention(CPU, torch.float32, packing=EVENTS)
    values = heads()
    first = attend(*values)
    for _ in range(2):  # a failed check is not remembered as one that passed
        with pytest.raises((ValueError, TypeError)):
            attend(*change(*values))
    assert torch.equal(attend(*values), first)


def test_lengths_that_change_between_layers():
    packing = BoundedPacking(torch.tensor([0, 3, 8], dtype=torch.int32), 8, 8)
    attend = prepare_attention(CPU, torch.float32, packing=packing)
    values = heads()
    for offsets in ([0, 3, 8], [0, 6, 8]):
        packing.ptr.copy_(torch.tensor(offsets))
        own = prepare_attention(CPU, torch.float32, packing=Packing.from_ptr(packing.ptr))
        assert torch.equal(attend(*values), own(*values))
    packing.ptr.copy_(torch.tensor([0, 3, 7]))
    with pytest.raises(ValueError, match="promised were 8"):
        attend(*values)


def test_one_plan_serves_both_formats_and_shared_keys(kernels):
    attend = prepare_attention(CPU, torch.float32, packing=EVENTS)
    q, k, v = heads(dtype=torch.float64)
    out = attend(q, k, v)
    torch.testing.assert_close(attend(q.float(), k.float(), v.float()), out.float())
    shared = attend(q, k[:, :1], v[:, :1])
    torch.testing.assert_close(shared, attend(q, k[:, :1].expand(-1, 2, -1), v[:, :1].expand_as(v)))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("unavailable", "import_error"),
        ("unloaded", "load_error"),
        ("refuses", "unsupported"),
        ("problem", "why_unusable"),
    ],
)
def test_old_names_of_a_backend_say_the_new_ones(old, new):
    with pytest.raises(TypeError, match=f"{old} is called {new} now"):
        type("Mine", (Backend,), {old: classmethod(lambda cls, *_: None)})


def test_a_backend_from_outside_gets_what_it_planned():
    class Mine(Backend):
        name = "mine"
        capabilities = Capabilities(
            frozenset({"packed"}), frozenset({"cpu"}), frozenset({torch.float32})
        )

        def plan(self, spec, device):
            return spec.packing.lengths

        def attend(self, q, k, v, spec, plan):
            assert plan == (3, 5)
            return v

    spec = AttentionSpec(packing=EVENTS)
    assert Mine.why_unusable(spec, CPU, torch.float32) is None
    assert "float64" in Mine.why_unusable(spec, CPU, torch.float64)
    q, k, v = heads()
    assert Mine().attend(q, k, v, spec, Mine().plan(spec, CPU)) is v
