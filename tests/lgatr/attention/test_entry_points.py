"""Backends of other packages: refused in one line if they cannot be used."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from lgatr.attention import AttentionSpec, Packing, registry
from lgatr.attention.__main__ import main as command
from lgatr.attention.backends.base import Backend, Capabilities
from lgatr.attention.pattern.scores import ScoreMod


class Point:
    """An entry point that was installed by somebody."""

    def __init__(self, name, found):
        self.name, self.value, self.found = name, "theirs:Backend", found

    def load(self):
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


def named(backend_name):
    class Theirs(Backend):
        name = backend_name
        capabilities = Capabilities(
            features=frozenset({"packed"}), devices=frozenset({"cpu"}),
            dtypes=frozenset({torch.float32}),
        )  # fmt: skip

    return Theirs


@pytest.fixture
def installed(monkeypatch):
    def install(*points):
        monkeypatch.setattr(registry, "entry_points", lambda group: list(points))
        registry.backends.cache_clear()
        return registry.backends

    yield install
    monkeypatch.undo()
    registry.backends.cache_clear()


@pytest.mark.parametrize(
    ("name", "found", "words"),
    [
        (
            "broken",
            ModuleNotFoundError("no theirs"),
            "does not load .*; fix or uninstall",
        ),
        ("broken", 3, "is no subclass of lgatr.attention.backends.base.Backend"),
        ("outer", named("inner"), "has the name 'inner'; the two must be the same"),
        ("native", named("native"), "there is a backend native already"),
    ],
)
def test_backends_that_are_none(name, found, words, installed):
    with pytest.raises(ValueError, match=f"entry point {name} of lgatr.attention_.*{words}"):
        installed(Point(name, found))()


def test_the_table_names_a_broken_one(installed, monkeypatch):
    installed(Point("broken", RuntimeError("boom")))
    with pytest.raises(SystemExit, match=r"^error: entry point broken .* does not load \(boom\)"):
        command([])


def test_a_backend_of_theirs(installed):
    found = installed(Point("theirs", named("theirs")))()
    assert "theirs" in found and "native" in found


def test_features_that_no_backend_knows():
    @dataclass(frozen=True, eq=False)
    class Own(ScoreMod):
        feature = "own"

        def __call__(self, score, at):
            return score

    spec = AttentionSpec(packing=Packing.from_lengths([3]), score=Own())
    with pytest.raises(ValueError, match="no attention backend knows own; a score modification"):
        registry.select_backend("auto", spec, torch.device("cpu"), torch.float32)
    spec = AttentionSpec(packing=Packing.from_lengths([3]))
    with pytest.raises(ValueError, match="no attention backend runs on meta in torch.float32"):
        registry.select_backend("auto", spec, torch.device("meta"), torch.float32)
