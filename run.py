"""Train, test and report an experiment: ``python run.py experiment=toptagging``."""

from __future__ import annotations

import sys

import hydra
from omegaconf import DictConfig

from experiments.cli import (
    CONFIG_DIR,
    check_command_line,
    one_line_errors,
    one_line_warnings,
    quiet_libraries,
)


@hydra.main(version_base="1.3", config_path=str(CONFIG_DIR), config_name="run")
def main(cfg: DictConfig) -> float | None:
    """One run; returns the best validation AUC, what a search for hyperparameters maximises."""
    quiet_libraries()
    one_line_warnings()
    with one_line_errors():
        # Imported here, so that a mistake on the command line is answered at once.
        from experiments.runner import run

        best: float | None = run(cfg).get("best_val_auc")
    return best


if __name__ == "__main__":
    sys.argv[1:] = check_command_line(sys.argv[1:])
    main()
