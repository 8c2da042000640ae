"""Number formats: what autocast may touch, and that nothing switches TF32 on."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from lgatr import LGATr, LGATrSlim, Packing, naive_amp
from lgatr.testing import equivariance_error, random_lorentz
from lgatr.utils.autocast import autocast_dtype, is_naive, minimum_autocast_precision
from support import networks

kinds = pytest.mark.parametrize("kind", networks.KINDS, ids=lambda kind: kind.__name__)
half = pytest.mark.parametrize("low", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])


def run(net, values, low=None, **options):
    if low is None:
        return net(*values, **options)
    with torch.autocast("cpu", dtype=low):
        return net(*values, **options)


@kinds
@half
@pytest.mark.parametrize("naive", [False, True])
def test_autocast_is_close_to_float32(kind, low, naive):
    net = networks.build(kind, torch.float32, naive_amp=naive)
    values = networks.inputs(kind, 2, 6, dtype=torch.float32)
    exact, rough = run(net, values), run(net, values, low)
    for a, b in zip(exact, rough, strict=True):
        assert not torch.equal(a, b.float())
        assert (a - b).abs().max() <= 0.1 * a.abs().max()
    gradients = [
        torch.autograd.grad(sum(t.float().square().sum() for t in out), list(net.parameters()))
        for out in (exact, rough)
    ]
    for a, b in zip(*gradients, strict=True):
        assert torch.isfinite(b).all() and a.dtype == b.dtype


@kinds
def test_states_stay_in_float32(kind):
    net = networks.build(kind, torch.float32)
    for tensor in run(net, networks.inputs(kind, 2, 6, dtype=torch.float32), torch.bfloat16):
        assert tensor.dtype == torch.float32


def boosted_error(net, kind, low, rapidity=3.0):
    def function(*values):
        return run(net, values, low)

    function.representations = kind.representations
    values = tuple(v.detach() for v in networks.inputs(kind, 4, 8, dtype=torch.float32))
    generator = torch.Generator().manual_seed(0)
    errors = [
        equivariance_error(function, values, random_lorentz(rapidity, generator)) for _ in range(4)
    ]
    return sum(errors) / len(errors)


@pytest.mark.parametrize("kind", [LGATr, LGATrSlim], ids=lambda kind: kind.__name__)
def test_rounding_invariants_keeps_the_symmetry_better_than_rounding_all(kind):
    ruled, naive = (
        boosted_error(networks.build(kind, torch.float32, naive_amp=n), kind, torch.bfloat16)
        for n in (False, True)
    )
    assert ruled < 0.2 * naive


@kinds
def test_naive_block_equals_naive_network(kind):
    values = networks.inputs(kind, 2, 6, dtype=torch.float32)
    net = networks.build(kind, torch.float32)
    twin = kind(**{**net.arguments, "naive_amp": True}).eval()
    twin.load_state_dict(net.state_dict())
    with naive_amp():
        inside = run(net, values, torch.bfloat16)
    hidden = run(twin, values, torch.bfloat16)
    for a, b in zip(inside, hidden, strict=True):
        assert torch.equal(a, b)


def test_blocks_nest_and_restore():
    assert not is_naive()
    with naive_amp():
        with naive_amp(False):
            assert is_naive()
        assert is_naive()
    with naive_amp(False):
        assert not is_naive()
    assert not is_naive()


@half
def test_packed_batches_under_autocast(low):
    net = networks.build(LGATr, torch.float32)
    values = networks.inputs(LGATr, 9, dtype=torch.float32)
    packed = run(net, values, low, packing=Packing.from_lengths([4, 5]))
    single = run(net, tuple(v[:4] for v in values), low)
    torch.testing.assert_close(packed[0][:4], single[0], rtol=0.05, atol=0.05)


def test_checkpointed_backward_repeats_the_same_precision():
    torch.manual_seed(0)
    values = networks.inputs(LGATr, 2, 6, dtype=torch.float32)
    plain = networks.build(LGATr, torch.float32)
    saving = networks.build(LGATr, torch.float32, checkpoint_blocks=True)
    saving.load_state_dict(plain.state_dict())
    gradients = []
    for net in (plain, saving):
        with naive_amp():
            out, _ = run(net, values, torch.bfloat16)
        gradients.append(torch.autograd.grad(out.float().sum(), list(net.parameters())))
    for a, b in zip(*gradients, strict=True):
        assert torch.equal(a, b)


@half
@pytest.mark.parametrize(
    ("output", "expected"),
    [("low", "low"), ("high", torch.float32), (None, torch.float32), (torch.float64,) * 2],
)
def test_minimum_precision_decorator(low, output, expected):
    seen = []

    @minimum_autocast_precision(torch.float32, output)
    def function(x, y, names, *, more):
        seen.append((x.dtype, more["z"].dtype, torch.is_autocast_enabled("cpu"), names))
        return {"sum": x + y, "mixed": [x, "text"], "number": torch.ones(1, dtype=torch.int64)}

    x, y = torch.ones(2, dtype=low), torch.ones(2)
    assert function(x, y, ("a",), more={"z": x})["sum"].dtype == torch.float32
    assert seen.pop() == (low, low, False, ("a",))
    with torch.autocast("cpu", dtype=low):
        assert autocast_dtype("cpu") == low
        result = function(x, y, ("a",), more={"z": x})
        assert seen.pop() == (torch.float32, torch.float32, False, ("a",))
        want = low if expected == "low" else expected
        assert result["sum"].dtype == result["mixed"][0].dtype == want
        assert result["number"].dtype == torch.int64 and result["mixed"][1] == "text"
        with naive_amp():
            function(x, y, ("a",), more={"z": x})
        assert seen.pop() == (low, low, True, ("a",))


@pytest.mark.slow
def test_nothing_switches_tf32_on():
    code = (
        "import torch\n"
        "def state():\n"
        "    return (torch.backends.cuda.matmul.allow_tf32,\n"
        "            torch.get_float32_matmul_precision())\n"
        "before = state()\n"
        "import lgatr, lgatr.testing\n"
        "net = lgatr.LGATr(1, 1, 1, 4, 0, 0, 4, {'num_heads': 2}, {})\n"
        "net(torch.randn(2, 3, 1, 16))\n"
        "assert state() == before == (False, 'highest')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
