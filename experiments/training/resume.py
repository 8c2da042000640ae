"""Resume a run with its own configuration: ``python run.py resume=RUN_DIR``.

``ckpt_path=last`` resumes the newest run, or that of ``run_dir=``. Further overrides may change the
length of the training and whatever results do not depend on; all others are refused.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from types import MappingProxyType
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from data.atomic import write_text
from experiments.cli import CONFIG_DIR, add_trust, check_command_line
from experiments.errors import UserError
from experiments.options.command_line import RUN_DIR
from experiments.options.renamed import current_option
from experiments.saved_runs import run_directory
from experiments.saved_runs.edited_config import PLACES, options_of
from experiments.saved_runs.metrics_file import read_metrics
from experiments.saved_runs.resumable import LENGTHS, harmless_place, is_below
from experiments.saved_runs.same_data import IDENTITY, Identity, read_identity, write_identity
from experiments.saved_runs.saved_config import changed, load_config, read_json, read_resumes
from experiments.saved_runs.trust import check_trust
from experiments.training.lost_checkpoints import check_nothing_saved

_CHECKPOINTS = {"last": run_directory.LAST, "best": run_directory.BEST}


@dataclass(frozen=True)
class Resumption:
    """How a run is resumed.

    Parameters
    ----------
    directory
        Run directory.
    checkpoint
        Checkpoint to continue from; None if the run has not saved any.
    changes
        New values of changed options, by full names.
    """

    directory: Path
    checkpoint: Path | None
    changes: Mapping[str, Any] = field(default_factory=dict)


def is_requested(arguments: list[str]) -> bool:
    """Whether a command line resumes a run."""
    return any(a.startswith("resume=") or a == "ckpt_path=last" for a in arguments)


def plan(arguments: list[str]) -> tuple[DictConfig, Resumption]:
    """The configuration with which a command line resumes a run, and how.

    Raises
    ------
    UserError
        If there is no such run, an override would change its results, or its checkpoint is damaged.
    """
    if several := [a for a in arguments if a in ("-m", "--multirun")]:
        raise UserError(f"{several[0]}: runs are resumed one by one")
    trust, arguments = _trusted(arguments)
    own = ("resume", "run_dir", "ckpt_path")
    given = _own(arguments, own)
    overrides = [a for a in arguments if a.partition("=")[0] not in own]
    directory = _directory(given, overrides)
    run_directory.check_places(directory)
    if (directory / run_directory.SPEC).is_file():  # runs of earlier versions have none
        run_directory.read_spec(directory)
    cfg = read_config(directory, trust)
    changes = _changes(cfg, directory, overrides)
    _check_outputs(cfg, directory, changes)
    choice = given.get("ckpt_path", "last")
    if choice not in _CHECKPOINTS:
        raise UserError(f"ckpt_path={choice}: a run goes on from its last or its best checkpoint")
    checkpoint = directory / _CHECKPOINTS[choice]
    if choice == "best" and not checkpoint.is_file():
        raise UserError(_instead(checkpoint, "is missing"))
    # best.ckpt is saved first; a run killed right after that resumes from it exactly.
    files = [f for f in (checkpoint, directory / run_directory.BEST) if f.is_file()]
    if not files:
        check_nothing_saved(cfg, directory, any(name in changes for name in LENGTHS))
    return changed(cfg, changes), Resumption(directory, files[0] if files else None, changes)


def _check_outputs(cfg: DictConfig, directory: Path, changes: Mapping[str, Any]) -> None:
    """Check that a run writes into its own folder, unless this command line says otherwise."""
    for section in ("logger", "callbacks", "trainer"):
        for name, value in options_of(OmegaConf.to_container(cfg.get(section)), section):
            outside = isinstance(value, str) and Path(value).is_absolute()
            given = any(is_below(name, change) for change in changes)
            if outside and not given and not Path(value).is_relative_to(directory.absolute()):
                raise UserError(
                    f"{directory / run_directory.CONFIG}: {name}={value} is outside of the run's "
                    f"folder; give {name}= on the command line if it is right"
                )


def _own(arguments: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    """Overrides that select the run and the checkpoint, each given once."""
    given: dict[str, str] = {}
    for argument in arguments:
        name, _, value = argument.partition("=")
        if name in names and name in given:
            raise UserError(f"{name} is given twice, as {given[name]} and {value}; give it once")
        given[name] = value
    if "resume" in given and "run_dir" in given:
        raise UserError(
            f"run_dir={given['run_dir']}: resume={given['resume']} names the folder already; "
            "leave out run_dir"
        )
    return given


def _trusted(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Packages given by ``--trust``, and the other arguments."""
    parser = argparse.ArgumentParser(add_help=False)
    add_trust(parser)
    options, others = parser.parse_known_args(arguments)
    check_trust(options.trust)
    return options.trust, others


