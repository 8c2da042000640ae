"""Time attention backends on given lengths of events, alone or inside a network.

A *job* takes the keyword arguments that describe attention and gives two functions, the forward
pass, and forward and backward; it is asked once for each backend with packed events, and once for
padded ones.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lgatr.attention.pattern.packing import Packing
from lgatr.attention.pattern.spec import AttentionSpec
from lgatr.attention.prepare import prepare_attention
from lgatr.attention.registry import backends

Run = Callable[[], object]
Job = Callable[[tuple[int, ...], dict[str, Any]], tuple[Run, Run]]


class Seconds(NamedTuple):
    """Medians."""

    forward: float
    both: float
    """Forward and backward."""


def _median(run: Run, device: torch.device, repeats: int) -> float:
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


def attention_job(heads: int, width: int, device: torch.device, dtype: torch.dtype) -> Job:
    """Attention alone.

    Parameters
    ----------
    heads, width
        Number of heads and numbers in each.
    device, dtype
        Where, and in which format.
    """

    def job(leading: tuple[int, ...], pattern: dict[str, Any]) -> tuple[Run, Run]:
        values = [torch.randn(*leading, heads, width, device=device, dtype=dtype) for _ in range(3)]
        leaves = [x.clone().requires_grad_() for x in values]

        def forward() -> Tensor:
            return prepare_attention(device, dtype, **pattern)(*values)

        def both() -> tuple[Tensor, ...]:
            attend = prepare_attention(device, dtype, **pattern)
            return torch.autograd.grad(attend(*leaves).sum(), leaves)

        return forward, both

    return job


def network_job(net: Any) -> Job:
    """A whole network of :mod:`lgatr.nets`."""

    def job(leading: tuple[int, ...], pattern: dict[str, Any]) -> tuple[Run, Run]:
        inputs = net.random_inputs(*leading)
        conditional = len(inputs) == 4
        options = {"attn_kwargs": pattern, "crossattn_kwargs": pattern} if conditional else pattern

        def forward() -> tuple[Tensor | None, ...]:
            return net(*inputs, **options)

        def both() -> None:
            sum(x.sum() for x in forward() if x is not None).backward()  # type: ignore[union-attr]
            net.zero_grad()

        return forward, both

    return job


def measure(
    job: Job,
    packing: Packing,
    device: torch.device,
    dtype: torch.dtype,
    repeats: int,
    show: Callable[[str], object],
    width: int | None = None,
) -> dict[str, Seconds]:
    """Time ``job`` on every backend that can, packed, and on the native one also padded.

    Parameters
    ----------
    job
        :func:`attention_job` or :func:`network_job`.
    packing
        Events of a batch.
    device, dtype
        Where, and in which format.
    repeats
        Timed calls of each.
    show
        Told what is being measured.
    width
        Of the heads, if known.

    Returns
    -------
    By ``"<backend>, packed"`` and ``"native, padded"``.
    """
    packing = packing.to(device)
    spec = AttentionSpec(packing=packing)
    results: dict[str, Seconds] = {}

    def time_it(title: str, leading: tuple[int, ...], pattern: dict[str, Any]) -> None:
        show(f"{title} …")
        forward, both = job(leading, pattern)
        with torch.no_grad():
            seconds = _median(forward, device, repeats)
        results[title] = Seconds(seconds, _median(both, device, repeats))

    for name, backend in sorted(backends().items()):
        reason = backend.why_unusable(spec, device, dtype, True, width)
        if reason is not None:
            show(f"{name}: {reason}")
            continue
        try:
            pattern = {"packing": packing, "backend": name}
            time_it(f"{name}, packed", (packing.num_tokens,), pattern)
        except ValueError as error:
            show(f"{name}: {error}")
    place = torch.arange(packing.max_length, device=device)
    lengths = torch.tensor(packing.lengths, device=device)
    mask = (place[None] < lengths[:, None])[:, None, None, :]
    pattern = {"attn_mask": mask, "backend": "native"}
    time_it("native, padded", (len(packing.lengths), packing.max_length), pattern)
    return results
