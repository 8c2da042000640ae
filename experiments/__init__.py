"""Physics experiments: one folder per kind of thing, wired by the Hydra configs in ``config/``."""

from data.signals import guard_imports

guard_imports()
