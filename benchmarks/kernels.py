"""The CUDA kernels alone: time, and the share of the memory's bandwidth that they reach.

    python -m benchmarks.kernels [--tokens 7000 56000] [--out FILE.json]

Each number that a kernel must read or write counts once. The bandwidth is that of a large copy on
the same GPU, measured in the same run; small batches fit the cache and can exceed it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import description
from data.command import Parser, program
from lgatr.layout import Sectors
from lgatr.ops._runtime.tuning import seconds_on_gpu
from lgatr.ops.slim_glu.stage import GatedUnits
from lgatr.ops.slim_heads.stage import SlimFromHeads, SlimToHeads
from lgatr.ops.slim_norm.stage import SlimNorm
from lgatr.utils.nonlinearities import NONLINEARITIES

CHANNELS, SCALARS = 32, 64  # inside the blocks of the published network
SLIM_CHANNELS = 32, 96, 8, 4  # of vectors and scalars, heads, hidden ones of the MLP for each
_QKV = (True, False, False)


def _state(tokens: int, channels: int, scalars: int = 0) -> Sectors:
    sizes = (tokens, 2 * channels + scalars), (4, tokens, 2 * channels), (3, tokens, 2 * channels)
    return Sectors(*(torch.randn(size, device="cuda") for size in sizes))


def _numbers(*states: Sectors) -> int:
    return sum(part.numel() for x in states for part in x)


def cases(tokens: int) -> dict[str, tuple[Callable[[], Any], int]]:
    """Kernels by name: what launches one, and how many numbers it must move."""
    from lgatr.ops.gate import triton as triton_gate
    from lgatr.ops.norm import triton as triton_norm
    from lgatr.ops.product import triton as triton_products

    x, y, grad, out, other = (_state(tokens, CHANNELS) for _ in range(5))
    wide, wide_grad, to = (_state(tokens, CHANNELS, SCALARS) for _ in range(3))
    functions = NONLINEARITIES["gelu"], NONLINEARITIES["gelu_exact"]
    moments = triton_norm.layer_norm(wide, None, None, 0.01, 1.0, 1e-5)[1]
    return {
        "product": (lambda: triton_products.write_product(x, y, out), _numbers(x, y, out)),
        "gradients of the product": (
            lambda: triton_products.write_gradients(x, y, grad, (out, other)),
            _numbers(x, y, grad, out, other),
        ),
        "gate": (lambda: triton_gate.write_gated(wide, to, *functions), _numbers(wide, to)),
        "gradient of the gate": (
            lambda: triton_gate.write_gradient(wide, wide_grad, to, *functions),
            _numbers(wide, wide_grad, to),
        ),
        "norm": (
            lambda: triton_norm.layer_norm(wide, None, None, 0.01, 1.0, 1e-5),
            2 * _numbers(wide) + 3 * tokens,
        ),
        "gradient of the norm": (
            lambda: triton_norm.layer_norm_gradients(
                wide, None, None, wide_grad, moments, 0.01, 1.0
            ),
            3 * _numbers(wide) + 3 * tokens,
        ),
    }


def slim_cases(tokens: int) -> dict[str, tuple[Callable[[], Any], int]]:
    """The same of the slim network."""
    from lgatr.ops.slim_glu.triton import SLIM_GLU
    from lgatr.ops.slim_heads.triton import SLIM_FROM_HEADS, SLIM_TO_HEADS
    from lgatr.ops.slim_norm.triton import SLIM_NORM

    def state(c: int, s: int) -> list[torch.Tensor]:
        return [torch.randn(tokens, 4, c, device="cuda"), torch.randn(tokens, s, device="cuda")]

    c, s, heads, ratio = SLIM_CHANNELS
    gains = [torch.rand(n, device="cuda") for n in (c, s)]
    norm, to_heads = SlimNorm(0.01), SlimToHeads(heads, _QKV, 0.01, (c // heads, s // heads))
    glu = GatedUnits(NONLINEARITIES["sigmoid"], NONLINEARITIES["gelu"])
    x, of_x, qkv = state(c, s), state(c, s), state(3 * c, 3 * s)
    wide, gated = state(3 * ratio * c, 2 * ratio * s), state(ratio * c, ratio * s)
    kept = SLIM_NORM.forward(norm, *x, *gains)[1]
    parts, factors = SLIM_TO_HEADS.forward(to_heads, *qkv)
    grads = tuple(torch.randn_like(part).contiguous() for part in parts)
    one, d = SlimFromHeads(c // heads), 4 * c + s
    # Those of the backward pass, which Passes allows to be missing.
    of_norm, of_heads, of_joined, of_glu = (
        passes.backward or (lambda *_: ())
        for passes in (SLIM_NORM, SLIM_TO_HEADS, SLIM_FROM_HEADS, SLIM_GLU)
    )
    units = tokens * ratio * (12 * c + 2 * s), tokens * ratio * d
    return {
        "slim norm": (lambda: SLIM_NORM.forward(norm, *x, *gains), tokens * (2 * d + 1)),
        "gradient of the slim norm": (
            lambda: of_norm(norm, [*x, *gains], (), kept, tuple(of_x)),
            tokens * (3 * d + 1),
        ),
        "slim heads": (
            lambda: SLIM_TO_HEADS.forward(to_heads, *qkv),
            tokens * (6 * d + 3 * heads),
        ),
        "gradient of slim heads": (
            lambda: of_heads(to_heads, [None, None], parts, factors, grads),
            tokens * (9 * d + 3 * heads),
        ),
        "slim heads joined": (lambda: SLIM_FROM_HEADS.forward(one, grads[0]), tokens * 2 * d),
        "gradient of them": (
            lambda: of_joined(one, [grads[0]], (), (), tuple(of_x)),
            tokens * 2 * d,
        ),
        "slim unit": (lambda: SLIM_GLU.forward(glu, *wide), sum(units)),
        "gradient of the slim unit": (
            lambda: of_glu(glu, wide, (), (), tuple(gated)),
            2 * units[0] + units[1],
        ),
    }


def copy_bandwidth() -> float:
    """Bytes per second of a large copy, read and written ones."""
    source = torch.randn(1 << 29, device="cuda")
    target = torch.empty_like(source)
    return 8 * source.numel() / seconds_on_gpu(lambda: target.copy_(source))


def main() -> None:
    """Command line; see the module's text."""
    parser = Parser("benchmarks.kernels", __doc__)
    parser.add_argument("--tokens", nargs="+", type=int, default=[7000, 56000])
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    options = parser.parse_args()
    if min(options.tokens) < 1:
        sys.exit("error: --tokens must be at least 1")
    if not torch.cuda.is_available():
        sys.exit("error: the kernels are for GPUs, and there is none here")
    best = copy_bandwidth()
    print(f"copy: {best / 1e12:.2f} TB/s")
    rows = []
    for tokens in options.tokens:
        for name, (run, numbers) in (cases(tokens) | slim_cases(tokens)).items():
            seconds = seconds_on_gpu(run)
            rate = 4 * numbers / seconds
            rows.append({"kernel": name, "tokens": tokens, "seconds": seconds, "byte_per_s": rate})
            print(f"{name:26}{tokens:>8} tokens {seconds * 1e6:8.1f} us "
                  f"{rate / 1e12:6.2f} TB/s {rate / best:6.0%}")  # fmt: skip
    if options.out:
        report = {**description(), "copy_byte_per_s": best, "kernels": rows}
        options.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    with program():
        main()