def _directory(given: Mapping[str, str], overrides: list[str]) -> Path:
    name = given.get("resume") or given.get("run_dir") or os.environ.get(RUN_DIR)
    if name:
        directory = Path(name.strip("'\""))
        if not directory.is_dir():
            raise UserError(f"{directory}: no such folder of a run")
        return directory
    if "resume" in given:
        raise UserError("resume= needs the folder of a run")
    # Others may exist only in the configuration of that run.
    telling = [o for o in overrides if _name(o) in ("experiment", "name", "paths.runs")]
    check_command_line(telling)
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = compose("run", overrides=telling)
    return run_directory.find_last_run(Path(cfg.paths.runs) / cfg.name)


def read_config(directory: Path, trust: Sequence[str] = ()) -> DictConfig:
    """Read the configuration of a run, with paths of where its directory is now."""
    needs = ("data", "task", "model", "optimizer", "scheduler", "trainer", "callbacks")
    return _moved(load_config(directory, needs, trust), directory)


def record(resumption: Resumption, step: int, revision: str, jets_compared: bool) -> None:
    """Append to the run's list of resumptions."""
    entry = {
        "date": date.today().isoformat(),
        "from_step": step,
        "git_revision": revision,
        "changes": dict(resumption.changes),
        "jets_compared": jets_compared,
    }
    entries = [*read_resumes(resumption.directory), entry]
    write_text(
        resumption.directory / run_directory.RESUMES,
        json.dumps({"resumes": entries}, indent=2) + "\n",
    )


