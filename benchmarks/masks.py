"""What masks and changed scores cost on a CPU, beside full attention of the same events.

    python -m benchmarks.masks [--out benchmarks/results/NAME.json]

One event of 1,024 and of 4,096 tokens, and 128 jets of 20 to 90 particles; 8 heads. Each pattern
alternates with full attention in one process; figures are medians, planning included. ``kept`` is
the share of scores that a mask leaves. The cost should be no more than 1.1 times that, and a tenth
of full attention for what else there is; for jets 1.2 times full attention, for scores twice.
"""

from __future__ import annotations

import json
import platform
import statistics
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.attention import HEADS, native_way, seconds
from data.command import Parser, program
from lgatr.attention import (
    ALiBi,
    Causal,
    ColumnRanges,
    GlobalTokens,
    MaskMod,
    PrefixLM,
    SlidingWindow,
    SoftCap,
)
from lgatr.attention.pattern.masks import Mask
from lgatr.attention.pattern.positions import block_positions


def _every_third(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
    return (q - k) % 3 == 0


def masks_of(tokens: int) -> dict[str, Mask]:
    """Masks of one event."""
    return {
        "causal": Causal(),
        "window of 64": SlidingWindow(64),
        "prefix of a quarter": PrefixLM(tokens // 4),
        "Longformer": SlidingWindow(64) | GlobalTokens(16),
        "share question": ColumnRanges.share_question([[tokens // 4, *[tokens // 8] * 6]]),
        "FlashMask, causal": ColumnRanges.causal(tokens),
        "function": MaskMod(_every_third),
    }


def masks_of_jets() -> dict[str, Mask]:
    """Masks of events of any length."""
    return {
        "causal": Causal(),
        "window of 8": SlidingWindow(8),
        "prefix of 5": PrefixLM(5),
        "Longformer": SlidingWindow(8) | GlobalTokens(1),
        "function": MaskMod(_every_third),
    }


SCORES: dict[str, Callable[[], Any]] = {
    "cap": lambda: SoftCap(20.0),
    "ALiBi": lambda: ALiBi.geometric(HEADS),
    "cap, then ALiBi": lambda: SoftCap(20.0) >> ALiBi.geometric(HEADS),
}


def kept(mask: Mask, lengths: list[int]) -> float:
    """The share of scores that a mask leaves."""
    seen = total = token = 0
    for event, n in enumerate(lengths):
        at = block_positions(range(event, event + 1), 1, range(n), range(n), (n, n), (token, token))
        seen += int(mask.allowed(at).expand(1, -1, n, n).float().mean(1).sum())
        total, token = total + n * n, token + n
    return seen / total


def compare(
    lengths: list[int], width: int, patterns: dict[str, dict[str, Any]], rounds: int
) -> dict[str, dict[str, float]]:
    """Median milliseconds of each pattern and of full attention between them."""
    values = [torch.randn(sum(lengths), HEADS, width) for _ in range(3)]
    full = native_way(lengths)
    found = {}
    for name, pattern in patterns.items():
        way = native_way(lengths, **pattern)
        times: dict[str, list[float]] = {"ms": [], "full_ms": []}
        for turn in range(rounds + 1):
            for key, each in (("ms", way), ("full_ms", full)):
                took = seconds(each, values, True)
                if turn:
                    times[key].append(1e3 * took)
        row = {key: statistics.median(taken) for key, taken in times.items()}
        row["cost"] = row["ms"] / row["full_ms"]
        mask = pattern.get("mask")
        row["kept"] = 1.0 if mask is None else kept(mask, lengths)
        if mask is None:
            row["wanted"] = 2.0
        else:
            row["wanted"] = 1.2 if len(lengths) > 1 else 1.1 * row["kept"] + 0.1
        found[name] = row
        print(
            f"  {name:30}{row['ms']:9.1f} ms{row['full_ms']:9.1f} ms, full"
            f"{row['cost']:8.2f} (wanted {row['wanted']:.2f}, kept {row['kept']:.2f})",
            flush=True,
        )
    return found


def main() -> None:
    """Command line; see the module's text."""
    parser = Parser("benchmarks.masks", __doc__)
    parser.add_argument("--rounds", type=int, default=7, help="alternations (default 7)")
    parser.add_argument("--width", type=int, default=72, help="of a head (default 72)")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    options = parser.parse_args()
    torch.manual_seed(0)
    jets = torch.randint(20, 91, (128,)).tolist()
    scores = {name: {"score": make()} for name, make in SCORES.items()}
    report: dict[str, Any] = {
        "date": date.today().isoformat(),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "width": options.width,
    }
    cases = {
        "1,024 tokens": ([1024], masks_of(1024)),
        "4,096 tokens": ([4096], masks_of(4096)),
        "128 jets of 20 to 90": (jets, masks_of_jets()),
    }
    for title, (lengths, masks) in cases.items():
        print(f"{title}, forward and backward")
        patterns = {name: {"mask": mask} for name, mask in masks.items()} | scores
        report[title] = compare(lengths, options.width, patterns, options.rounds)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    with program():
        main()
