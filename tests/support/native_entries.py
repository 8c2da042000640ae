"""A plugin of pytest that writes down which kernels in C++ were called: ``-p native_entries``."""

from __future__ import annotations

import os
from pathlib import Path


def pytest_sessionfinish():
    from lgatr.ops._runtime.choice import Operation
    from lgatr.ops._runtime.cpu import KERNELS

    Operation.load_all()
    lines = [f"{name} {bool(kernel.functions)}" for name, kernel in sorted(KERNELS.items())]
    Path(os.environ["NATIVE_ENTRIES"]).write_text("\n".join(lines))