def _moved(cfg: DictConfig, directory: Path) -> DictConfig:
    """Replace the former path of the run directory, if it was moved."""
    before, now = str(cfg.run_dir), str(directory)

    def replaced(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: replaced(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [replaced(inner) for inner in value]
        inside = isinstance(value, str) and (value == before or value.startswith(before + "/"))
        return now + value[len(before) :] if inside else value

    found = OmegaConf.create(replaced(OmegaConf.to_container(cfg)))
    assert isinstance(found, DictConfig)
    return found


def _composed(overrides: list[str], directory: Path) -> DictConfig:
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = compose("run", overrides=[*overrides, "run_dir=RUN"])
    resolved = OmegaConf.create(OmegaConf.to_container(cfg, resolve=True))
    assert isinstance(resolved, DictConfig)
    return _moved(resolved, directory)


def _flat(cfg: DictConfig) -> dict[str, Any]:
    return dict(options_of(OmegaConf.to_container(cfg)))


def _changes(cfg: DictConfig, directory: Path, overrides: list[str]) -> dict[str, Any]:
    """Options of a run that overrides change.

    Compares the configurations composed with and without them, each with the overrides that the
    run was started with.
    """
    if not overrides:
        return {}
    own, started = _flat(cfg), _started_with(directory)
    names = {_name(override) for override in overrides}
    kept = [override for override in started if _name(override) not in names]
    composed = _composed(check_command_line([*kept, *overrides]), directory)
    before, after = _flat(_composed(started, directory)), _flat(composed)
    touched = {n for n in {*before, *after} if before.get(n, ...) != after.get(n, ...)}
    # Also options set to the default value, from which the run may differ.
    touched |= {n for n in {*own, *after} if any(is_below(n, name) for name in names)}
    changes = {}
    for name in sorted(touched):
        value, old = after.get(name, ...), own.get(name, ...)
        if value == old or name.partition(".")[0] in PLACES:
            continue
        if old is ... and before.get(name, ...) == value:
            continue  # an option that the version that started the run did not have
        place = harmless_place(name, str(own.get("data._target_")))
        if place == "data.path" and read_identity(directory) is None:
            place = None  # nobody can tell whether the jets are the same
        if place is None:
            shown = " to ".join("nothing" if v is ... else str(v) for v in (old, value))
            raise UserError(
                f"{_cause(name, overrides, kept, directory)} would change {name} from {shown}, and "
                "with it the results; leave it out, or start a new run"
            )
        found = OmegaConf.select(composed, place)
        changes[place] = OmegaConf.to_container(found) if OmegaConf.is_config(found) else found
    return changes


def _started_with(directory: Path) -> list[str]:
    """Overrides that a run was started with; empty for runs of earlier versions."""
    file = directory / run_directory.COMMAND
    if not file.is_file():
        return []
    found = read_json(file).get("overrides")
    if not isinstance(found, list):
        raise UserError(f"{file}: damaged; restore it from a copy, or remove it")
    own = ("run_dir", "ckpt_path")
    started = [o for o in map(str, found) if _name(o) not in own and not o.startswith("hydra")]
    return [o.replace(_name(o), current_option(_name(o)), 1) for o in started]


def _name(override: str) -> str:
    return override.lstrip("+~").partition("=")[0]


def _cause(name: str, overrides: list[str], others: list[str], directory: Path) -> str:
    """The override that changes an option: its own, or one without which it has another value."""
    for override in overrides:
        if is_below(name, _name(override)):
            return override
    value = _flat(_composed([*others, *overrides], directory)).get(name, ...)
    for override in overrides:
        rest = [other for other in overrides if other is not override]
        try:
            without = _flat(_composed([*others, *rest], directory)).get(name, ...)
        except Exception:  # options that only this override brings
            return override
        if without != value:
            return override
    return overrides[0]


def _instead(
    checkpoint: Path, problem: str, changes: Mapping[str, Any] = MappingProxyType({})
) -> str:
    """Message about an unusable checkpoint that names another one if possible."""
    from experiments.saved_runs.checkpoints import is_whole

    folder = checkpoint.parents[1]
    for name, other in _CHECKPOINTS.items():
        if folder / other != checkpoint and is_whole(folder / other):
            options = [f"ckpt_path={name}", *(f"{k}={v}" for k, v in changes.items())]
            how = " ".join([run_directory.resume_command(folder), *map(shlex.quote, options)])
            return f"{checkpoint} {problem}; {other.name} is whole, go on from it: {how}"
    return f"{checkpoint} {problem}, and no other checkpoint is whole; start a new run"


def read_resumed(checkpoint: Path, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Read the checkpoint from which a run is resumed, with these changes of options.

    Raises
    ------
    UserError
        If it is damaged, or the best weights that it refers to are; the message names an
        alternative.
    """
    from experiments.saved_runs.checkpoints import is_whole, read_checkpoint

    try:
        found = read_checkpoint(checkpoint)
    except UserError as error:
        raise UserError(_instead(checkpoint, "is damaged", changes)) from error
    best = checkpoint.parents[1] / run_directory.BEST
    states = found.get("callbacks", {}).values()
    counts = any(isinstance(s, dict) and s.get("best_model_path") for s in states)
    if counts and checkpoint != best and not is_whole(best):
        problem = "damaged" if best.is_file() else "missing"
        raise UserError(
            f"{best} is {problem}, and the results would be of other weights; restore it, or go "
            f"on in a new folder: python run.py ckpt_path={checkpoint} run_dir=NEW with all "
            "options of this run"
        )
    return found


def begin(resumption: Resumption, step: int, revision: str, identity: Identity | None) -> None:
    """Record the resumption, and rename results of a finished run to keep them.

    ``identity`` tells which jets it goes on with; it is noted if nothing was.
    """
    metrics = resumption.directory / run_directory.METRICS
    if metrics.is_file():
        steps = read_metrics(metrics, ("steps",))["steps"]
        for name in run_directory.RESULTS:
            file = resumption.directory / name
            if file.is_file():
                os.replace(file, file.with_name(f"{file.stem}_{steps}_steps{file.suffix}"))
    compared = read_identity(resumption.directory) is not None
    if not compared and identity is not None:
        warnings.warn(
            f"{resumption.directory / IDENTITY} is not there, so that nobody can tell whether the "
            "jets are those with which this run began; from now on they are compared",
            stacklevel=2,
        )
    record(resumption, step, revision, compared)
    if not compared:
        write_identity(resumption.directory, identity)
