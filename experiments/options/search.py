"""Hyperparameter searches, which need a validation metric from every run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

_FIGURES = {
    "maximize": ("maximises the validation AUC", "auc"),
    "minimize": ("minimises the validation MSE", "mse"),
}


def figure() -> tuple[str, str]:
    """What a search does, and with which validation metric: AUC or, of regressions, the MSE."""
    direction = "maximize"
    if HydraConfig.initialized():
        direction = str(HydraConfig.get().sweeper.get("direction", direction))
    return _FIGURES.get(direction, _FIGURES["maximize"])


def is_search() -> bool:
    """Whether this run is a trial of a search."""
    if not HydraConfig.initialized() or HydraConfig.get().mode is not RunMode.MULTIRUN:
        return False
    # Hydra's basic sweeper runs given values without optimising.
    return "basic_sweeper" not in str(HydraConfig.get().sweeper.get("_target_"))


def problems(plain: dict[str, Any]) -> Iterator[str]:
    """One line for each reason why a trial would have no validation AUC.

    Parameters
    ----------
    plain
        Configuration as plain containers.
    """
    if not is_search():
        return
    how, metric = figure()
    needs, trainer = f"a search {how}", plain["trainer"]
    interval, steps = trainer.get("val_check_interval"), trainer.get("max_steps")
    if isinstance(interval, int) and isinstance(steps, int) and interval > steps > 0:
        yield (
            f"trainer.val_check_interval={interval} is more than trainer.max_steps={steps}, and "
            f"{needs}; validate at least once"
        )
    if plain["callbacks"].get("best") is None:
        yield f"callbacks.best is null, and {needs}, which it keeps; leave it on"
    elif plain["callbacks"]["best"].get("monitor") != f"val/{metric}":
        yield (
            f"callbacks.best.monitor must be val/{metric}, because {needs}; regressions take "
            "search=optuna_mse, classifications search=optuna, and generators have no search"
        )
