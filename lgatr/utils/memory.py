"""Memory of the CPU that comes back: kept for the next tensor, or returned."""

from __future__ import annotations

import ctypes
import platform

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # of mallopt, see malloc.h


def keep_freed_memory() -> bool:
    """Let this process keep the memory that tensors on the CPU give back, for those that follow.

    A training step gives back all its activations at the end. The C library then returns much of
    that memory to the operating system, which hands it out again page by page and filled with
    zeros: up to a fifth of the time of a step. Afterwards the process keeps what it once
    had, and other programs cannot have it; so this is a program's decision and not the library's.

    Returns
    -------
    Whether the C library understood: only GNU's does.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    # Blocks of any size from the heap, and the heap never (-1) shortened at its end.
    return bool(library.mallopt(_MMAP_MAX, 0) and library.mallopt(_TRIM_THRESHOLD, -1))
