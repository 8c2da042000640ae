"""Capability tables of all backends, for the terminal and the documentation."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from lgatr.attention.pattern.features import PATTERN_FEATURES
from lgatr.attention.registry import backends

Row = tuple[str, ...]


def availability(device: torch.device) -> dict[str, str]:
    """For each backend ``yes``, or why it does not run here."""
    found = {}
    for name, backend in sorted(backends().items()):
        reason = backend.import_error()
        capabilities = backend.capabilities
        if reason is None and not capabilities.has_kernel(device, False):
            reason = f"no kernel for {device.type}"
        elif reason is None and not capabilities.has_kernel(device, True):
            reason = f"inference only on {device.type}"
        elif reason is None:
            reason = backend.load_error(device)
        found[name] = reason or "yes"
    return found


def properties() -> dict[str, tuple[str, str, str]]:
    """For each backend its devices, number formats and widest heads."""
    found = {}
    for name, backend in sorted(backends().items()):
        c = backend.capabilities
        training = c.devices if c.training_devices is None else c.training_devices
        devices = [d if d in training else f"{d} (inference)" for d in sorted(c.devices)]
        formats = sorted(str(dtype).removeprefix("torch.") for dtype in c.dtypes)
        width = "any" if c.max_head_width is None else str(c.max_head_width)
        found[name] = (", ".join(devices), ", ".join(formats), width)
    return found


def rows() -> tuple[Row, list[Row]]:
    """Header and rows: feature, what a user writes, and a mark for each backend that has it."""
    names = sorted(backends())
    header = ("feature", "written", *names)
    body = [
        (
            feature,
            written,
            *("x" if feature in backends()[n].capabilities.features else "" for n in names),
        )
        for feature, written in PATTERN_FEATURES.items()
    ]
    return header, body


def _aligned(header: Row, body: Sequence[Row]) -> str:
    widths = [max(len(row[i]) for row in (header, *body)) for i in range(len(header))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in body]
    top = "  ".join(c.ljust(w) for c, w in zip(header, widths, strict=True))
    return "\n".join([top.rstrip(), "-" * len(top), *(line.rstrip() for line in lines)])


def text(device: torch.device) -> str:
    """The tables as aligned text."""
    here = availability(device)
    first = [(name, reason, *properties()[name]) for name, reason in here.items()]
    header = ("backend", f"available on this {device.type}", "devices", "formats", "head width")
    return f"{_aligned(header, first)}\n\n{_aligned(*rows())}"


def _markdown(header: Row, body: Sequence[Row]) -> str:
    lines = [header, tuple("---" for _ in header), *body]
    return "\n".join(
        "| " + " | ".join(c.replace("|", "\\|") for c in line) + " |" for line in lines
    )


def markdown() -> str:
    """The tables in Markdown."""
    first = [(name, *values) for name, values in properties().items()]
    header = ("backend", "devices", "number formats", "widest heads")
    return f"{_markdown(header, first)}\n\n{_markdown(*rows())}\n"
