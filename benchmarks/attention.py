"""Packed attention: the native backend beside other ways of computing it, and its memory.

    python -m benchmarks.attention [--out benchmarks/results/NAME.json] [--lengths FILE]

128 events of 20 to 90 particles (or the first 128 of FILE), 8 heads. The ways alternate in one
process; figures are medians. Peak memory is measured in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from data.command import Parser, program
from lgatr.attention import (
    AttentionSpec,
    Causal,
    ColumnRanges,
    Packing,
    SlidingWindow,
    prepare_attention,
)
from lgatr.attention.tools.event_lengths import read_lengths

ROOT = Path(__file__).resolve().parents[1]
HEADS = 8
Way = Callable[[Tensor, Tensor, Tensor], Tensor]


def split_way(lengths: list[int]) -> Way:
    """One call of torch's attention for each event."""

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        parts = zip(q.split(lengths), k.split(lengths), v.split(lengths), strict=True)
        outputs = [
            F.scaled_dot_product_attention(*(x.transpose(0, 1).unsqueeze(0) for x in part))
            for part in parts
        ]
        return torch.cat([out[0].transpose(0, 1) for out in outputs])

    return attend


def padded_way(lengths: list[int]) -> Way:
    """All events padded to the longest, padding and taking apart included."""
    n, longest = torch.tensor(lengths), max(lengths)
    place = (torch.arange(longest)[None] < n[:, None]).flatten().nonzero().flatten()
    mask = (torch.arange(longest)[None] < n[:, None])[:, None, None]

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        dense = [
            x.new_zeros(len(lengths) * longest, *x.shape[1:])
            .index_copy(0, place, x)
            .unflatten(0, (-1, longest))
            .transpose(1, 2)
            for x in (q, k, v)
        ]
        out = F.scaled_dot_product_attention(*dense, attn_mask=mask)
        return out.transpose(1, 2).flatten(0, 1)[place]

    return attend


def native_way(lengths: list[int], **pattern: object) -> Way:
    """The native backend, planning included."""
    packing = Packing.from_lengths(lengths)

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        prepared = prepare_attention(
            q.device, q.dtype, packing=packing, backend="native", **pattern
        )
        return prepared(q, k, v)

    return attend


def seconds(way: Way, values: list[Tensor], backward: bool) -> float:
    """One call."""
    leaves = [x.detach().requires_grad_(backward) for x in values]
    start = time.perf_counter()
    out = way(*leaves)
    if backward:
        torch.autograd.grad(out.sum(), leaves)
    return time.perf_counter() - start


def compare(lengths: list[int], width: int, rounds: int) -> dict[str, dict[str, float]]:
    """Median milliseconds of each way, forward and with backward."""
    ways = {
        "native": native_way(lengths),
        "split": split_way(lengths),
        "padded": padded_way(lengths),
        "native, causal": native_way(lengths, mask=Causal()),
        "native, window 8": native_way(lengths, mask=SlidingWindow(8)),
    }
    values = [torch.randn(sum(lengths), HEADS, width) for _ in range(3)]
    times: dict[str, dict[str, list[float]]] = {n: {"forward": [], "both": []} for n in ways}
    for turn in range(rounds + 2):
        for name, way in ways.items():
            with torch.no_grad():
                forward = seconds(way, values, False)
            both = seconds(way, values, True)
            if turn >= 2:
                times[name]["forward"].append(forward)
                times[name]["both"].append(both)
    return {
        name: {kind: 1e3 * statistics.median(t) for kind, t in kinds.items()}
        for name, kinds in times.items()
    }


