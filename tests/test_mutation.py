"""Every sign of the algebra's tables is held by a test: flip any one, and a check fails.

A child process tries all flips of one table, and loads what reads the table anew for each.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

CHILD = r"""
import importlib, os, sys, warnings
os.environ["NUMBA_DISABLE_JIT"] = "1"
warnings.simplefilter("ignore")
import clifford, torch
from lgatr import algebra
from lgatr.testing import random_lorentz, transform
torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
layout = clifford.Cl(sig=[1, -1, -1, -1])[0]
x, y = torch.randn(2, 4, 16)
def product(a, b):
    return (layout.MultiVector(a.numpy()) * layout.MultiVector(b.numpy())).value
expected_product = torch.stack([torch.from_numpy(product(a, b)) for a, b in zip(x, y)])
expected_reverse = torch.stack(
    [torch.from_numpy((~layout.MultiVector(a.numpy())).value) for a in x])
expected_involute = torch.stack(
    [torch.from_numpy(layout.MultiVector(a.numpy()).gradeInvol().value) for a in x])
expected_inner = torch.stack(
    [torch.from_numpy(product(a, b))[:1] for a, b in zip(expected_reverse, y)])
basis = [layout.MultiVector(row.numpy()) for row in torch.eye(16)]
blades = torch.stack(
    [torch.stack([torch.from_numpy((a * b).value) for b in basis]) for a in basis])
matrix = random_lorentz(1.0)
vectors, scalars = torch.randn(5, 4, 2), torch.randn(5, 3)

def fails():
    try:
        return not all(check() for check in checks())
    except (AssertionError, ValueError, IndexError):
        return True  # noticed on import

def checks():
    # Load everything that reads the tables again, apart from the tables themselves.
    for name in [m for m in sys.modules if m.startswith("lgatr") and m != "lgatr.algebra"
                 and "testing" not in m]:
        if "kernels" not in name:
            del sys.modules[name]
    import lgatr
    products = importlib.import_module("lgatr.ops.product.formula")
    products.PAIR_PRODUCTS = algebra.PAIR_PRODUCTS
    products._TABLE = products._dense_table()
    from lgatr import primitives
    from lgatr.layout import from_sectors, to_sectors
    from lgatr.layers import EquiLayerNorm, EquiLinear, SlimSelfAttention
    def close(a, b):
        return torch.allclose(a, b, rtol=1e-10, atol=1e-10)
    def equivariant(function):
        moved = function(transform(x, matrix, "multivector"))
        return close(moved, transform(function(x), matrix, "multivector"))
    torch.manual_seed(1)
    linear = EquiLinear(4, 4)
    slim = SlimSelfAttention(2, 3, 1)
    def tables_are_right():
        table = torch.zeros(16, 16, 16)
        for a, row in enumerate(algebra.PRODUCT):
            for b, (c, sign) in enumerate(row):
                table[a, b, c] = sign
        pairs = torch.tensor([[p.blade, p.dual, p.sign] for p in algebra.PAIRS])
        duals = blades[pairs[:, 0], 15, pairs[:, 1]]
        return close(table, blades) and close(duals, pairs[:, 2].to(duals))
    def slim_is_equivariant():
        out, _ = slim(transform(vectors, matrix, "slim vector"), scalars)
        return close(out, transform(slim(vectors, scalars)[0], matrix, "slim vector"))
    def reference(a, b):
        left, right = to_sectors(a.unsqueeze(-2)), to_sectors(b.unsqueeze(-2))
        return from_sectors(products.product_by_table(left, right))[0].squeeze(-2)
    def gradients_are_right():
        a, b = x.clone().requires_grad_(), y.clone().requires_grad_()
        ours = torch.autograd.grad(primitives.geometric_product(a, b), (a, b), x)
        theirs = torch.autograd.grad(reference(a, b), (a, b), x)
        return all(close(*pair) for pair in zip(ours, theirs))
    return [
        tables_are_right,
        slim_is_equivariant,
        lambda: close(primitives.geometric_product(x, y), expected_product),
        lambda: close(reference(x, y), expected_product),
        gradients_are_right,
        lambda: close(primitives.reverse(x), expected_reverse),
        lambda: close(primitives.grade_involute(x), expected_involute),
        lambda: close(primitives.inner_product(x, y), expected_inner),
        lambda: equivariant(lambda t: linear(t)[0]),
        lambda: equivariant(lambda t: EquiLayerNorm()(t)[0]),
        lambda: equivariant(lambda t: primitives.equi_layer_norm(t)),
    ]

def flips(name):
    table = getattr(owner, name)
    for i, entry in enumerate(table):
        if isinstance(entry, int):
            yield table[:i] + (-entry,) + table[i + 1:]
        elif name.startswith("LEFT"):
            for j, part in enumerate(entry):
                row = entry[:j] + (part._replace(sign=-part.sign),) + entry[j + 1:]
                yield table[:i] + (row,) + table[i + 1:]
        elif name == "PRODUCT":
            for j, (blade, sign) in enumerate(entry):
                row = entry[:j] + ((blade, -sign),) + entry[j + 1:]
                yield table[:i] + (row,) + table[i + 1:]
        else:
            yield table[:i] + (entry._replace(sign=-entry.sign),) + table[i + 1:]

assert not fails(), "the checks fail without a flip"
name = sys.argv[1]
owner = importlib.import_module("lgatr.ops.product.formula") if name.startswith("LEFT") else algebra
original = getattr(owner, name)
survivors = []
for i, flipped in enumerate(flips(name)):
    setattr(owner, name, flipped)
    if not fails():
        survivors.append(i)
setattr(owner, name, original)
assert not fails(), "the tables were not restored"
print(len(list(flips(name))), "flips, survivors:", survivors)
sys.exit(bool(survivors))
"""

# Tables with signs, by the name under which the library reads them.
TABLES = {
    "METRIC": 4,
    "PRODUCT": 256,
    "REVERSE_SIGNS": 16,
    "INVOLUTION_SIGNS": 16,
    "INNER_SIGNS": 16,
    "PAIRS": 8,
    "PAIR_SIGNS": 16,
    "PAIR_METRIC": 8,
    "PAIR_PRODUCTS": 256,
    "LEFT": 16,  # of lgatr.ops.product.formula
}


@pytest.mark.parametrize("table", TABLES)
def test_a_flipped_sign_is_noticed(table):
    pytest.importorskip("clifford")
    done = subprocess.run(
        [sys.executable, "-c", CHILD, table],
        capture_output=True,
        text=True,
        cwd=ROOT,
        # The tables are those of the torch operations.
        env={**os.environ, "PYTHONPATH": str(ROOT), "LGATR_NATIVE": "0"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{TABLES[table]} flips, survivors: []" in done.stdout
