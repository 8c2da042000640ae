"""Every sign of the algebra's tables is held by a test: flip any one, and a check fails.

A child process tries all flips. Where the table itself, or the plain product by it, already shows
the fault, that is enough; otherwise everything that reads the table is loaded anew and checked.
"""

from __future__ import annotations

import json
import os

import pytest

from support.commands import python

CHILD = r"""
import importlib, json, os, sys, warnings
os.environ["NUMBA_DISABLE_JIT"] = "1"
warnings.simplefilter("ignore")
import clifford, torch
from lgatr import algebra, layout as right_layout
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

def close(a, b):
    return torch.allclose(a, b, rtol=1e-10, atol=1e-10)

def fails():
    # The cheap ones first.
    try:
        return not (tables_are_right() and reference_is_right() and all(c() for c in checks()))
    except (AssertionError, ValueError, IndexError):
        return True  # noticed on import

def tables_are_right():
    table = torch.zeros(16, 16, 16)
    for a, row in enumerate(algebra.PRODUCT):
        for b, (c, sign) in enumerate(row):
            table[a, b, c] = sign
    pairs = torch.tensor([[p.blade, p.dual, p.sign] for p in algebra.PAIRS])
    duals = blades[pairs[:, 0], 15, pairs[:, 1]]
    return close(table, blades) and close(duals, pairs[:, 2].to(duals))

def reference_is_right():
    products = importlib.import_module("lgatr.ops.product.formula")
    before = products.PAIR_PRODUCTS, products._TABLE
    products.PAIR_PRODUCTS = algebra.PAIR_PRODUCTS
    products._TABLE = products._dense_table()
    try:
        return close(reference(products, right_layout, x, y), expected_product)
    finally:
        products.PAIR_PRODUCTS, products._TABLE = before

def reference(products, layout, a, b):
    left, right = layout.to_sectors(a.unsqueeze(-2)), layout.to_sectors(b.unsqueeze(-2))
    return layout.from_sectors(products.product_by_table(left, right))[0].squeeze(-2)

def checks():
    # Load everything that reads the tables again, apart from the tables themselves; and from what
    # registers operators, which torch takes once.
    packages = "algebra testing attention kernels ops._runtime ops.product"
    kept = tuple(f"lgatr.{name}" for name in packages.split())
    for name in [m for m in sys.modules if m.startswith("lgatr") and not m.startswith(kept)]:
        del sys.modules[name]
    import lgatr
    products = importlib.import_module("lgatr.ops.product.formula")
    products.PAIR_PRODUCTS = algebra.PAIR_PRODUCTS
    products._TABLE = products._dense_table()
    from lgatr import layout, primitives
    from lgatr.layers import EquiLayerNorm, EquiLinear, SlimSelfAttention
    def equivariant(function):
        moved = function(transform(x, matrix, "multivector"))
        return close(moved, transform(function(x), matrix, "multivector"))
    torch.manual_seed(1)
    linear = EquiLinear(4, 4)
    slim = SlimSelfAttention(2, 3, 1)
    def slim_is_equivariant():
        out, _ = slim(transform(vectors, matrix, "slim vector"), scalars)
        return close(out, transform(slim(vectors, scalars)[0], matrix, "slim vector"))
    def gradients_are_right():
        a, b = x.clone().requires_grad_(), y.clone().requires_grad_()
        ours = torch.autograd.grad(primitives.geometric_product(a, b), (a, b), x)
        theirs = torch.autograd.grad(reference(products, layout, a, b), (a, b), x)
        return all(close(*pair) for pair in zip(ours, theirs))
    return [
        slim_is_equivariant,
        lambda: close(primitives.geometric_product(x, y), expected_product),
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
found = {}
for name in sys.argv[1:]:
    formula = "lgatr.ops.product.formula"
    owner = importlib.import_module(formula) if name.startswith("LEFT") else algebra
    original = getattr(owner, name)
    survivors = []
    for i, flipped in enumerate(flips(name)):
        setattr(owner, name, flipped)
        if not fails():
            survivors.append(i)
    setattr(owner, name, original)
    assert not fails(), f"{name} was not restored"
    found[name] = [len(list(flips(name))), survivors]
print(json.dumps(found))
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


@pytest.fixture(scope="module")
def found():
    """For each table the number of flips, and those that nothing noticed."""
    pytest.importorskip("clifford")
    # The tables are those of the torch operations.
    environment = {**os.environ, "LGATR_NATIVE": "0"}
    done = python("-c", CHILD, *TABLES, env=environment, fresh=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("table", TABLES)
def test_a_flipped_sign_is_noticed(found, table):
    assert found[table] == [TABLES[table], []]