def block_mask_cost(lengths: list[int], rounds: int) -> dict[str, float]:
    """Milliseconds to make FlexAttention's block mask, ours and by torch's function."""
    from torch.nn.attention.flex_attention import create_block_mask

    from lgatr.attention.backends.flex import Lowering

    packing, cpu = Packing.from_lengths(lengths), torch.device("cpu")
    tokens, event = packing.num_tokens, packing.batch_index()

    def same(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return event[q] == event[k]

    ways: dict[str, Callable[[], object]] = {
        "from the offsets": lambda: Lowering(AttentionSpec(packing=packing), cpu).block_mask(
            tokens, tokens
        ),
        "create_block_mask": lambda: create_block_mask(
            same, None, None, tokens, tokens, device="cpu"
        ),
    }
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            found[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(times) for name, times in found.items()}


MEMORY = {
    "10,000 events x 50, forward": ("packed", 10_000),
    "5,000 events x 50, forward": ("packed", 5_000),
    "2,500 events x 50, forward": ("packed", 2_500),
    "10,000 events of 20 to 80, forward": ("ragged", 10_000),
    "10,000 events of 20 to 80, window, forward": ("window", 10_000),
    "FlashMask of 1,000,000 tokens": ("columns", 1_000_000),
}


def peak() -> float:
    """Largest memory of this process so far, MB."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage counts what the parent had, too
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return float(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def memory_job(kind: str, size: int) -> float:
    """Peak memory in MB that the job takes beyond imports; run in a process of its own."""
    torch.manual_seed(0)
    base = peak()
    if kind == "columns":
        lengths = [50] * (size // 50)
        mask = ColumnRanges.documents(Packing.from_lengths(lengths), causal=True)
        assert len(mask.upper_start) == size  # type: ignore[arg-type]
        return mask.num_bytes / 1e6
    ragged = torch.randint(20, 81, (size,)).tolist()
    lengths = [50] * size if kind == "packed" else ragged
    values = [torch.randn(sum(lengths), HEADS, 36) for _ in range(3)]
    pattern = {"mask": SlidingWindow(8)} if kind == "window" else {}
    with torch.no_grad():
        native_way(lengths, **pattern)(*values)
    return peak() - base


def measured_memory() -> dict[str, float]:
    """Peak memory of all jobs, MB."""
    found = {}
    for name, (kind, size) in MEMORY.items():
        command = [sys.executable, "-m", "benchmarks.attention", "--memory", kind, str(size)]
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
        found[name] = float(done.stdout)
    return found


def main() -> None:
    """Command line; see the module's text."""
    parser = Parser("benchmarks.attention", __doc__)
    parser.add_argument("--lengths", type=Path, help="file with lengths of events")
    parser.add_argument("--rounds", type=int, default=15, help="alternations (default 15)")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    parser.add_argument("--memory", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory:
        print(memory_job(options.memory[0], int(options.memory[1])))
        return
    torch.manual_seed(0)
    drawn = torch.randint(20, 91, (128,)).tolist()
    sets = {
        "128 events of 20 to 90": read_lengths(options.lengths)[:128] if options.lengths else drawn,
        "128 events of 48 to 52": torch.randint(48, 53, (128,)).tolist(),
        "2,000 events of 4 to 12": torch.randint(4, 13, (2000,)).tolist(),
    }
    report: dict[str, object] = {
        "date": date.today().isoformat(),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
    }
    for width in (36, 72):
        for name, lengths in sets.items():
            rows = compare(lengths, width, options.rounds)
            report[f"{name}, head width {width}, milliseconds"] = rows
            print(f"\n{name}, {sum(lengths)} tokens, {HEADS} heads of {width}")
            for way, row in rows.items():
                print(f"  {way:20}{row['forward']:9.1f} ms{row['both']:9.1f} ms with backward")
            ratios = {w: rows["native"]["both"] / rows[w]["both"] for w in ("split", "padded")}
            print(f"  native / split {ratios['split']:.2f}, native / padded {ratios['padded']:.2f}")
    report["block mask of 128 events of 20 to 90, milliseconds"] = cost = block_mask_cost(drawn, 5)
    print("\nblock mask: " + ", ".join(f"{name} {t:.1f} ms" for name, t in cost.items()))
    report["peak memory, MB"] = memory = measured_memory()
    print("\npeak memory")
    for name, megabytes in memory.items():
        print(f"  {name:44}{megabytes:9.1f} MB")
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    with program():
        main()
