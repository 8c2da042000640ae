"""Files of a tagger: ``tagger.json``, which describes it, and ``model.safetensors``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from data.atomic import atomic_path, write_text
from experiments.data.batch import DataSpec
from experiments.data.features import feature_names
from experiments.errors import UserError
from experiments.saved_runs import run_directory
from experiments.saved_runs.checkpoints import load_best, model_weights
from experiments.saved_runs.metrics_file import read_metrics
from experiments.saved_runs.saved_config import load_config, read_json
from experiments.taggers.card import card
from experiments.taggers.described import DESCRIPTION, PATTERNS, Described

WEIGHTS, CARD = "model.safetensors", "README.md"
FORMAT, VERSION = "lgatr-tagger", 1


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


def read_folder(folder: Path, trust: Sequence[str] = ()) -> tuple[Described, dict[str, Tensor]]:
    """Read what :func:`write_folder` wrote.

    Raises
    ------
    UserError
        If there is no tagger, it is damaged, or of a later version.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    file = folder / DESCRIPTION
    if not file.is_file():
        raise UserError(f"{folder}: no tagger and no run; it has no {DESCRIPTION}")
    plain = read_json(file)
    if plain.get("format") != FORMAT:
        raise UserError(f"{file}: format must be {FORMAT}, not {plain.get('format')!r:.60}")
    if plain.get("version") != VERSION:
        raise UserError(
            f"{file}: version {plain.get('version')!r:.60}, and this library reads {VERSION}; use "
            "a newer one, or write the tagger again"
        )
    described = _described(file, plain)
    try:
        # Not mapped: a file that is cut short while it is mapped ends the process.
        weights: dict[str, Tensor] = load((folder / WEIGHTS).read_bytes())
    except FileNotFoundError as error:
        raise UserError(f"{folder}: lacks {WEIGHTS}") from error
    except (SafetensorError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{folder / WEIGHTS}: damaged ({reason}); fetch it again") from error
    if not all(torch.isfinite(x).all() for x in weights.values() if x.is_floating_point()):
        raise UserError(f"{folder / WEIGHTS}: holds weights that are no numbers; fetch it again")
    return described, weights


def _described(file: Path, plain: Mapping[str, Any]) -> Described:
    def get(name: str, kind: Any, what: str) -> Any:
        value = plain.get(name)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise UserError(f"{file}: {name} must be {what}, not {value!r:.60}")
        return value

    classes = get("classes", list, "a list of names")
    features = get("features", list, "a list of names")
    if not all(isinstance(name, str) for name in (*classes, *features)):
        raise UserError(f"{file}: classes and features must be lists of names")
    if len(classes) < 2 or len(set(classes)) < len(classes):
        raise UserError(f"{file}: classes must be two or more different names, not {classes}")
    if plain.get("unit") != "GeV":
        raise UserError(f"{file}: unit must be GeV, not {plain.get('unit')!r:.60}")
    scalars = get("num_scalars", int, "a number of features")
    try:
        names = feature_names(features)
    except ValueError as error:
        raise UserError(f"{file}: features: {error}") from error
    if names != tuple(features) or len(names) != scalars:
        raise UserError(f"{file}: num_scalars is {scalars}, and there are {len(names)} features")
    most = get("max_constituents", int, "a number of particles")
    smallest = get("smallest_component", (int, float), "a momentum in GeV")
    if most < 0 or not smallest >= 0:
        raise UserError(f"{file}: max_constituents and smallest_component must not be negative")
    model = get("model", dict, "the configuration of a network")
    patterns = get("attention", dict, "its mask and score, if it has any")
    if unknown := [name for name in patterns if name not in PATTERNS]:
        raise UserError(f"{file}: attention has {', '.join(unknown)}; there are mask and score")
    trained = get("trained", dict, "what is known of the training")
    spec = DataSpec(scalars, tuple(classes))
    return Described(spec, names, model, most, float(smallest), patterns, trained)
