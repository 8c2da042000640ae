"""Coordinate check: how much activations change in a step, against the width of the network.

    python -m benchmarks.coordinates [--widths 1,2,4,8] [--steps 1] [--lr 0.0001] [--out FILE.json]

Trains ``model=maximal_update`` on jets of the sample beside the code, with its parameter groups and
with one learning rate for all (standard). Printed is the slope of the logarithm of the change
against that of the width: 0 where a step does as much in networks of any width. Slopes are means of
three seeds.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from torch import Tensor, nn

from benchmarks.machine import description
from data.command import Parser, program
from experiments.cli import CONFIG_DIR

_JETS = 64
_SEEDS = (1, 2, 3)


def _parts(outputs: Any) -> list[Tensor]:
    """All tensors of what a layer returns."""
    if isinstance(outputs, Tensor):
        return [outputs.detach().clone()]
    return [x.detach().clone() for x in outputs if isinstance(x, Tensor) and x.numel()]


class Activations:
    """Outputs of the blocks and of the whole model, recorded by hooks."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._layers = {
            f"block {number + 1}": block for number, block in enumerate(model.tagger.network.blocks)
        } | {"logits": model}

    def of(self, batch: Any) -> dict[str, Tensor]:
        """Activations of a batch, by layer and kind of channel."""
        found: dict[str, Tensor] = {}

        def keep(name: str) -> Any:
            def hook(module: nn.Module, inputs: Any, outputs: Any) -> None:
                parts = _parts(outputs)
                kinds = ("",) if len(parts) == 1 else (", vectors", ", scalars")
                found.update({f"{name}{k}": x for k, x in zip(kinds, parts, strict=True)})

            return hook

        handles = [x.register_forward_hook(keep(n)) for n, x in self._layers.items()]
        with torch.no_grad():
            self._model(batch)
        for handle in handles:
            handle.remove()
        return found


def changes(width: int, standard: bool, steps: int, lr: float, seed: int) -> dict[str, float]:
    """Mean size of the change of each activation after some steps on one batch."""
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = compose(
            "run",
            overrides=[
                "experiment=toptagging", "model=maximal_update", f"model.width={width}",
                f"optimizer.lr={lr}", "optimizer.weight_decay=0.0",
                f"data.limit={_JETS}", "data.eval_limit=8",
            ],
        )  # fmt: skip
    datamodule = instantiate(cfg.data)
    datamodule.setup()
    batch = next(iter(datamodule.train_pass()))
    torch.manual_seed(seed)
    model = instantiate(cfg.model)(spec=datamodule.spec)
    activations = Activations(model)
    before = activations.of(batch)
    groups = [{"params": list(model.parameters()), "lr": lr}] if standard else None
    optimizer = torch.optim.Adam(groups or model.parameter_groups(), lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        logits = model(batch).squeeze(-1)
        nn.functional.binary_cross_entropy_with_logits(logits, batch.target.float()).backward()
        optimizer.step()
    after = activations.of(batch)
    return {name: float((after[name] - x).abs().mean()) for name, x in before.items()}


def slopes(widths: list[int], found: list[dict[str, float]]) -> dict[str, float]:
    """Slope of the logarithm of each change against that of the width."""
    logs = np.log(widths)
    return {
        name: float(np.polyfit(logs, np.log([x[name] for x in found]), 1)[0]) for name in found[0]
    }


def _widths(text: str) -> list[int]:
    """Two different widths or more, from 1."""
    try:
        widths = [int(x) for x in text.split(",")]
    except ValueError:
        widths = []
    if len(set(widths)) < 2 or min(widths) < 1:
        raise argparse.ArgumentTypeError(f"{text}: two different widths or more, such as 1,2,4,8")
    return widths


def main(arguments: list[str] | None = None) -> None:
    """Command line; see the module's text."""
    parser = Parser("benchmarks.coordinates", __doc__)
    parser.add_argument("--widths", type=_widths, default=[1, 2, 4, 8], metavar="WIDTH,...")
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--lr", type=float, default=1e-4)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    widths = options.widths
    results: dict[str, Any] = {}
    for way in ("maximal update", "standard"):
        by_name: dict[str, list[float]] = defaultdict(list)
        for seed in _SEEDS:
            found = [changes(w, way == "standard", options.steps, options.lr, seed) for w in widths]
            for name, slope in slopes(widths, found).items():
                by_name[name].append(slope)
        results[way] = {name: float(np.mean(x)) for name, x in by_name.items()}
    print(f"{'slope of the change against width':<36}{'maximal update':>16}{'standard':>12}")
    for name, slope in results["maximal update"].items():
        print(f"{name:<36}{slope:>16.2f}{results['standard'][name]:>12.2f}")
    if options.out is not None:
        note = {"widths": widths, "steps": options.steps, "lr": options.lr, "seeds": _SEEDS}
        options.out.write_text(json.dumps({**description(), **note, **results}, indent=2) + "\n")


if __name__ == "__main__":
    with program():
        main()
