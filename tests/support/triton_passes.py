"""The passes in Triton where the tensors are not on a GPU: in Triton's interpreter."""

from __future__ import annotations

import importlib
from contextlib import contextmanager

from lgatr.ops._runtime.choice import TRITON, Operation, forget_choices
from lgatr.ops._runtime.stage import Stage


@contextmanager
def passes_in_triton(monkeypatch):
    """Passes in Triton, wherever tensors lie; the names of the operations that used them."""
    used = set()

    def passes(self, device, dtype):
        if TRITON not in self.targets:
            return None
        used.add(self.name)
        module = importlib.import_module(f"{self.package}.triton")
        return getattr(module, self.name.upper())

    monkeypatch.setattr(Operation, "_passes", passes)
    monkeypatch.setattr(Stage, "runs_on", lambda self, x: False)
    forget_choices()
    yield used
    forget_choices()
