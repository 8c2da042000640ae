"""``python -m lgatr``: which implementation of each operation runs here, and why not others.

``python -m lgatr.attention`` does the same for the backends of attention.
"""

from __future__ import annotations

import torch

import lgatr.primitives  # noqa: F401  (declares all operations)
from lgatr.ops._runtime.choice import TARGETS, Operation

_FORMATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def table(device: str) -> list[tuple[str, ...]]:
    """A header, and for each operation what runs for tensors on a device, by number format."""
    rows: list[tuple[str, ...]] = [(f"on {device}", *map(_name, _FORMATS))]
    for operation in sorted(Operation.all, key=lambda x: x.name):
        found = [operation.target(device, dtype) for dtype in _FORMATS]
        rows.append(
            (operation.name, *(operation.otherwise if t is None else t.name for t in found))
        )
    return rows


def reasons(devices: list[str]) -> list[str]:
    """A line for each target that is not used on this machine, or not for some formats."""
    lines = []
    for target in TARGETS:
        if target.device not in devices:
            lines.append(f"{target.name}: this machine has no {target.device} device")
            continue
        for dtype in target.dtypes:
            problem = target.problem_with(target.device, dtype)
            if problem is not None:
                lines.append(f"{target.name}, {_name(dtype)}: {problem}")
    return lines


def main() -> None:
    """Print the tables."""
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    for device in devices:
        rows = table(device)
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        for row in rows:
            line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            print(line.rstrip())
        print()
    for line in reasons(devices) or ["everything that was written for these devices is used"]:
        print(line)
    print(
        "formula: plain torch; also under autocast, inside torch.func and, but for the product, in "
        "traced programs"
    )
    print("attention: other kernels of the native backend; all backends: python -m lgatr.attention")


if __name__ == "__main__":
    main()
