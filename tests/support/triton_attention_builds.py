"""Machine code of the kernels for attention inside events; run as ``triton_builds.py`` is."""

from __future__ import annotations

import pytest

pytest.importorskip("triton", reason="Triton is not installed: pip install triton")

from lgatr.attention.backends.native.triton_event_gradients import gradient_kernel, sums_kernel
from lgatr.attention.backends.native.triton_events import (
    forward_kernel,
    largest_kernel,
)
from lgatr.attention.backends.native.triton_launch import (
    _BACKWARD,
    _FORWARD,
    _LARGEST,
    columns,
)
from lgatr.ops._runtime.products import AS_THEY_ARE, ROUNDED, SPLIT
from lgatr.ops._runtime.triton import FUSED
from support.triton_builds import build

PLAIN = {"BAND": False, "BOTTOM_RIGHT": False, "CAP": False, "ALIBI": False}
# What is compiled for: changes of the pattern, heads, width, products, format.
CASES = {
    "published": (PLAIN, 16, 72, SPLIT, "fp32"),
    "slim": (PLAIN, 8, 40, SPLIT, "fp32"),
    "bfloat16": ({"BAND": True}, 8, 72, AS_THEY_ARE, "bf16"),
    "float16, last corner": ({"BAND": True, "BOTTOM_RIGHT": True}, 3, 16, AS_THEY_ARE, "fp16"),
    "rounded": ({"CAP": True}, 1, 128, ROUNDED, "fp32"),
    "tf32": ({"ALIBI": True}, 5, 1, AS_THEY_ARE, "fp32"),
    "everything": (
        {"BAND": True, "BOTTOM_RIGHT": True, "CAP": True, "ALIBI": True}, 2, 100, SPLIT, "fp32",
    ),
}  # fmt: skip
TENSORS = ("q", "k", "v", "out", "grad", "of_q", "of_k", "of_v")
NUMBERS = ("left", "right", "key_tiles", "q_tokens", "k_tokens")


def kind(name, number_format):
    if name in TENSORS:
        return f"*{number_format}"
    if name in ("q_ptr", "k_ptr"):
        return "*i32"
    if name.endswith("_t") or name in NUMBERS:
        return "i32"
    return "fp32" if name in ("scale", "cap") else "*fp32"


def compile_for(kernel, case, options, capability):
    """With heads side by side."""
    pattern, heads, width, parts, number_format = case
    d0, d1 = columns(width)
    constants = {
        **PLAIN, **pattern, "PRODUCTS": parts, "heads": heads, "width": width, "D0": d0, "D1": d1,
        **{name: width for name in kernel.arg_names if name.endswith("_h")}, **options,
    }  # fmt: skip
    # Slopes that are not given are None.
    if not constants["ALIBI"]:
        constants["slopes"] = None
    launch = {name: constants.pop(name) for name in ("num_warps", "num_stages") if name in options}
    build(kernel, constants, capability, lambda name: kind(name, number_format), launch | FUSED)


capability = pytest.mark.parametrize(
    "capability", [pytest.param(80, marks=pytest.mark.slow), 90], ids="sm_{}".format
)
# Of the older cards some cases, and of the second launch options one.
REST = [("published", 1, 90), *((case, 0, 80) for case in ("published", "everything"))]
BUILDS = [
    *((case, 0, 90) for case in CASES),
    *(pytest.param(*build, marks=pytest.mark.slow) for build in REST),
]


@pytest.mark.parametrize(("case", "number", "capability"), BUILDS)
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "gradient"])
def test_attention_compiles(backward, case, number, capability):
    """What the interpreter accepts, and the compiler does not: types that change, shapes."""
    kernel, tuned = (gradient_kernel, _BACKWARD) if backward else (forward_kernel, _FORWARD)
    compile_for(kernel, CASES[case], tuned.candidates[number], capability)


@capability
@pytest.mark.parametrize("case", ["published", "tf32"])
def test_largest_numbers_compile(case, capability):
    """A width that is no power of two."""
    for kernel in (largest_kernel, sums_kernel):
        compile_for(kernel, CASES[case], {**_LARGEST, "BLOCK_D": 128}, capability)
