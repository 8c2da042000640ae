"""Taggers of runs, and the files that they are saved in."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from data.atomic import atomic_path, write_text
from experiments.data.features import feature_names
from experiments.errors import UserError
from experiments.saved_runs import run_directory
from experiments.saved_runs.checkpoints import load_best, model_weights
from experiments.saved_runs.metrics_file import read_metrics
from experiments.saved_runs.saved_config import load_config, read_json
from experiments.saved_runs.saved_tagger import FORMAT, VERSION, WEIGHTS
from experiments.saved_runs.tagger_description import DESCRIPTION, PATTERNS, Described
from experiments.taggers.card import card

CARD = "README.md"


def read_run(run: Path, trust: Sequence[str] = ()) -> tuple[Described, dict[str, Tensor]]:
    """The tagger of a run, with its best weights.

    Raises
    ------
    UserError
        If it is no run of a tagger, or not trained yet.
    """
    cfg = load_config(run, ("data", "model"), trust)
    spec = run_directory.read_spec(run)
    if spec.quantity is not None or spec.final_state is not None:
        raise UserError(f"{run}: predicts {spec.described}; taggers alone are applied to jets")
    _, checkpoint = load_best(run)
    weights = model_weights(checkpoint)
    if not weights:
        raise UserError(f"{run}: its model has no weights that could be kept (trees have not)")
    model = cfg.model
    if "backbone" in model:  # fine-tuned: the tagger inside is the whole network
        model = model.tagger
        weights = {name.removeprefix("tagger."): tensor for name, tensor in weights.items()}
    plain: Any = OmegaConf.to_container(model)
    attention = plain.pop("attention", None) or {}
    patterns = {name: attention[name] for name in PATTERNS if attention.get(name)}
    features = feature_names(cfg.data.get("features") or [])
    smallest = float(cfg.data.get("smallest_component", 0.0))
    most = int(cfg.data.get("max_constituents", 0))
    trained = _trained(run, cfg)
    described = Described(spec, features, plain, most, smallest, patterns, trained)
    return described, weights


def _trained(run: Path, cfg: DictConfig) -> dict[str, Any]:
    found: dict[str, Any] = {"experiment": cfg.get("name"), "data": str(cfg.data.get("path"))}
    if (run / run_directory.COMMAND).is_file():
        overrides = read_json(run / run_directory.COMMAND).get("overrides")
        found["command"] = overrides if isinstance(overrides, list) else []
    if (run / run_directory.METRICS).is_file():
        metrics = read_metrics(run / run_directory.METRICS)
        for name in ("date", "git_revision", "jets", "steps", "symmetry", "device", "parameters"):
            if name in metrics:
                found[name] = metrics[name]
        found["metrics"] = {
            name: value for name, value in metrics.items()
            if isinstance(value, (int, float)) and f"{name}_error" in metrics
        } | {name: v for name, v in metrics.items() if name.endswith("_error")}  # fmt: skip
    return found


def write_folder(folder: Path, described: Described, weights: Mapping[str, Tensor]) -> list[Path]:
    """Write a tagger.

    Raises
    ------
    UserError
        If there is one.
    """
    from safetensors.torch import save

    files = [folder / name for name in (DESCRIPTION, WEIGHTS, CARD)]
    for file in files:
        if file.exists():
            raise UserError(f"{file}: exists; choose another folder, or remove it")
    plain = {
        "format": FORMAT, "version": VERSION, "classes": list(described.spec.classes),
        "num_scalars": described.spec.num_scalars, "features": list(described.features),
        "momenta": "E, px, py, pz", "unit": "GeV",
        "max_constituents": described.max_constituents,
        "smallest_component": described.smallest_component,
        "model": described.model, "attention": described.patterns, "trained": described.trained,
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    content = save({name: x.detach().cpu().contiguous() for name, x in weights.items()})
    with atomic_path(folder / WEIGHTS) as temporary:
        temporary.write_bytes(content)
    write_text(folder / CARD, card(described, sum(x.numel() for x in weights.values())))
    write_text(folder / DESCRIPTION, json.dumps(plain, indent=2) + "\n")  # last: now it is a tagger
    return files
