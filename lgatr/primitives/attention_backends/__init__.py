"""Attention by backend, under the names of the reference library.

New code says ``backend=`` where it calls a network; see :mod:`lgatr.attention`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from lgatr.attention.registry import backends, choices
from lgatr.primitives.attention import scaled_dot_product_attention

BACKEND_KWARGS: dict[str, tuple[str, ...]] = {"flex": ("block_mask", "score_mod")}
"""Keywords that only one backend takes."""

_OF_TORCH = ("attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa")
_POSITIONAL: dict[str, tuple[str, ...]] = {
    "native": _OF_TORCH[:3],
    "flex": ("score_mod", "block_mask", "scale", "enable_gqa", "return_lse", "kernel_options"),
}
"""Arguments behind the values, in the order of the functions that these stand for."""


@cache
def attention_by(backend: str) -> Callable[..., Tensor]:
    """A function that attends on one backend.

    It takes queries ``(..., heads, items, D)``, keys and values, and the keywords of
    :func:`lgatr.attention.prepare_attention`; further positional arguments are those of torch's
    functions for ``native`` and ``flex``, else ``dtype`` to compute in and ``attn_bias``.
    """
    names = _POSITIONAL.get(backend, ("dtype", "attn_bias"))

    def attention(query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if len(args) > len(names):
            raise TypeError(f"after the values come {', '.join(names)}, not {len(args)} arguments")
        given = dict(zip(names, args, strict=False))
        twice = sorted(given.keys() & kwargs.keys())
        if twice:
            raise TypeError(f"{', '.join(twice)} given by position and by name; give one of them")
        return scaled_dot_product_attention(
            query, key, value, **{"backend": backend, **given, **kwargs}
        )

    attention.__signature__ = _signature(attention, names)  # type: ignore[attr-defined]
    return attention


def _signature(function: Callable[..., Tensor], names: tuple[str, ...]) -> inspect.Signature:
    """The signature of ``function`` with ``names`` in the place of its ``*args``."""
    *tensors, _, keywords = inspect.signature(function).parameters.values()
    further = [
        inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None)
        for name in names
    ]
    return inspect.Signature([*tensors, *further, keywords])


def get_attention_backend(**kwargs: Any) -> Callable[..., Tensor]:
    """The function that would run attention with these keywords.

    Parameters
    ----------
    **kwargs
        ``backend`` names one; without it the other keywords decide, and for those of torch's own
        :func:`~torch.nn.functional.scaled_dot_product_attention` it is that function.

    Raises
    ------
    ValueError
        If there is no such backend, or its package is not installed.
    """
    backend = kwargs.get("backend")
    if backend is not None:
        _check_backend(backend)
        return attention_by(backend)
    given = {name for name, value in kwargs.items() if value is not None and name != "backend"}
    for backend, names in BACKEND_KWARGS.items():
        if given.intersection(names):
            return attention_by(backend)
    return F.scaled_dot_product_attention if given <= {*_OF_TORCH} else attention_by("auto")


def _check_backend(name: Any) -> None:
    if not isinstance(name, str) or name not in choices():
        raise ValueError(f"no attention backend {name!r}; choose from {', '.join(choices())}")
    reason = None if name == "auto" else backends()[name].import_error()
    if reason is not None:
        raise ValueError(f"attention={name}: {reason}; choose from {', '.join(choices())}")


__all__ = ["BACKEND_KWARGS", "attention_by", "get_attention_backend"]
