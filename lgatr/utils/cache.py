"""Where the library keeps what it found out or built on this machine."""

from __future__ import annotations

import os
from pathlib import Path


def cache_directory() -> Path:
    """``$LGATR_CACHE``, or ``lgatr`` in the user's cache directory."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("LGATR_CACHE") or Path(home) / "lgatr")
