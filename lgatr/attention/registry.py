"""Find attention backends by name, and choose one that can run a given pattern."""

from __future__ import annotations

import importlib
import pkgutil
import warnings
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import torch

from lgatr.attention import measured_choice
from lgatr.attention.backends.base import Backend
from lgatr.attention.backends.native import NativeBackend
from lgatr.attention.pattern.spec import AttentionSpec

ENTRY_POINT_GROUP = "lgatr.attention_backends"
APPROXIMATIONS = {
    "performer": "its random features break Lorentz equivariance",
    "linformer": "its projection of the keys breaks permutation symmetry",
}
"""Attention of linear cost that the equivariant networks refuse, and why."""


NATIVE_RUNS: set[tuple[Any, ...]] = set()
"""Features, device type, format, and whether there are gradients, of patterns that
:class:`NativeBackend` was found to run. It depends on nothing else, and has no state."""


class AttentionFallbackWarning(UserWarning):
    """The requested backend has no kernel on this device; the native one runs instead."""


@cache
def backends() -> dict[str, type[Backend]]:
    """All known backends by name: those in :mod:`lgatr.attention.backends`, and entry points.

    A third party registers a :class:`~lgatr.attention.backends.base.Backend` subclass under the
    entry-point group ``lgatr.attention_backends``.

    Raises
    ------
    ValueError
        If an entry point cannot be used; the message says why.
    """
    found: dict[str, type[Backend]] = {}
    package = importlib.import_module("lgatr.attention.backends")
    for module in pkgutil.iter_modules(package.__path__):
        loaded = importlib.import_module(f"{package.__name__}.{module.name}")
        if hasattr(loaded, "BACKEND"):
            found[loaded.BACKEND.name] = loaded.BACKEND
    for point in entry_points(group=ENTRY_POINT_GROUP):
        backend = _load(point)
        if backend.name in found:
            raise ValueError(
                f"entry point {point.name} of {ENTRY_POINT_GROUP}: there is a backend "
                f"{backend.name} already; give {point.value} another name"
            )
        found[backend.name] = backend
    return found


def _load(point: EntryPoint) -> type[Backend]:
    """The backend of an entry point, whose names agree."""
    where = f"entry point {point.name} of {ENTRY_POINT_GROUP}: {point.value}"
    try:
        backend = point.load()
    except Exception as error:
        raise ValueError(
            f"{where} does not load ({error}); fix or uninstall that package"
        ) from error
    if not (isinstance(backend, type) and issubclass(backend, Backend)):
        raise ValueError(f"{where} is no subclass of lgatr.attention.backends.base.Backend")
    if backend.name != point.name:
        raise ValueError(f"{where} has the name {backend.name!r}; the two must be the same")
    return backend


def choices() -> tuple[str, ...]:
    """Names that may be requested."""
    return ("auto", *sorted(backends()))


def may_be_traced(name: str, strict: bool) -> bool:
    """Whether this backend runs in a program that torch traces."""
    return name in ("auto", "native") or (name == "xformers" and not strict)


def _why_none(spec: AttentionSpec, device: torch.device, dtype: torch.dtype) -> str:
    known = frozenset[str]().union(*(b.capabilities.features for b in backends().values()))
    if unknown := sorted(spec.features() - known):
        return (
            f"no attention backend knows {', '.join(unknown)}; a score modification or mask of "
            "your own keeps the feature of its base class"
        )
    return f"no attention backend runs on {device.type} in {dtype}"


def _traceable(name: str, strict: bool) -> tuple[Backend, Backend]:
    """The backend of a program that torch traces."""
    if not may_be_traced(name, strict):
        raise ValueError(f"attention={name}: only native runs in a compiled or exported network")
    return NativeBackend(), NativeBackend()


def _no_kernel_here(backend: type[Backend], device: torch.device, training: bool) -> str | None:
    """Which kernels an installed backend lacks on a device for any pattern, or None."""
    if backend.import_error() is not None:
        return None
    if not backend.capabilities.has_kernel(device, training):
        what = " for training" if backend.capabilities.has_kernel(device, False) else ""
        return f"has no {device.type} kernel{what}"
    reason = backend.load_error(device)
    return None if reason is None else f"cannot load its {device.type} kernels ({reason})"


def _by_preference(
    spec: AttentionSpec, device: torch.device, dtype: torch.dtype
) -> list[type[Backend]]:
    """All backends, the one measured to be fastest first."""
    measured = measured_choice.fastest_backend(device, dtype, spec.packing is not None)
    return sorted(
        backends().values(),
        key=lambda b: (b.name == measured, b.preference(spec, device)),
        reverse=True,
    )


def select_backend(
    name: str,
    spec: AttentionSpec,
    device: torch.device,
    dtype: torch.dtype,
    *,
    strict: bool = False,
    width: int | None = None,
) -> tuple[Backend, Backend]:
    """Choose the backend that plans and the one that executes.

    They differ only where a requested backend has no kernel for the device: it still lowers the
    pattern, so that errors in it show, while the native backend computes.

    Parameters
    ----------
    name
        One of :func:`choices`; ``"auto"`` takes what was measured to be fastest on this device
        (``python -m lgatr.attention --measure``), else the usable backend of highest priority.
    spec, device, dtype
        What is to be computed, and where.
    strict
        Raise instead of falling back to the native backend.
    width
        Width of the heads, if known.

    Returns
    -------
    planner, executor
        Backends, mostly the same one.

    Raises
    ------
    ValueError
        If there is no such backend, it is not installed, or it cannot run ``spec``; the message
        names the backends that can.
    """
    if name in APPROXIMATIONS:
        raise ValueError(f"attention={name} is for other networks: {APPROXIMATIONS[name]}")
    if torch.compiler.is_compiling():
        return _traceable(name, strict)
    table, training = backends(), torch.is_grad_enabled()

    def why_unusable(backend: type[Backend]) -> str | None:
        return backend.why_unusable(spec, device, dtype, training, width)

    if name == "auto":
        order = _by_preference(spec, device, dtype)
        # Lazily: asking a backend may import its package.
        best = next((b for b in order if why_unusable(b) is None), None)
        if best is None:
            raise ValueError(_why_none(spec, device, dtype))
        backend = best()
        return backend, backend
    if name not in table:
        raise ValueError(f"no attention backend {name!r}; choose from {', '.join(choices())}")
    requested = table[name]
    reason = why_unusable(requested)
    if reason is None:
        backend = requested()
        return backend, backend
    missing = sorted(spec.features() - requested.capabilities.features)
    elsewhere = None if missing else requested.unsupported(spec)
    if missing or elsewhere is not None:
        lacking = None  # it has no such kernel on any device
        reason = elsewhere or reason
    else:
        lacking = None if strict else _no_kernel_here(requested, device, training)
    if lacking is not None:
        native = table["native"]
        if why_unusable(native) is None:
            warnings.warn(
                f"attention={name} {lacking}; running the same blocks on the native backend",
                AttentionFallbackWarning,
                stacklevel=5,
            )
            return requested(), native()
    names = sorted(n for n, b in table.items() if why_unusable(b) is None)
    raise ValueError(f"attention={name}: {reason}; usable here: {', '.join(names) or 'none'}")
