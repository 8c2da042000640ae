"""How long the way through the code is: one forward pass of a tagger, batch to logits.

    python -m benchmarks.walk [--peer DIR] [--blocks 3] [--files]

For each network: Python files entered, how often execution changes from one of them to another
(calls and returns), and how deep calls of the project's own functions nest. The reference library
runs the same network on the same tokens. Only the second pass counts, when everything that is built
once has been built. Without ``--peer`` the reference library is installed into ``.peer``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
MODELS = {"L-GATr": "lgatr_small", "L-GATr-slim": "lgatr_slim_small"}
LENGTHS = (30, 50, 40)


class Walk:
    """What a call did, as far as it ran in some folders.

    Parameters
    ----------
    folders
        Of the source code that counts.
    """

    def __init__(self, *folders: Path) -> None:
        self._prefixes = tuple(f"{folder}{os.sep}" for folder in folders)
        self._stack: list[str] = []
        self.files: Counter[str] = Counter()
        self.changes = 0
        self.depth = 0

    def trace(self, function: Callable[[], object]) -> None:
        """Call ``function`` and follow it."""
        sys.setprofile(self._event)
        try:
            function()
        finally:
            sys.setprofile(None)

    def _event(self, frame: FrameType, event: str, _: Any) -> None:
        name = frame.f_code.co_filename
        if event not in ("call", "return") or not name.startswith(self._prefixes):
            return
        if event == "call":
            if self._stack and self._stack[-1] != name:
                self.changes += 1
            self._stack.append(name)
            self.files[name] += 1
            self.depth = max(self.depth, len(self._stack))
        elif self._stack:
            self._stack.pop()
            if self._stack and self._stack[-1] != name:
                self.changes += 1

    def figures(self) -> dict[str, Any]:
        """Files, changes of file, depth; and how often each file was entered."""
        files = {name: count for name, count in self.files.most_common()}
        return {
            "files": len(files), "changes": self.changes, "depth": self.depth, "entered": files,
        }  # fmt: skip


def ours(model: str, blocks: int) -> dict[str, Any]:
    """The walk of a tagger of this project, in training mode."""
    from hydra import compose, initialize_config_dir
    from hydra.utils import instantiate

    from experiments.data.batch import DataSpec, EventBatch
    from lgatr import Packing

    overrides = ["experiment=toptagging", f"model={model}", f"model.network.num_blocks={blocks}"]
    with initialize_config_dir(str(ROOT / "config"), version_base=None):
        cfg = compose("run", [*overrides, "attention=native"])
    torch.manual_seed(0)
    tagger = instantiate(cfg.model)(spec=DataSpec(7, ("a", "b")))
    momenta = torch.randn(sum(LENGTHS), 4)
    momenta[:, 0] = momenta[:, 1:].norm(dim=1)
    scalars, target = torch.randn(sum(LENGTHS), 7), torch.tensor([0, 1, 0])
    batch = EventBatch(momenta, scalars, Packing.from_lengths(list(LENGTHS)), target)
    tagger(batch)
    walk = Walk(ROOT / "lgatr", ROOT / "experiments")
    walk.trace(lambda: tagger(batch))
    return walk.figures()


def peer(model: str, blocks: int) -> dict[str, Any]:
    """The walk of the reference library's network, whichever is importable."""
    import lgatr

    torch.manual_seed(0)
    tokens = sum(LENGTHS)
    event = torch.arange(len(LENGTHS)).repeat_interleave(torch.tensor(LENGTHS))
    mask = event[:, None] == event[None]
    if "slim" in model:
        net = lgatr.LGATrSlim(
            num_blocks=blocks, in_v_channels=1, out_v_channels=0, hidden_v_channels=16,
            in_s_channels=8, out_s_channels=1, hidden_s_channels=32, num_heads=4,
        )  # fmt: skip
        inputs = torch.randn(1, tokens, 1, 4), torch.randn(1, tokens, 8)
    else:
        net = lgatr.LGATr(
            num_blocks=blocks, in_mv_channels=1, out_mv_channels=1, hidden_mv_channels=16,
            in_s_channels=8, out_s_channels=0, hidden_s_channels=32,
            attention={"num_heads": 4}, mlp={},
        )  # fmt: skip
        inputs = torch.randn(1, tokens, 1, 16), torch.randn(1, tokens, 8)
    net(*inputs, attn_mask=mask)
    walk = Walk(Path(lgatr.__file__).parent)
    walk.trace(lambda: net(*inputs, attn_mask=mask))
    return walk.figures()


def measured(what: str, model: str, blocks: int, folder: Path) -> dict[str, Any]:
    """The figures, from a process of its own with ``folder`` first on its path."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", __file__, "--process", what, model, str(blocks)],
        env={**os.environ, "PYTHONPATH": str(folder)},
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", type=Path, help="folder with the reference library")
    parser.add_argument("--blocks", type=int, default=3, help="blocks of each network")
    parser.add_argument("--files", action="store_true", help="list the files of ours")
    parser.add_argument("--process", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.process:
        what, model, blocks = args.process
        print(json.dumps({"ours": ours, "peer": peer}[what](model, int(blocks))))
        return
    from benchmarks.compare_peer import install_peer

    folder = args.peer or install_peer(ROOT / ".peer" / "lgatr-2.0.0")
    print(f"{'':36} files  changes of file  call depth")
    for name, model in MODELS.items():
        for what, whose, place in (("ours", "", ROOT), ("peer", " of lgatr 2.0.0", folder)):
            found = measured(what, model, args.blocks, place)
            title = f"{name}{whose}, {args.blocks} blocks"
            print(f"{title:36} {found['files']:5}  {found['changes']:15}  {found['depth']:10}")
            if args.files and what == "ours":
                for file, count in found["entered"].items():
                    print(f"    {count:5}  {Path(file).relative_to(ROOT)}")


if __name__ == "__main__":
    main()
