"""Attention by torch and by this library's own kernels: on every device, with every pattern."""

from lgatr.attention.backends.native.backend import NativeBackend

__all__ = ["BACKEND", "NativeBackend"]

BACKEND = NativeBackend
