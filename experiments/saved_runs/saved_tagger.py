"""Read a saved tagger: ``tagger.json``, which describes it, and ``model.safetensors``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments.data.batch import DataSpec
from experiments.data.features import feature_names
from experiments.errors import UserError
from experiments.saved_runs.saved_config import read_json
from experiments.saved_runs.tagger_description import DESCRIPTION, PATTERNS, Described

WEIGHTS = "model.safetensors"
FORMAT, VERSION = "lgatr-tagger", 1
SHIPPED = Path(__file__).resolve().parents[1] / "taggers" / "shipped"
"""Trained taggers that come with the code, in folders by name."""


def shipped_names() -> list[str]:
    """Names of the taggers that come with the code."""
    return sorted(folder.parent.name for folder in SHIPPED.glob(f"*/{DESCRIPTION}"))


def tagger_folder(name: str | Path) -> Path:
    """The folder of that name, or else that of a tagger that comes with the code."""
    path = Path(name)
    if not path.exists() and str(name) in shipped_names():
        return SHIPPED / str(name)
    return path


def is_saved_tagger(folder: Path) -> bool:
    """Whether a folder holds one."""
    return (folder / DESCRIPTION).is_file()


def read_tagger(folder: Path) -> tuple[Described, dict[str, Tensor]]:
    """Description and weights of a saved tagger; nothing in the folder is executed.

    Raises
    ------
    UserError
        If there is no tagger, it is damaged, or of a later version.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    file = folder / DESCRIPTION
    if not file.is_file():
        names = ", ".join(shipped_names())
        known = f"; those that come with the code are {names}" if names else ""
        raise UserError(f"{folder}: no tagger and no run; it has no {DESCRIPTION}{known}")
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
