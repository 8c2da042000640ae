"""Check options against each other and against this machine."""

from __future__ import annotations

import os
import re
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from experiments.options import search
from experiments.options.attention_choice import AttentionChoice
from experiments.options.markers import did_you_mean
from experiments.options.output_paths import encoding_problem
from experiments.options.signatures import find
from experiments.saved_runs.saved_tagger import tagger_folder
from experiments.training.checks import trainer_options
from lgatr import Packing
from lgatr.attention import prepare_attention


def problems(cfg: DictConfig) -> list[str]:
    """One line for each problem of a configuration whose types are right."""
    plain: Any = OmegaConf.to_container(cfg, resolve=True)
    found = [
        *trainer_options.problems(plain["trainer"]),
        *_devices(plain["trainer"]),
        *_run_dir(plain["run_dir"]),
        *_checkpoints(plain),
        *_monitors(plain),
        *_backbone(plain["model"]),
        *search.problems(plain),
    ]
    return found or [*_attention(plain)]


def remarks(cfg: DictConfig) -> list[str]:
    """One line for each choice that is possible but probably not intended."""
    interval, steps = cfg.trainer.get("val_check_interval"), cfg.trainer.get("max_steps")
    if isinstance(interval, int) and isinstance(steps, int) and interval > steps > 0:
        return [
            f"trainer.val_check_interval={interval} is more than trainer.max_steps={steps}: "
            "nothing is validated, and the last weights are tested"
        ]
    return []


def _on_gpu(options: dict[str, Any]) -> bool:
    choice = options.get("accelerator", "auto")
    return choice in ("gpu", "cuda") or (choice == "auto" and torch.cuda.is_available())


def _devices(options: dict[str, Any]) -> Iterator[str]:
    """More devices than the machine has, which would wait for each other forever."""
    devices, accelerator = options.get("devices", "auto"), options.get("accelerator", "auto")
    if accelerator in ("mps", "tpu"):
        return
    gpu = _on_gpu(options)
    there = torch.cuda.device_count() if gpu else max(os.cpu_count() or 1, 2)
    if gpu and not there:
        yield f"trainer.accelerator={accelerator}: there is no GPU here; take cpu or auto"
        return
    what = "GPUs" if gpu else "processes for this machine's cores"
    shown = f"trainer.devices={devices}"
    if isinstance(devices, str):
        if devices in ("auto", "-1"):
            return
        if not re.fullmatch(r"\d+(,\d+)*,?", devices):
            yield f"{shown}: must be a number, auto, or numbers of GPUs such as [0, 1]"
            return
        numbers = [int(n) for n in devices.split(",") if n]
        devices = numbers if "," in devices else numbers[0]
    if isinstance(devices, list):
        if not gpu:
            yield f"{shown}: CPUs have no numbers; give how many processes to start"
        elif not devices or len(set(devices)) < len(devices) or not set(devices) < {*range(there)}:
            if sorted(devices) != list(range(there)):
                yield f"{shown}: must be different numbers from 0 to {there - 1}"
    elif devices == -1 and gpu:
        return
    elif devices < 1:
        yield f"{shown}: must be at least 1"
    elif devices > there:
        yield f"{shown}: there are only {there} {what}"


def _run_dir(run_dir: str) -> Iterator[str]:
    """A run directory that cannot be created."""
    if problem := encoding_problem(run_dir):
        yield f"run_dir={problem}"
        return
    place = Path(run_dir).absolute()
    try:
        while not place.exists() and place != place.parent:
            place = place.parent
    except OSError as error:
        yield f"run_dir={run_dir}: {error.strerror}"
        return
    if not place.is_dir():
        yield f"run_dir={run_dir}: {place} is a file; choose a folder"
    elif not os.access(place, os.W_OK | os.X_OK):
        yield f"run_dir={run_dir}: {place} cannot be written to; choose another folder"
    else:
        try:  # where permissions say nothing, as in /proc
            with tempfile.TemporaryDirectory(dir=place):
                pass
        except OSError as error:
            yield f"run_dir={run_dir}: {place} takes no folder ({error.strerror}); choose another"


def _checkpoints(plain: dict[str, Any]) -> Iterator[str]:
    """Checkpoint callbacks that write where the run does not look."""
    for name in ("best", "last"):
        callback = plain["callbacks"].get(name)
        if callback is None:
            continue
        wanted = {"dirpath": f"{plain['run_dir']}/checkpoints", "filename": name}
        for option, value in wanted.items():
            if callback.get(option, value) != value:
                yield (
                    f"callbacks.{name}.{option}={callback[option]}: the run looks for its weights "
                    f"in {wanted['dirpath']}/{name}.ckpt; leave this option out"
                )


def _monitors(plain: dict[str, Any]) -> Iterator[str]:
    """Callbacks that monitor a metric that the task does not log."""
    task: Any = find(plain["task"]["_target_"])
    # A task of somebody else may lack what ours must have.
    logged = task.monitored() if hasattr(task, "validation_metrics") else ()
    for name, callback in plain["callbacks"].items():
        monitor = (callback or {}).get("monitor")
        if logged and isinstance(monitor, str) and monitor not in logged:
            advice = did_you_mean(monitor, logged)
            yield (
                f"callbacks.{name}.monitor={monitor}: must be one of {', '.join(logged)}{advice}"
            )


def _backbone(model: dict[str, Any]) -> Iterator[str]:
    backbone = model.get("backbone", "none")
    if backbone != "none" and not tagger_folder(backbone).is_dir():
        yield f"model.backbone={backbone}: no such folder of a run or tagger"


def _parts(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        if "_target_" in value:
            yield value
        for inner in value.values():
            yield from _parts(inner)


def _attention(plain: dict[str, Any]) -> Iterator[str]:
    """An attention backend that cannot train on this machine."""
    for part in _parts(plain["model"]):
        if find(part["_target_"]) is not AttentionChoice:
            continue
        device = torch.device("cuda" if _on_gpu(plain["trainer"]) else "cpu")
        packing = Packing.from_lengths([2, 1]).to(device)
        with warnings.catch_warnings(), torch.enable_grad():
            warnings.simplefilter("ignore")  # the run itself tells of a fallback
            try:
                keywords = instantiate(part).keywords
                prepare_attention(device, torch.float32, packing=packing, **keywords)
            except ValueError as error:
                yield str(error)
                return
