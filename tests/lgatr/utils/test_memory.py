"""Keeping freed memory, in a process of its own."""

from __future__ import annotations

import ctypes
import platform

import pytest

from lgatr.utils import memory
from support.commands import python

CHILD = """
import ctypes, resource, torch
from lgatr.utils.memory import keep_freed_memory
# The C library adapts what it keeps to what it has seen; a number given to it ends that.
assert ctypes.CDLL(None).mallopt(-3, 128 * 1024)
def step():
    kept = [torch.ones(200_000) for _ in range(100)]
def faults():
    # The heap ends in another remainder each time and may grow by a tensor more: let it settle.
    for _ in range(3):
        step()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        step()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
left = faults()
assert keep_freed_memory()
# Pages for the program's other needs come once; those of steps would come each time.
print(left, min(faults() for _ in range(3)))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only GNU's C library can")
def test_no_new_pages():
    """80 MB a step are 19,531 pages of 4 kB; those of a tensor or two may still be new."""
    left, kept = map(int, python("-c", CHILD, fresh=True, check=True).stdout.split())
    assert left > 10_000 and kept < left / 100


def test_other_libraries_are_left_alone(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("musl", "1.2"))
    monkeypatch.setattr(ctypes, "CDLL", None)
    assert not memory.keep_freed_memory()
