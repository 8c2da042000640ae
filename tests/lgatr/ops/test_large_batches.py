"""Networks at sizes at which other matrix products run than in the small tests."""

from __future__ import annotations

import pytest
import torch

from lgatr import LGATr, LGATrSlim, Packing
from lgatr.ops._runtime import matmul
from support import networks

WIDE = {
    LGATr: {"hidden_mv_channels": 32, "hidden_s_channels": 64, "num_blocks": 1},
    LGATrSlim: {"hidden_v_channels": 64, "hidden_s_channels": 128, "num_blocks": 1},
}


@pytest.mark.parametrize("kind", WIDE, ids=lambda kind: kind.__name__)
def test_equal_to_double_precision(kind, monkeypatch):
    """Outputs, gradients, and gradients of those, by oneDNN where torch has it."""
    used, real = [], matmul._onednn
    monkeypatch.setattr(matmul, "_onednn", lambda *args: used.append(1) or real(*args))
    net = networks.build(kind, torch.float32, **WIDE[kind])
    packing = Packing.from_lengths([100, 1, 199])
    values = networks.inputs(kind, 300, dtype=torch.float32)
    exact = networks.build(kind, **WIDE[kind])
    exact.load_state_dict(net.state_dict())
    found = []
    for module, given in ((net, values), (exact, [x.detach().double() for x in values])):
        given = [x.detach().requires_grad_() for x in given]
        outputs = module(*given, packing=packing)
        total = sum(
            (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum() for out in outputs
        )
        parameters = list(module.parameters())
        first = torch.autograd.grad(total, [*given, *parameters], create_graph=True)
        second = torch.autograd.grad(first[0].square().sum(), parameters, allow_unused=True)
        found.append([*outputs, *first, *(x for x in second if x is not None)])
    for ours, theirs in zip(*found, strict=True):
        scale = float(theirs.detach().abs().max().clamp(min=1e-3))
        assert float((ours - theirs).detach().abs().max()) <= 2e-4 * scale
    assert used or not matmul._available()
