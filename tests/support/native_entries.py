"""A plugin of pytest that writes down which kernels in C++ were called: ``-p native_entries``."""

from __future__ import annotations

import os
from pathlib import Path

from lgatr.ops._runtime import cpu as native

called: set[str] = set()
_load = native.Kernel.load


def recorded(self, dtype):
    called.add(self.name)
    return _load(self, dtype)


def pytest_configure():
    native.Kernel.load = recorded


def pytest_sessionfinish():
    Path(os.environ["NATIVE_ENTRIES"]).write_text("\n".join(sorted(called)))
