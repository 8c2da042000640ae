"""Ranges of options by name, for parameters without markers.

``lr`` is a learning rate and ``num_blocks`` a number of blocks in any class of PyTorch, Lightning,
lgatr, or other packages. Markers of a parameter take precedence.

Upper bounds are far above practical values; they catch typing errors that would exhaust memory.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

from experiments.options.markers import OneOf, Range

Marker = Range | OneOf

RANGES: dict[str, Marker] = {
    # Networks
    "num_blocks": Range(1, 1000),
    "num_heads": Range(1, 1024),
    "num_layers": Range(1, 1000),
    "num_layers_*": Range(1, 1000),
    "num_cls_layers": Range(1, 1000),
    "num_features": Range(1, 100_000),
    "head_width": Range(1, 10_000),
    "rank": Range(1, 10_000),
    "max_length": Range(1, 1_000_000),
    "*_channels": Range(0, 100_000),
    "*embed_dims": Range(1, 100_000),
    "mlp_ratio": Range(1, 100),
    "attn_ratio": Range(1, 100),
    "mlp_factor": Range(1, 100),
    "dropout": Range(0, 1, below=True),
    "dropout_prob": Range(0, 1, below=True),
    "momentum_unit": Range(0, above=True),
    "activation_memory_budget": Range(0, 1),
    # Optimizers
    "lr": Range(0, above=True),
    "*_lr": Range(0, above=True),
    "learning_rate": Range(0, above=True),
    "weight_decay": Range(0),
    "eps": Range(0, above=True),
    "betas": Range(0, 1, below=True),
    "*_beta": Range(0, 1, below=True),
    "momentum": Range(0, 1, below=True),
    "precondition_frequency": Range(1),
    "max_precondition_dim": Range(1),
    # Lightning
    "max_steps": Range(1, 10**12),
    "max_epochs": Range(-1),
    "min_steps": Range(0),
    "min_epochs": Range(0),
    "val_check_interval": Range(0, above=True),
    "check_val_every_n_epoch": Range(1),
    "log_every_n_steps": Range(1),
    "flush_logs_every_n_steps": Range(1),
    "num_sanity_val_steps": Range(-1),
    "accumulate_grad_batches": Range(1),
    "gradient_clip_val": Range(0),
    "gradient_clip_algorithm": OneOf(("norm", "value")),
    "accelerator": OneOf(("auto", "cpu", "gpu", "cuda", "mps", "tpu")),
    "num_nodes": Range(1, 100_000),
    "limit_*_batches": Range(0),
    "overfit_batches": Range(0),
    "reload_dataloaders_every_n_epochs": Range(0),
    "patience": Range(0),
    "min_delta": Range(0),
    "mode": OneOf(("min", "max")),
    "save_top_k": Range(-1),
    "every_n_*": Range(1),
    "update_every_n_steps": Range(1),
    "update_starting_at_*": Range(0),
    "decay": Range(0, 1),
    "refresh_rate": Range(0),
    "skip_steps": Range(0),
    # scikit-learn
    "max_iter": Range(1, 10**6),
    "max_leaf_nodes": Range(2, 10**6),
    "max_depth": Range(1),
    "max_bins": Range(2, 255),
    "min_samples_leaf": Range(1),
    "l2_regularization": Range(0),
    "n_iter_no_change": Range(1),
    "tol": Range(0),
    "random_state": Range(0, 2**32 - 1),
    "validation_fraction": Range(0, 1, above=True, below=True),
}
"""Marker by name or by pattern."""


def marker(name: str) -> Marker | None:
    """The marker of a name, or None."""
    if name in RANGES:
        return RANGES[name]
    return next((m for pattern, m in RANGES.items() if fnmatchcase(name, pattern)), None)
