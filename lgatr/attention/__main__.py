"""``python -m lgatr.attention``: which backends run here, what they can do, and which is fastest.

With ``--measure`` every usable backend attends to events of the lengths in a file, packed and (on
the native backend) padded; the fastest is written down, and ``backend="auto"`` takes it from then
on.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from lgatr.attention import choice
from lgatr.attention.dispatch import prepare_attention
from lgatr.attention.packing import Packing
from lgatr.attention.registry import backends
from lgatr.attention.spec import AttentionSpec
from lgatr.attention.table import markdown, text


def read_lengths(path: Path) -> list[int]:
    """Lengths of events from a text file, ``.npy``, or HDF5 with ``lengths`` or ``offsets``.

    Raises
    ------
    ValueError
        If there are none, or one is below 1.
    """
    if not path.is_file():
        raise ValueError(f"{path} is not a file")
    if path.suffix == ".npy":
        import numpy as np

        try:
            values = np.load(path, allow_pickle=False).ravel().tolist()
        except (ValueError, EOFError) as error:
            raise ValueError(f"{path} is no .npy file of numbers, or damaged") from error
    elif path.suffix in (".h5", ".hdf5"):
        values = _from_hdf5(path)
    else:
        values = path.read_text().replace(",", " ").split()
    try:
        lengths = [int(v) for v in values]
    except ValueError as error:
        raise ValueError(
            f"{path} holds something that is no whole number; give one length for each event"
        ) from error
    lengths = [n for n in lengths if n > 0]
    if not lengths:
        raise ValueError(f"{path} holds no lengths above zero")
    return lengths


def _from_hdf5(path: Path) -> list[int]:
    import h5py

    found: list[int] = []

    def visit(name: str, item: object) -> None:
        if found or not isinstance(item, h5py.Dataset) or item.ndim != 1:
            return
        last = name.rsplit("/", 1)[-1]
        if last in ("lengths", "num_constituents"):
            found.extend(item[:].tolist())
        elif last in ("offsets", "ptr"):
            values = item[:]
            found.extend((values[1:] - values[:-1]).tolist())

    try:
        with h5py.File(path) as file:
            file.visititems(visit)
    except OSError as error:
        raise ValueError(f"{path} is no HDF5 file, or damaged") from error
    if not found:
        raise ValueError(f"{path} has no data set named lengths, offsets or ptr")
    return found


def _seconds(run: Callable[[], object], device: torch.device, repeats: int) -> float:
    times = []
    for _ in range(repeats + 2):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        start = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return statistics.median(times[2:])


def _padded(x: Tensor, packing: Packing) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(list(x.split(packing.lengths)), batch_first=True)


def _training(attend: Callable[..., Tensor], values: list[Tensor]) -> Callable[[], object]:
    leaves = [x.detach().requires_grad_() for x in values]
    return lambda: torch.autograd.grad(attend(*leaves).sum(), leaves)


def measure(
    packing: Packing,
    heads: int,
    width: int,
    device: torch.device,
    dtype: torch.dtype,
    repeats: int,
    show: Callable[[str], object],
) -> dict[str, tuple[float, float]]:
    """Seconds of forward, and of forward and backward, by way of computing.

    Parameters
    ----------
    packing
        Events of a batch.
    heads, width
        Of the attention.
    device, dtype
        Where and in which format.
    repeats
        Timed calls of each.
    show
        Told what is being measured.
    """
    shape = (packing.num_tokens, heads, width)
    values = [torch.randn(shape, device=device, dtype=dtype) for _ in range(3)]
    packing = packing.to(device)
    spec = AttentionSpec(packing=packing)
    results: dict[str, tuple[float, float]] = {}
    for name, backend in sorted(backends().items()):
        reason = backend.problem(spec, device, dtype, True, width)
        if reason is not None:
            show(f"{name}: {reason}")
            continue
        show(f"{name}, packed …")
        attend = prepare_attention(device, dtype, spec=spec, backend=name)
        with torch.no_grad():
            forward = _seconds(lambda: attend(*values), device, repeats)  # noqa: B023
        results[f"{name}, packed"] = (
            forward,
            _seconds(_training(attend, values), device, repeats),
        )
    show("native, padded …")
    longest = torch.arange(packing.max_length, device=device)
    lengths = torch.tensor(packing.lengths, device=device)
    mask = (longest[None] < lengths[:, None])[:, None, None, :]
    attend = prepare_attention(device, dtype, attn_mask=mask, backend="native")
    dense = [_padded(x, packing) for x in values]
    with torch.no_grad():
        forward = _seconds(lambda: attend(*dense), device, repeats)
    results["native, padded"] = (forward, _seconds(_training(attend, dense), device, repeats))
    return results


def main(arguments: list[str] | None = None) -> None:
    """Command line; see the module's text."""
    parser = argparse.ArgumentParser(prog="python -m lgatr.attention", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    device = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", default=device, help=f"cpu, cuda … (default {device})")
    parser.add_argument("--measure", type=Path, metavar="DATA", help="file with lengths of events")
    parser.add_argument("--events", type=int, default=128, help="events in a batch (default 128)")
    parser.add_argument("--heads", type=int, default=8, help="attention heads (default 8)")
    parser.add_argument("--width", type=int, default=72, help="width of a head (default 72)")
    parser.add_argument("--dtype", default="float32", help="number format (default float32)")
    parser.add_argument("--repeats", type=int, default=5, help="timed calls of each (default 5)")
    parser.add_argument("--markdown", action="store_true", help="print the tables for a page")
    options = parser.parse_args(arguments)
    if options.markdown:
        print(markdown())
        return
    try:
        where = torch.device(options.device)
        torch.empty(0, device=where)
    except (RuntimeError, AssertionError):
        sys.exit(f"error: --device {options.device} is not there; try --device cpu")
    for name in ("events", "heads", "width", "repeats"):
        if getattr(options, name) < 1:
            sys.exit(f"error: --{name} must be at least 1")
    print(text(where))
    if options.measure is None:
        return
    try:
        lengths = read_lengths(options.measure)[: options.events]
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    dtype = getattr(torch, options.dtype, None)
    if not isinstance(dtype, torch.dtype):
        sys.exit(f"error: --dtype {options.dtype} is no number format of torch")
    packing = Packing.from_lengths(lengths)
    print(
        f"\n{len(lengths)} events of {min(lengths)} to {max(lengths)} tokens, "
        f"{options.heads} heads of {options.width}, {options.dtype} on {where.type}"
    )

    def show(line: str) -> None:
        print(line, file=sys.stderr)

    results = measure(packing, options.heads, options.width, where, dtype, options.repeats, show)
    print(f"\n{'':24}{'forward':>12}{'with backward':>16}")
    for name, (forward, both) in sorted(results.items(), key=lambda item: item[1][1]):
        print(f"{name:24}{1e3 * forward:9.2f} ms{1e3 * both:13.2f} ms")
    packed = {n: t for n, t in results.items() if n.endswith("packed")}
    best = min(packed, key=lambda n: packed[n][1]).split(",")[0]
    if results["native, padded"][1] < packed[f"{best}, packed"][1]:
        print("padding is faster here: events are few, short or nearly equal")
    target = choice.remember(where, dtype, True, best)
    print(f"use attention={best}; backend=auto will from now on ({target})")


if __name__ == "__main__":
    main()
