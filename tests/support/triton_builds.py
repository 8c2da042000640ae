"""Machine code of the CUDA kernels; run by test_triton.py in a process of its own."""

from __future__ import annotations

import pytest

triton = pytest.importorskip("triton", reason="Triton is not installed: pip install triton")

from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

from lgatr.ops._runtime.triton import FUSED  # noqa: E402
from lgatr.ops.gate import triton as triton_gate  # noqa: E402
from lgatr.ops.heads import triton_kernels  # noqa: E402
from lgatr.ops.linear import triton_kernels as triton_linear_kernels  # noqa: E402
from lgatr.ops.linear import triton_matrices as triton_placement  # noqa: E402
from lgatr.ops.norm import triton as triton_norm  # noqa: E402
from lgatr.ops.product import triton as triton_products  # noqa: E402

GAINS = {"HAS_WEIGHT": True, "HAS_WEIGHT_S": True, "BLOCK_C": 16, "BLOCK_S": 32}
NEITHER = {"HAS_WEIGHT": False, "HAS_WEIGHT_S": False, "BLOCK_C": 16, "BLOCK_S": 0}
HEADS = {"METRIC": 1, "NORM": True, "BLOCK_N": 32, "BLOCK_C": 4, "BLOCK_S": 8}
BARE = {"METRIC": 0, "NORM": False, "BLOCK_N": 8, "BLOCK_C": 2, "BLOCK_S": 0}
BLOCKS = {"BLOCK_T": 64, "BLOCK_K": 32, "BLOCK_O": 64}
LINEAR = {"HAS_BIAS": False, "GATED": False, "TURNED": True, "PARTS": 2, **BLOCKS}
GATED = {"HAS_BIAS": True, "GATED": True, "TURNED": False, "PARTS": 0, **BLOCKS}
MOVE = {"BLOCK_N": 8, "BLOCK_Z": 16, "BLOCK_W": 8}
KERNELS = [
    (triton_products._product_kernel, {"BLOCK": 256}),
    (triton_products._gradient_kernel, {"BLOCK": 256}),
    (triton_norm._norm_kernel, GAINS),
    (triton_norm._norm_kernel, NEITHER),
    (triton_norm._gradient_kernel, GAINS),
    (triton_norm._gradient_kernel, NEITHER),
    (triton_kernels._heads_kernel, HEADS),
    (triton_kernels._heads_kernel, BARE),
    (triton_kernels._gradient_kernel, HEADS),
    (triton_kernels._gradient_kernel, BARE),
    (triton_kernels._move_kernel, {"BACK": True, **MOVE}),
    (triton_kernels._move_kernel, {"BACK": False, **MOVE}),
    (triton_gate._gate_kernel, {"BLOCK": 256}),
    (triton_gate._gradient_kernel, {"BLOCK": 256}),
    (triton_linear_kernels.linear_kernel, LINEAR),
    (triton_linear_kernels.linear_kernel, GATED),
    (triton_placement._placement_kernel, {"ROWS": 2, "BLOCK": 256}),
]


NUMBERS = {"tokens", "channels", "scalars", "s_channels", "groups", "c", "per_part", "split", "w"}
NUMBERS |= {"width", "outputs", "out_width", "count", "first"}
REALS = {"epsilon", "epsilon_s", "gain", "layer_norm_epsilon", "limit"}


def kind(name):
    if name == "table":
        return "*i64"
    if name.endswith(("_t", "_i", "_o", "_k")) or name in NUMBERS:
        return "i32"
    return "fp32" if name in REALS else "*fp32"


@pytest.mark.parametrize("capability", [pytest.param(80, marks=pytest.mark.slow), 90])
@pytest.mark.parametrize(("kernel", "constants"), KERNELS)
def test_ampere_and_hopper(kernel, constants, capability):
    """The interpreter accepts what the compiler does not; the compiler needs no GPU."""
    names = kernel.arg_names
    signature = {name: "constexpr" if name in constants else kind(name) for name in names}
    values = {(names.index(name),): value for name, value in constants.items()}
    source = ASTSource(fn=kernel, signature=signature, constexprs=values)
    built = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=FUSED)
    assert built.asm["cubin"]
    assert f".target sm_{capability}" in built.asm["ptx"]
