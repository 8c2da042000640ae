"""Attention by torch and by this library's own kernels: on every device, with every pattern.

============================  =====================================================================
``backend``                   which of these computes a pattern
``cpu``                       inside events on CPUs, by kernels in C++ (``attention.cpp``)
``masked``                    the same with masks and changed scores (``masked_attention.cpp``)
``cuda``, ``triton_*``        inside events on GPUs, by kernels in Triton
``events``                    inside events on CPUs: C++, else groups of equal events
``torch_groups``              hand-written gradient of such groups (``grouping`` chooses them)
``torch_efficient``           inside events on GPUs, by torch's kernel
``traced``                    inside events, as an operator in compiled and exported networks
``scored``                    any mask and score, block by block (``blocks``, ``ranges``)
============================  =====================================================================
"""

from lgatr.attention.backends.native.backend import NativeBackend

__all__ = ["BACKEND", "NativeBackend"]

BACKEND = NativeBackend
