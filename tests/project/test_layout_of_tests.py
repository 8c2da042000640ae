"""The tests mirror the code, stay small, and share helpers by ``tests/support`` alone."""

from __future__ import annotations

import ast

from support import ROOT

TESTS = ROOT / "tests"
FILES = sorted(TESTS.rglob("*.py"))
# What belongs to no folder of the code.
OF_THEIR_OWN = {"docs", "project", "support", "experiments/commands"}


def test_files_are_short():
    lengths = {path.name: len(path.read_text().splitlines()) for path in FILES}
    assert not {name: length for name, length in lengths.items() if length > 350}


def test_folders_are_those_of_the_code():
    for path in FILES:
        folder = path.parent.relative_to(TESTS).as_posix()
        if folder != "." and folder not in OF_THEIR_OWN:
            assert (ROOT / folder).is_dir() or (ROOT / f"{folder}.py").is_file(), path


def test_no_test_module_imports_another():
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found = [name for name in names if name.split(".")[-1].startswith("test_")]
            assert not found, f"{path} imports {found}"
