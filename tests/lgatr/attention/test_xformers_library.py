"""Which torch an installed xFormers belongs to."""

from __future__ import annotations

import importlib.resources

import pytest

from lgatr.attention.backends import xformers_library

pytest.importorskip("xformers")


@pytest.fixture(autouse=True)
def asked_anew():
    xformers_library.mismatch.cache_clear()
    yield
    xformers_library.mismatch.cache_clear()


def test_a_pair_that_does_not_fit_is_named(monkeypatch):
    library = importlib.import_module("xformers._cpp_lib")
    monkeypatch.setattr(library, "_built_with_cuda", False, raising=False)
    reason = xformers_library.mismatch()
    assert "built for torch 2." in reason and "install a pair that belongs together" in reason


def test_a_version_that_keeps_it_elsewhere(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.resources, "files", lambda _: tmp_path)
    assert xformers_library.built_for() == "another CUDA"
    (tmp_path / "cpp_lib.json").write_text('{"version": []}')
    assert xformers_library.built_for() == "another CUDA"
