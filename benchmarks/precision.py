"""What each number format costs: equivariance error against boost, and AUC of a trained tagger.

    python -m benchmarks.precision RUN_DIR [--data PATH] [--jets 1000] [--out FILE.json]

The network of a finished top-tagging run sees test jets and its reference vectors, all of them
boosted by one random transformation per jet; the logits should not change. The error is the root
mean square change of the logits over their standard deviation. The AUC is that of all test jets
(unboosted) in each format. Formats that need a GPU are left out without one.
"""

from __future__ import annotations

import json
import platform
from datetime import date
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from omegaconf import OmegaConf

from benchmarks.number_formats import FORMATS, Format, number_format
from data.command import Parser, program
from data.formats import read_jets
from experiments.data.batch import EventBatch
from experiments.data.loader import JetDataset
from experiments.data.preparation import Preparation
from experiments.metrics.tagging import tagging_metrics
from experiments.models.onnx_export import load_tagger
from experiments.models.onnx_padded_tagger import PaddedTagger
from experiments.saved_runs import run_directory
from lgatr import Packing
from lgatr.testing import random_lorentz

RAPIDITIES = (0.5, 1.0, 2.0, 3.0, 4.0, 5.0)


class Inputs(NamedTuple):
    """One packed batch as the network inside the tagger sees it."""

    multivectors: torch.Tensor
    scalars: torch.Tensor
    packing: Packing
    first: torch.Tensor


def network_inputs(tagger: PaddedTagger, batch: EventBatch) -> Inputs:
    """Catch what the tagger hands to its network."""
    caught: list[Inputs] = []

    def catch(module: object, args: tuple[torch.Tensor, ...], kwargs: dict[str, Packing]) -> None:
        # The global token, which is read out, stands first in every jet.
        packing = kwargs["packing"]
        caught.append(Inputs(args[0], args[1], packing, packing.ptr[:-1].long()))

    hook = tagger.tagger.network.register_forward_pre_hook(catch, with_kwargs=True)
    with torch.no_grad():
        tagger.tagger(batch)
    hook.remove()
    return caught[0]


def boosted(inputs: Inputs, rapidity: float, seed: int) -> torch.Tensor:
    """The multivectors with one transformation for each jet, computed in float64."""
    from lgatr.testing.representations import REPRESENTATIONS

    generator = torch.Generator().manual_seed(seed)
    action = REPRESENTATIONS["multivector"]
    matrices = torch.stack(
        [action(random_lorentz(rapidity, generator)) for _ in inputs.packing.lengths]
    )
    per_token = matrices[inputs.packing.batch_index().cpu()]
    moved = torch.einsum("tab,tcb->tca", per_token, inputs.multivectors.double().cpu())
    return moved.to(inputs.multivectors.device)


def logits(
    tagger: PaddedTagger, inputs: Inputs, multivectors: torch.Tensor, format: Format, device: str
) -> torch.Tensor:
    """Logits of all jets in a number format, returned in float64."""
    net = tagger.tagger.network.to(device=device, dtype=format.dtype)
    with torch.no_grad(), number_format(format, device):
        out, _ = net(
            multivectors.to(device, format.dtype),
            inputs.scalars.to(device, format.dtype),
            packing=inputs.packing.to(device),
        )
    return out[inputs.first.to(device), 0, 0].double().cpu()


def available(device: str) -> dict[str, Format]:
    """Formats that the device has."""
    return {name: f for name, f in FORMATS.items() if device == "cuda" or not f.tf32}


def main() -> None:
    """Command line; see the text of this file."""
    parser = Parser("benchmarks.precision", __doc__)
    parser.add_argument("run_dir", type=Path, help="folder of a finished top-tagging run")
    parser.add_argument("--data", help="jets; default: those of the run")
    parser.add_argument("--jets", type=int, default=1000, help="jets for the boosts")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    cfg = OmegaConf.load(options.run_dir / run_directory.CONFIG)
    tagger = load_tagger(options.run_dir)
    jets = read_jets(options.data or cfg.data.path, "test", None)
    dataset = JetDataset(jets, Preparation(tagger.features, tagger.max_constituents))
    some = network_inputs(tagger, dataset[np.arange(min(options.jets, len(dataset)))])
    chunks = [
        dataset[part] for part in np.array_split(np.arange(len(dataset)), -(-len(dataset) // 500))
    ]
    target = torch.cat([batch.target for batch in chunks])
    inputs = [network_inputs(tagger, batch) for batch in chunks]

    reference = logits(tagger, some, some.multivectors, FORMATS["float64"], device)
    spread = reference.std()
    rows = {}
    print(
        f"{'format':26}" + "".join(f"{f'rapidity {r:g}':>14}" for r in RAPIDITIES) + f"{'AUC':>10}"
    )
    for name, format in available(device).items():
        still = logits(tagger, some, some.multivectors, format, device)
        errors = {}
        for seed, rapidity in enumerate(RAPIDITIES):
            moved = logits(tagger, some, boosted(some, rapidity, seed), format, device)
            errors[rapidity] = float((moved - still).square().mean().sqrt() / spread)
        scores = [logits(tagger, each, each.multivectors, format, device) for each in inputs]
        metrics = tagging_metrics(torch.cat(scores).float(), target)
        rows[name] = {"equivariance_error": errors, "test": metrics}
        cells = "".join(f"{error:14.1e}" for error in errors.values())
        print(f"{name:26}{cells}{metrics['auc']:10.5f}")
    report = {
        "date": date.today().isoformat(),
        "machine": f"{platform.machine()}, {device}",
        "torch": torch.__version__,
        "run": OmegaConf.to_container(cfg.model, resolve=True),
        "steps": cfg.trainer.max_steps,
        "test_jets": len(dataset),
        "boosted_jets": len(some.packing.lengths),
        "rows": rows,
    }
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    with program():
        main()
