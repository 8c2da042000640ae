"""Hyperparameter searches, which need the figure of merit of a validation from every run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from experiments.options.signatures import find


def _direction() -> str:
    return str(HydraConfig.get().sweeper.get("direction", "maximize"))


def is_search() -> bool:
    """Whether this run is a trial of a search."""
    if not HydraConfig.initialized() or HydraConfig.get().mode is not RunMode.MULTIRUN:
        return False
    # Hydra's basic sweeper runs given values without optimising.
    return "basic_sweeper" not in str(HydraConfig.get().sweeper.get("_target_"))


def what_it_does(headline: Any) -> str:
    """What a search does with a :class:`~experiments.metrics.headline.Headline`, as a sentence."""
    how = "minimises" if headline.small else "maximises"
    return f"a search {how} the validation {headline.logged_label}"


def problems(plain: dict[str, Any]) -> Iterator[str]:
    """One line for each reason why a trial would not have what its search goes by.

    Parameters
    ----------
    plain
        Configuration as plain containers.
    """
    headline: Any = getattr(find(plain["task"]["_target_"]), "headline", None)
    if not is_search() or headline is None:
        return
    direction = "minimize" if headline.small else "maximize"
    if _direction() != direction:
        search = "optuna_mse" if headline.small else "optuna"
        yield (
            f"hydra.sweeper.direction={_direction()}: good networks have a "
            f"{'small' if headline.small else 'large'} validation {headline.name}; take "
            f"search={search}, or hydra.sweeper.direction={direction}"
        )
    needs = what_it_does(headline)
    trainer = plain["trainer"]
    interval, steps = trainer.get("val_check_interval"), trainer.get("max_steps")
    if isinstance(interval, int) and isinstance(steps, int) and interval > steps > 0:
        yield (
            f"trainer.val_check_interval={interval} is more than trainer.max_steps={steps}, and "
            f"{needs}; validate at least once"
        )
    if plain["callbacks"].get("best") is None:
        yield f"callbacks.best is null, and {needs}, which it keeps; leave it on"
    elif plain["callbacks"]["best"].get("monitor") != f"val/{headline.logged}":
        yield f"callbacks.best.monitor must be val/{headline.logged}, because {needs}"
