"""One network in a process of its own, measured on request: ours or the peer's.

    PYTHONPATH=DIR python benchmarks/speed_worker.py JOB

``JOB`` (a JSON file) names class, arguments, lengths of the events, device and format. The process
answers one line of JSON to each line it reads: ``train`` or ``inference`` give seconds, ``memory``
the peak in GB.
"""

from __future__ import annotations

import json
import resource
import runpy
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


def inputs(job: dict[str, Any], device: torch.device) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Tokens of all events as one sequence, the same in every process."""
    generator = torch.Generator().manual_seed(0)
    arguments, tokens = job["arguments"], sum(job["lengths"])
    slim = "in_v_channels" in arguments
    width = (arguments["in_v_channels"], 4) if slim else (arguments["in_mv_channels"], 16)
    x = torch.randn(1, tokens, *width, generator=generator)
    s = None
    if arguments["in_s_channels"]:
        s = torch.randn(1, tokens, arguments["in_s_channels"], generator=generator)
    return x.to(device), None if s is None else s.to(device)


def attention(job: dict[str, Any], library: Any, device: torch.device) -> dict[str, Any]:
    """What the library needs to keep events apart."""
    lengths = job["lengths"]
    if hasattr(library, "Packing"):
        packing = library.Packing.from_lengths(lengths).to(device)
        return {"packing": packing, "backend": job.get("backend", "auto")}
    if job["layout"] == "padded":
        mask = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
        return {"attn_mask": mask[:, None, None, :].to(device)}
    event = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
    if device.type == "cuda":
        from xformers.ops.fmha.attn_bias import BlockDiagonalMask

        return {"attn_bias": BlockDiagonalMask.from_seqlens(lengths), "backend": "xformers"}
    return {"attn_mask": event[:, None] == event[None]}


class OnTensors(torch.nn.Module):
    """A network as a function of tensors alone, as a CUDA graph needs it.

    Offsets are the first tensor; ours reads them anew in each replay, the peer's lie in its mask.
    """

    def __init__(self, net: torch.nn.Module, options: dict[str, Any]) -> None:
        super().__init__()
        self.net, self.options = net, dict(options)
        self.packing = self.options.pop("packing", None)

    def forward(self, ptr: torch.Tensor, *inputs: torch.Tensor) -> Any:
        """The network's outputs that are not None, of its inputs that are not."""
        options = self.options
        if self.packing is not None:
            from lgatr.attention import BoundedPacking

            packing = BoundedPacking(ptr, self.packing.num_tokens, self.packing.max_length)
            options = {**options, "packing": packing}
        outputs = self.net(*inputs, **options)
        return tuple(out for out in outputs if out is not None)


def seconds(task: Callable[[], None], device: torch.device) -> float:
    """How long a task takes, with all that it leaves to a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    begin = time.perf_counter()
    task()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def memory(device: torch.device) -> float:
    """Peak memory so far in GB: of the GPU, or of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def prepare(job: dict[str, Any]) -> dict[str, Callable[[], float]]:
    """What can be asked for, by name."""
    start = time.perf_counter()
    import lgatr

    imported = time.perf_counter()
    device = torch.device(job["device"])
    torch.manual_seed(1)
    net = getattr(lgatr, job["network"])(**job["arguments"]).to(device)
    x, s = inputs(job, device)
    if job["layout"] == "padded":
        pad, split = torch.nn.utils.rnn.pad_sequence, job["lengths"]
        x = pad(list(x[0].split(split)), batch_first=True)
        s = None if s is None else pad(list(s[0].split(split)), batch_first=True)
    options = attention(job, lgatr, device)
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=job["dtype"] == "bfloat16")

    run = net
    if job["recorded"]:
        packing = options.get("packing")
        ptr = torch.zeros(0, device=device) if packing is None else packing.ptr
        given = [ptr, *(t for t in (x, s) if t is not None)]
        replay = torch.cuda.make_graphed_callables(
            OnTensors(net, options), tuple(t.clone() for t in given), allow_unused_input=True
        )

        def run(x: torch.Tensor, s: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
            out = replay(*given)
            return out if len(out) == 2 else (*out, None)

        options = {}

    def loss() -> torch.Tensor:
        with autocast:
            out, out_s = run(x, s, **options)
        return out.float().square().mean() + (0.0 if out_s is None else out_s.float().mean())

    def train() -> None:
        net.zero_grad(set_to_none=True)
        loss().backward()

    def inference() -> None:
        with torch.no_grad():
            loss()

    first = seconds(train, device)
    times = {"import": imported - start, "first": first}
    return {
        "train": lambda: seconds(train, device),
        "inference": lambda: seconds(inference, device),
        "memory": lambda: memory(device),
        **{name: lambda value=value: value for name, value in times.items()},
    }


def main() -> None:
    """Answer until the input ends."""
    import warnings

    warnings.simplefilter("ignore")
    job = json.loads(Path(sys.argv[1]).read_text())
    if job["keep_memory"]:
        # By path: the peer has no such module.
        memory = Path(__file__).resolve().parents[1] / "lgatr" / "utils" / "memory.py"
        runpy.run_path(str(memory))["keep_freed_memory"]()
    ask = prepare(job)
    for line in sys.stdin:
        print(json.dumps(ask[line.strip()]()), flush=True)


if __name__ == "__main__":
    main()
