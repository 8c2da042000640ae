"""What was measured on a card, as tables to read."""

from __future__ import annotations

from typing import Any

Row = dict[str, Any]


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.1e}" if value and abs(value) < 1e-2 else f"{value:.4g}"
    return str(value)


def table(title: str, rows: list[Row], columns: dict[str, str]) -> str:
    """Rows under a title; ``columns`` are headings by key. A failed row ends with its error."""
    if not rows:
        return ""
    cells = [
        list(columns.values()),
        *([_cell(row.get(key)) for key in columns] for row in rows),
    ]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    ends = ["", *(f"  error: {row['error']}" if "error" in row else "" for row in rows)]
    lines = [
        "  ".join(cell.rjust(w) for cell, w in zip(line, widths, strict=True)) + end
        for line, end in zip(cells, ends, strict=True)
    ]
    return "\n".join(["", title, *lines])


def kinds(row: Row) -> str:
    """Time by kind of kernel in one training step, with the floor below it."""
    name = f"{row['model']}, {row['jets']} jets, {row['format']}"
    if "error" in row:
        return f"\n{name}: error: {row['error']}"
    found = [
        {"kind": kind, **{k: v for k, v in values.items() if k != "longest_ms"}}
        for kind, values in row["kinds"].items()
    ]
    title = f"{name}: {row['gpu_ms']:.4g} ms of kernels in {row['kernels']} launches"
    columns = {"kind": "kind", "ms": "ms", "share": "share", "kernels": "kernels"}
    parts = [{"part": part, **values} for part, values in row["floor"].items()]
    heads = {
        "part": "floor of", "gflop": "GFLOP", "gbyte": "GB", "byte_ms": "bytes (ms)",
        "float32_ms": "float32 (ms)", "three_tf32_ms": "3 x TF32", "tf32_ms": "TF32",
        "bf16_ms": "bf16",
    }  # fmt: skip
    return table(title, found, columns) + table("", parts, heads)


COLUMNS: dict[str, tuple[str, dict[str, str]]] = {
    "table": (
        "Steps",
        {
            "model": "model", "jets": "jets", "format": "format", "mode": "step", "way": "way",
            "ms": "ms", "gradients_ms": "no optimizer", "kernels": "kernels",
            "peak_memory_gb": "GB", "jets_per_s": "jets/s",
        },
    ),
    "attention": (
        "Attention of one layer",
        {
            "backend": "backend", "jets": "jets", "heads": "heads", "width": "width",
            "dtype": "dtype", "forward_us": "forward (us)",
            "forward_backward_us": "with backward", "forward_kernels": "kernels",
            "forward_backward_kernels": "with backward",
        },
    ),
    "blocks": (
        "Kernels of one block in training",
        {
            "model": "model", "forward": "forward", "backward": "backward",
            "forward_of_all": "all forward", "backward_of_all": "all backward",
        },
    ),
    "accuracy": (
        "Largest difference from float64 over the largest entry; equivariance at rapidity 2",
        {
            "model": "model", "format": "format", "inputs": "inputs", "logits": "logits",
            "gradients": "gradients", "worst_parameter": "worst parameter",
            "equivariance": "equivariance",
        },
    ),
}  # fmt: skip


def report(found: dict[str, Any]) -> str:
    """All tables of a report, the card first."""
    card = found["card"]
    name = card["gpu"] or card["processor"]
    lines = [f"{name}, torch {card['torch']}, {card['date']}, commit {card['commit']}"]
    if rates := found["rates"]:
        flops = ", ".join(
            f"{kind} {rates[f'{kind}_flop_per_s'] / 1e12:.4g}"
            for kind in ("float32", "tf32", "bf16")
        )
        lines.append(f"copy {rates['copy_byte_per_s'] / 1e12:.3g} TB/s; {flops} TFLOP/s")
    lines += [table(title, found[part], columns) for part, (title, columns) in COLUMNS.items()]
    lines += [kinds(row) for row in found["kinds"]]
    if found["skipped"]:
        lines += ["", f"Left out for want of time ({len(found['skipped'])}):"]
        lines += [f"  {name}" for name in found["skipped"]]
    if found["ended"]:
        lines += ["", f"Ended early: {found['ended']}"]
    lines.append(f"\n{found['elapsed_s']:.0f} s of {found['budget_s']:.0f} s")
    return "\n".join(line for line in lines if line)
