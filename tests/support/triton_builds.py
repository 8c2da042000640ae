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
from lgatr.ops.norm import triton_kernels as triton_norm  # noqa: E402
from lgatr.ops.product import triton as triton_products  # noqa: E402
from lgatr.ops.slim_glu import triton as slim_glu  # noqa: E402
from lgatr.ops.slim_heads import triton_kernels as slim_heads  # noqa: E402
from lgatr.ops.slim_norm import triton as slim_norm  # noqa: E402

GAINS = {
    "HAS_SUM": True,
    "HAS_WEIGHT": True,
    "HAS_WEIGHT_S": True,
    "BLOCK_C": 16,
    "BLOCK_S": 32,
    "BLOCK_T": 8,
}
NEITHER = {
    "HAS_SUM": False,
    "HAS_WEIGHT": False,
    "HAS_WEIGHT_S": False,
    "BLOCK_C": 16,
    "BLOCK_S": 0,
    "BLOCK_T": 4,
}
HEADS = {"METRIC": 1, "NORM": True, "BLOCK_N": 32, "BLOCK_C": 4, "BLOCK_S": 8}
BARE = {"METRIC": 0, "NORM": False, "BLOCK_N": 8, "BLOCK_C": 2, "BLOCK_S": 0}
BLOCKS = {"BLOCK_T": 64, "BLOCK_K": 32, "BLOCK_O": 64}
EXACT = {"PARTS_Z": 2, "PRODUCTS": 2}
NO_HEADS = {"W_IN": 0, "S_IN": 0, "W_OUT": 0, "S_OUT": 0}
NO_GATES = {"GATED": False, "NUMBER": 0, "NUMBER_S": 0, **NO_HEADS}
LINEAR = {"HAS_BIAS": False, **NO_GATES, "TURNED": True, **EXACT, **BLOCKS}
GATES_INSIDE = {
    "GATED": True, "NUMBER": 4, "NUMBER_S": 6, "gates": None, "activated": None, **NO_HEADS,
}  # fmt: skip
GATES_GIVEN = {"GATED": True, "NUMBER": 0, "NUMBER_S": 0, **NO_HEADS}
GATED = {"HAS_BIAS": True, **GATES_INSIDE, "TURNED": False, **EXACT, **BLOCKS, "PARTS_Z": 1}
OTHER_GATES = {"HAS_BIAS": True, **GATES_GIVEN, "TURNED": False, **EXACT, **BLOCKS}
IN_HEADS = {**LINEAR, "W_IN": 8, "S_IN": 8}
TO_HEADS = {**LINEAR, "W_OUT": 6, "S_OUT": 0, "TURNED": False}
WEIGHTS = {
    "HAS_BIAS": True,
    "W_IN": 0,
    "S_IN": 0,
    **EXACT,
    "BLOCK_T": 64,
    "BLOCK_O": 64,
    "BLOCK_I": 64,
}
MOVE = {"BLOCK_N": 8, "BLOCK_Z": 16, "BLOCK_W": 8}
# Channels of published slim networks, and odd ones.
SLIM_NORM = {
    "C": 32,
    "S": 96,
    "GAINS": True,
    "SUM": True,
    "BLOCK_T": 8,
    "BLOCK_C": 32,
    "BLOCK_S": 128,
}
SLIM_BARE = {
    "C": 5,
    "S": 0,
    "GAINS": False,
    "SUM": False,
    "BLOCK_T": 64,
    "BLOCK_C": 8,
    "BLOCK_S": 1,
}
SLIM_HEADS = {"N": 24, "C": 4, "S": 12}
SLIM_ODD = {"N": 6, "C": 3, "S": 0}
SIGNS, ODD_SIGNS = {"METRIC": 1, "PER_PART": 8}, {"METRIC": 2, "PER_PART": 3}
ROWS, ODD_ROWS = {"BLOCK_R": 64, "BLOCK_C": 4, "BLOCK_S": 16}, {"BLOCK_R": 128, "BLOCK_C": 4}
ODD_ROWS["BLOCK_S"] = 1
SLIM_GLU = {"V": 128, "S": 384, "BLOCK_T": 2, "BLOCK_V": 128, "BLOCK_S": 128}
ODD_GLU = {"V": 3, "S": 0, "BLOCK_T": 64, "BLOCK_V": 4, "BLOCK_S": 1}
# What is given of functions that kernels do not know, and else is None.
OF_FIRST = dict.fromkeys(("gates", "of_gates", "of_inner"))
OF_SECOND = dict.fromkeys(("values", "given", "of_second"))


def functions(first, second):
    """Constants for functions by number."""
    return {**({} if first == 0 else OF_FIRST), **({} if second == 0 else OF_SECOND)}


