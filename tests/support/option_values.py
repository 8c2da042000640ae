"""Configurations as plain values."""

from __future__ import annotations

from functools import cache
from typing import Any

from omegaconf import OmegaConf

from support.options import composed


@cache
def plain(*overrides: str) -> tuple[Any, Any]:
    """A configuration as written and resolved."""
    cfg = composed(*overrides)
    return OmegaConf.to_container(cfg), OmegaConf.to_container(cfg, resolve=True)
