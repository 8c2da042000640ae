"""All modules can be imported, and the table of implementations is right about this machine."""

from __future__ import annotations

import importlib
import pkgutil

import pytest
import torch

import lgatr
from lgatr import __main__ as program
from lgatr.ops._runtime.choice import Operation

MODULES = [module.name for module in pkgutil.walk_packages(lgatr.__path__, "lgatr.")]


@pytest.mark.parametrize("name", MODULES)
def test_every_module_can_be_imported(name):
    """Paths of the reference library among them."""
    if "triton" in name.rpartition(".")[2]:
        pytest.importorskip("triton", reason="Triton is not installed: pip install triton")
    found = importlib.import_module(name)
    for exported in getattr(found, "__all__", ()):
        assert hasattr(found, exported)


def test_the_table_of_implementations(capsys):
    program.main()
    lines = capsys.readouterr().out.splitlines()
    header, *rows = lines[: lines.index("")]
    assert header.split() == ["on", "cpu", "float32", "float64", "bfloat16", "float16"]
    chosen = {row.split()[0]: row.split()[1] for row in rows}
    assert chosen.keys() == {operation.name for operation in Operation.all}
    for operation in Operation.all:
        target = operation.target("cpu", torch.float32)
        expected = operation.otherwise if target is None else target.name
        assert chosen[operation.name] == expected.split()[0]
    assert any("python -m lgatr.attention" in line for line in lines)
