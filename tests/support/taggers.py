"""Taggers as the configurations describe them, and small batches of jets."""

from __future__ import annotations

import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from experiments.cli import CONFIG_DIR
from experiments.data.batch import DataSpec, EventBatch
from lgatr import Packing

OTHERS = ("autoregressive", "dsi", "mlp")
_OTHER_TASKS = ("_amplitudes", "_flow", "_unfolding")
TAGGERS = sorted(
    path.stem
    for path in (CONFIG_DIR / "model").glob("*.yaml")
    if path.stem not in OTHERS and not any(task in path.stem for task in _OTHER_TASKS)
)
"""Models of the configuration that tag jets; those of other tasks are the same, or no taggers."""
SPEC = DataSpec(2, ("a", "b", "c"))
LENGTHS = (3, 1, 7, 2)


def build(name, *overrides, spec=SPEC):
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = compose("run", overrides=["experiment=toptagging", f"model={name}", *overrides])
    torch.manual_seed(0)
    return instantiate(cfg.model)(spec=spec).double().eval()


def batch(lengths=LENGTHS, seed=0):
    generator = torch.Generator().manual_seed(seed)
    total = sum(lengths)
    p = 30 * torch.randn(total, 3, generator=generator, dtype=torch.float64)
    momenta = torch.cat([p.norm(dim=1, keepdim=True) + 0.1, p], dim=1)
    scalars = torch.randn(total, 2, generator=generator, dtype=torch.float64)
    target = torch.zeros(len(lengths), dtype=torch.int64)
    return EventBatch(momenta, scalars, Packing.from_lengths(lengths), target)
