"""Which options a run may go on with changed."""

from __future__ import annotations

from experiments.options.signatures import find

LENGTHS = ("trainer.max_steps", "trainer.max_time")
_HARMLESS = (
    "trainer.devices", "trainer.num_nodes", "trainer.accelerator", "trainer.strategy", *LENGTHS,
    "trainer.log_every_n_steps", "trainer.enable_progress_bar", "trainer.profiler",
    "data.num_workers", "data.resident", "data.path", "data.skip_corrupt", "logger",
    "callbacks.progress", "callbacks.learning_rate", "plots",
)  # fmt: skip
"""Options that results do not depend on, with all below them, and how long to train.

Jets at another ``data.path`` are compared with those of before; see
:mod:`experiments.saved_runs.same_data`. ``data.skip_corrupt`` changes nothing as long as all files
can be read.
"""

_READERS = ("trainer.devices", "trainer.num_nodes", "data.num_workers")
"""Options that say how many processes read the data."""


def is_below(name: str, prefix: str) -> bool:
    """Whether an option is ``prefix`` or a part of it."""
    return name == prefix or name.startswith(prefix + ".")


def harmless_place(name: str, datamodule: str | None) -> str | None:
    """The option that may change, and that ``name`` is or is a part of; None if there is none.

    Parameters
    ----------
    name
        Full name of an option.
    datamodule
        ``_target_`` of the run's data, which may depend on how many processes read them. It is
        imported: trust it first. None asks nothing of it.
    """
    places = list(_HARMLESS)
    if datamodule and getattr(find(datamodule), "order_depends_on_readers", False):
        places = [place for place in places if place not in _READERS]
    return next((place for place in places if is_below(name, place)), None)
