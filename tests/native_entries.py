"""A plugin of pytest that writes down which kernels in C++ were called: ``-p native_entries``."""

from __future__ import annotations

import os
from pathlib import Path

from lgatr.ops._runtime import cpu as native

called: set[str] = set()
_entry = native._entry


def recorded(name, dtype):
    called.add(name)
    return _entry(name, dtype)


def pytest_configure():
    native._entry = recorded


def pytest_sessionfinish():
    Path(os.environ["NATIVE_ENTRIES"]).write_text("\n".join(sorted(called)))
