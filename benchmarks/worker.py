"""One library on one job, in a process of its own: ours or the peer, whichever is importable.

    PYTHONPATH=DIR python benchmarks/worker.py JOB RESULT

``JOB`` (a torch file) holds constructor arguments, weights or a seed, a batch, and how often to
time. ``RESULT`` receives weights, outputs, gradients, times and peak memory.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import torch


def timed(function: Callable[[], Any], repeats: int) -> list[float]:
    """Seconds of each call, after one warm-up."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return times


def build(job: dict[str, Any]) -> tuple[Any, torch.nn.Module]:
    """The library and its network, with the job's weights or random ones from its seed."""
    import lgatr

    torch.manual_seed(job["seed"])
    net = lgatr.LGATr(**job["arguments"]).to(job["multivectors"].dtype)
    if "state_dict" in job:
        net.load_state_dict(job["state_dict"], strict=True)
    else:
        with torch.no_grad():
            for name, parameter in net.named_parameters():
                if "norm" in name or "head_scale" in name:
                    parameter.add_(0.1 * torch.randn_like(parameter))
    return lgatr, net


def run(source: str, target: str) -> None:
    """Load the job, run it, save what it gave."""
    job = torch.load(source, weights_only=True)
    library, net = build(job)
    x, s = job["multivectors"], job["scalars"]
    if hasattr(library, "Packing") and "lengths" in job:
        attention = {"packing": library.Packing.from_lengths(job["lengths"]), "backend": "native"}
    else:
        attention = {"attn_mask": job["mask"]}

    def loss() -> torch.Tensor:
        out, out_s = net(x, s, **attention)
        total = (out * job["probe"]).sum()
        return total if out_s is None else total + out_s.sum()

    def step() -> None:
        net.zero_grad(set_to_none=True)
        loss().backward()

    def inference() -> None:
        with torch.no_grad():
            net(x, s, **attention)

    step()
    out, out_s = net(x, s, **attention)
    result: dict[str, Any] = {
        "state_dict": net.state_dict(),
        "outputs": out.detach(),
        "outputs_s": None if out_s is None else out_s.detach(),
        "gradients": {name: p.grad.clone() for name, p in net.named_parameters()},
    }
    if job["repeats"]:
        result["train"] = timed(step, job["repeats"])
        result["inference"] = timed(inference, job["repeats"])
    result["peak_memory_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    torch.save(result, target)


if __name__ == "__main__":
    run(*sys.argv[1:])