FUNCTIONS = [
    {**(SLIM_GLU if a else ODD_GLU), "NUMBER_V": a, "NUMBER": b, **functions(a, b)}
    for a, b in ((number, (number + 3) % 7) for number in range(7))
]
GATES = [
    {"NUMBER": a, "NUMBER_S": b, "BLOCK": 256, **functions(a, b)}
    for a, b in ((0, 0), (4, 6), (1, 2), (3, 5))
]
INNER = {"V": 128, "BLOCK_T": 2, "BLOCK_V": 128}
KERNELS = [
    (triton_products._product_kernel, {"BLOCK": 256}),
    (triton_products._gradient_kernel, {"BLOCK": 256}),
    (triton_norm.norm_kernel, GAINS),
    (triton_norm.norm_kernel, NEITHER),
    (triton_norm.gradient_kernel, GAINS),
    (triton_norm.gradient_kernel, NEITHER),
    (triton_kernels._heads_kernel, HEADS),
    (triton_kernels._heads_kernel, BARE),
    (triton_kernels._gradient_kernel, HEADS),
    (triton_kernels._gradient_kernel, BARE),
    (triton_kernels._move_kernel, {"BACK": True, **MOVE}),
    (triton_kernels._move_kernel, {"BACK": False, **MOVE}),
    *((triton_gate._gate_kernel, constants) for constants in GATES),
    *((triton_gate._gradient_kernel, constants) for constants in GATES),
    (triton_linear_kernels.linear_kernel, LINEAR),
    (triton_linear_kernels.linear_kernel, GATED),
    (triton_linear_kernels.linear_kernel, OTHER_GATES),
    (triton_linear_kernels.linear_kernel, IN_HEADS),
    (triton_linear_kernels.linear_kernel, TO_HEADS),
    (triton_linear_kernels.weights_kernel, WEIGHTS),
    (triton_linear_kernels.weights_kernel, {**WEIGHTS, "W_IN": 8, "S_IN": 8}),
    (triton_linear_kernels.sum_kernel, {"BLOCK": 64, "STEP": 64}),
    (triton_placement._placement_kernel, {"NUM_PARTS": 3, "ROWS": 2, "BLOCK": 256}),
    (slim_norm._norm_kernel, SLIM_NORM),
    (slim_norm._norm_kernel, SLIM_BARE),
    (slim_norm._gradient_kernel, SLIM_NORM),
    (slim_norm._gradient_kernel, SLIM_BARE),
    (slim_heads._heads_kernel, {**SLIM_HEADS, **SIGNS, **ROWS, "BLOCK_D": 32}),
    (slim_heads._heads_kernel, {**SLIM_ODD, **ODD_SIGNS, **ODD_ROWS, "BLOCK_D": 16}),
    (slim_heads._gradient_kernel, {**SLIM_HEADS, **SIGNS, **ROWS, "APART": 8, "UNIT": 4}),
    (slim_heads._gradient_kernel, {**SLIM_ODD, **ODD_SIGNS, **ODD_ROWS, "APART": 6, "UNIT": 1}),
    (slim_heads._unpack_kernel, {**SLIM_HEADS, **ROWS, "UNIT": 4}),
    (slim_heads._unpack_kernel, {**SLIM_ODD, **ODD_ROWS, "UNIT": 1}),
    (slim_heads._pack_kernel, {**SLIM_HEADS, "BLOCK_R": 64, "BLOCK_D": 32}),
    (slim_heads._pack_kernel, {**SLIM_ODD, "BLOCK_R": 64, "BLOCK_D": 16}),
    *((slim_glu._glu_kernel, constants) for constants in FUNCTIONS),
    *((slim_glu._gradient_kernel, constants) for constants in FUNCTIONS),
    (slim_glu._inner_kernel, {**INNER, "BACK": False}),
    (slim_glu._inner_kernel, {**INNER, "BACK": True}),
]


NUMBERS = {"tokens", "channels", "scalars", "s_channels", "groups", "c", "per_part", "split", "w"}
NUMBERS |= {"chunk", "z_in", "z_out", "v_in", "v_out", "pieces", "b_rows"}
NUMBERS |= {"size_z", "size_v", "size_bias"}
NUMBERS |= {
    "width",
    "outputs",
    "out_width",
    "count",
    "first",
    "rows",
    "programs",
    "vector_programs",
    "chunk",
    "z_out",
    "z_in",
    "v_out",
    "v_in",
    "pieces",
    "b_rows",
}
REALS = {"epsilon", "epsilon_s", "gain", "layer_norm_epsilon", "limit"}


def build(kernel, constants, capability, kind, options):
    """Compile a kernel whose other arguments are of the kinds that their names have."""
    names = kernel.arg_names
    signature = {name: "constexpr" if name in constants else kind(name) for name in names}
    values = {(names.index(name),): constants[name] for name in names if name in constants}
    source = ASTSource(fn=kernel.fn, signature=signature, constexprs=values)
    built = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    assert built.asm["cubin"]
    assert f".target sm_{capability}" in built.asm["ptx"]


def kind(name):
    if name == "table":
        return "*i64"
    if name in ("parts", "starts"):
        return ("*fp32",) * 3 if name == "parts" else ("i32",) * 4
    if name.endswith(("_t", "_i", "_o", "_k", "_n")) or name in NUMBERS:
        return "i32"
    return "fp32" if name in REALS else "*fp32"


# For the older cards each kernel once: what differs there is how products and copies are lowered.
ONCE = {id(kernel): (kernel, constants) for kernel, constants in reversed(KERNELS)}.values()


@pytest.mark.parametrize(
    ("kernel", "constants", "capability"),
    [
        *((*case, 90) for case in KERNELS),
        *(pytest.param(*case, 80, marks=pytest.mark.slow) for case in reversed(ONCE)),
    ],
)
def test_ampere_and_hopper(kernel, constants, capability):
    """The interpreter accepts what the compiler does not; the compiler needs no GPU."""
    of_sums = kernel is triton_linear_kernels.sum_kernel  # where these are sizes
    kinds = (lambda name: "i32" if name.startswith("of_") else kind(name)) if of_sums else kind
    build(kernel, constants, capability, kinds, FUSED)
