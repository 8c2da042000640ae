"""The peer lgatr 2.0.0 on the paper's top-tagging network, in a process of its own.

    PYTHONPATH=PEER_DIR python benchmarks/peer.py IN OUT

``IN`` (a torch file) holds the constructor arguments, a random seed, a packed batch as padded
tensors, and how often to time. ``OUT`` receives weights, outputs, gradients and times.
"""

from __future__ import annotations

import resource
import statistics
import sys
import time

import torch


def timed(function, repeats: int) -> list[float]:  # type: ignore[no-untyped-def]
    """Seconds of each call, after one warm-up."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return times


def run(source: str, target: str) -> None:
    """Load the job, run the peer, save what it gave."""
    import lgatr

    job = torch.load(source, weights_only=True)
    torch.manual_seed(job["seed"])
    net = lgatr.LGATr(**job["arguments"]).to(job["multivectors"].dtype)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if "norm" in name or "head_scale" in name:
                parameter.add_(0.1 * torch.randn_like(parameter))
    x, s, mask = job["multivectors"], job["scalars"], job["mask"]
    out, out_s = net(x, s, attn_mask=mask)
    total = (out * job["probe"]).sum()
    if out_s is not None:
        total = total + out_s.sum()
    total.backward()
    result = {
        "state_dict": net.state_dict(),
        "outputs": out.detach(),
        "outputs_s": None if out_s is None else out_s.detach(),
        "gradients": {k: p.grad.clone() for k, p in net.named_parameters()},
        "version": getattr(lgatr, "__version__", "2.0.0"),
    }

    def step() -> None:
        net.zero_grad(set_to_none=True)
        out, _ = net(x, s, attn_mask=mask)
        (out * job["probe"]).sum().backward()

    def inference() -> None:
        with torch.no_grad():
            net(x, s, attn_mask=mask)

    if job["repeats"]:
        result["train"] = timed(step, job["repeats"])
        result["inference"] = timed(inference, job["repeats"])
        result["train_median"] = statistics.median(result["train"])
        result["inference_median"] = statistics.median(result["inference"])
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        result["peak_memory_gb"] = peak / 1e6
    torch.save(result, target)


if __name__ == "__main__":
    run(*sys.argv[1:])
