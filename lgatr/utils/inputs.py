"""What is checked where tensors of users enter the library: once, by every public entry.

Legend: C multivector or vector channels, S scalar channels.

Behind an entry everything is trusted. Messages say what was given, what is wanted, what to do.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

NUM_BLADES, NUM_COMPONENTS = 16, 4
FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
"""Formats of real numbers that are computed with."""
_CASTS = (torch.float32, torch.bfloat16, torch.float16)
"""Formats between which autocast chooses; it leaves float64 alone."""


def check_channel_dim(name: str, x: Tensor, dim: int, argument: str) -> None:
    """Raise ``ValueError`` unless a dimension of multivectors ``x`` can be that of their channels.

    Parameters
    ----------
    name, argument
        What ``x`` and ``dim`` are called.
    """
    if not -x.dim() <= dim < x.dim():
        raise ValueError(f"{name} of shape {tuple(x.shape)} has no dimension {dim} ({argument})")
    if dim % x.dim() == x.dim() - 1:
        raise ValueError(
            f"{argument}={dim}: the last dimension of {name} holds the components of multivectors"
        )


def check_multivectors(
    name: str,
    x: Any,
    channels: int | None = None,
    *,
    like: Tensor | None = None,
    items: bool = False,
    pointwise: bool = False,
) -> None:
    """Raise ``TypeError`` or ``ValueError`` unless ``x`` are multivectors ``(..., C, 16)``.

    Parameters
    ----------
    name
        What the argument is called.
    x
        What was given.
    channels
        C; None for any.
    like
        A tensor whose format and device are wanted: a parameter, or another input.
    items
        Whether a dimension of tokens is needed before the channels.
    pointwise
        Whether even the dimension of channels is not needed.
    """
    dims = 1 if pointwise else 3 if items else 2
    if (
        _is_plain(x, like)
        and x.dim() >= dims
        and x.shape[-1] == NUM_BLADES
        and (channels is None or x.shape[-2] == channels)
    ):
        return
    channel = "C" if channels is None else str(channels)
    shape = f"(..., {channel}, 16)" if not items else f"(..., items, {channel}, 16)"
    check_real(name, x, "(..., 16)" if pointwise else shape, like)
    given = tuple(x.shape)
    if given[-1:] != (NUM_BLADES,):
        advice = f"the last dimension has the {NUM_BLADES} coefficients of a multivector"
        if given[-1:] == (NUM_COMPONENTS,):
            advice = "momenta (..., 4) become multivectors by embed_vector(momenta)"
            advice += "" if channels is not None and given[-2:-1] == (channels,) else _CHANNEL
        raise ValueError(f"{name} have shape {given}, not {shape}; {advice}")
    if len(given) < dims:
        raise ValueError(f"{name} have shape {given}, not {shape}; {_LACKING}")
    if channels is not None and given[-2] != channels:
        raise ValueError(
            f"{name} have shape {given}: the number of channels must be {channels}, not "
            f"{given[-2]}; give {shape}, or build for {given[-2]}"
        )


_CHANNEL = ".unsqueeze(-2), with a dimension for the channel"
_LACKING = "unsqueeze(-2) adds a dimension for one channel, unsqueeze(0) one for a single item"


def check_vectors(
    name: str,
    x: Any,
    channels: int | None,
    *,
    like: Tensor | None = None,
    dim: int = -1,
    items: bool = False,
) -> None:
    """Raise ``TypeError`` or ``ValueError`` unless ``x`` are four-vectors.

    Parameters
    ----------
    name, x, channels, like, items
        See :func:`check_multivectors`.
    dim
        Where the four components are: -1 for ``(..., C, 4)``, -2 for ``(..., 4, C)``.
    """
    dims = 3 if items else 2
    if (
        _is_plain(x, like)
        and x.dim() >= dims
        and x.shape[dim] == NUM_COMPONENTS
        and (channels is None or x.shape[-3 - dim] == channels)
    ):
        return
    channel = "C" if channels is None else str(channels)
    last = f"{channel}, 4" if dim == -1 else f"4, {channel}"
    shape = f"(..., items, {last})" if items else f"(..., {last})"
    check_real(name, x, shape, like)
    given = tuple(x.shape)
    if len(given) < dims:
        lacking = f"unsqueeze({-3 - dim}) adds a dimension for one channel"
        raise ValueError(f"{name} have shape {given}, not {shape}; {lacking}")
    if given[dim] != NUM_COMPONENTS:
        advice = f"dimension {dim} has the components (E, px, py, pz)"
        if given[-1] == NUM_BLADES:
            advice = "slim networks and layers take vectors: extract_vector(multivectors)"
        elif given[-3 - dim] == NUM_COMPONENTS:
            advice = "transpose(-1, -2) puts the components where they belong"
        raise ValueError(f"{name} have shape {given}, not {shape}; {advice}")
    found = given[-3 - dim]
    if channels is not None and found != channels:
        raise ValueError(
            f"{name} have shape {given}: the number of channels must be {channels}, not {found}; "
            f"give {shape}, or build for {found}"
        )


def check_scalars(
    name: str,
    x: Any,
    channels: int | None,
    *,
    like: Tensor | None = None,
    beside: tuple[str, Tensor] | None = None,
    required: bool = False,
) -> None:
    """Raise ``TypeError`` or ``ValueError`` unless ``x`` are scalars ``(..., S)``, or rightly None.

    Parameters
    ----------
    name, x, like
        See :func:`check_multivectors`.
    channels
        S; None for any.
    beside
        Name and tensor of the multivectors or vectors of the same tokens, ``(..., C, 16)``.
    required
        Whether None is wrong even for no channels.
    """
    if x is None:
        if channels or required:
            raise ValueError(
                f"{name} are missing; give a tensor (..., {channels}), or build without scalars"
            )
        return
    leading = None if beside is None else beside[1].shape[:-2]
    if (
        _is_plain(x, like)
        and x.dim() >= 1
        and (channels is None or x.shape[-1] == channels)
        and (leading is None or x.shape[:-1] == leading)
    ):
        return
    wanted = "..." if leading is None else ", ".join(map(str, leading))
    shape = f"({wanted}, {'S' if channels is None else channels})".replace("(, ", "(")
    check_real(name, x, shape, like)
    given = tuple(x.shape)
    if not given or (channels is not None and given[-1] != channels):
        found = given[-1] if given else 0
        advice = f"give {shape}, or build for {found}"
        if channels == 0:
            advice = f"leave them out, or build with {found} scalar channels"
        raise ValueError(
            f"{name} have shape {given}: the number of channels must be {channels}, not {found}; "
            f"{advice}"
        )
    if leading is not None and given[:-1] != leading:
        assert beside is not None
        raise ValueError(
            f"{name} of shape {given} and {beside[0]} of shape {tuple(beside[1].shape)} do not "
            f"belong to the same tokens; wanted are {name} {shape}"
        )


def check_tokens(
    x: Any,
    scalars: Any,
    channels: tuple[int | None, int | None],
    like: Tensor | None,
    *,
    kind: Literal["multivectors", "vectors"] = "multivectors",
    items: bool = False,
    suffix: str = "",
    dim: int = -1,
) -> None:
    """Raise ``TypeError`` or ``ValueError`` unless these are tokens with their scalars.

    Parameters
    ----------
    x, scalars
        What was given. Scalars may be None where there are no channels of them, but not beside
        vectors.
    channels
        Channels of ``x`` and of ``scalars`` that are expected; None for any.
    like
        A parameter, whose format and device are wanted; None takes those of ``x``.
    kind
        What ``x`` is, and is called in messages.
    items
        Whether a dimension of tokens is needed before the channels.
    suffix
        Of the names of both arguments.
    dim
        Where vectors have their components: see :func:`check_vectors`.
    """
    name = f"{kind}{suffix}"
    if kind == "multivectors":
        check_multivectors(name, x, channels[0], like=like, items=items)
    else:
        check_vectors(name, x, channels[0], like=like, dim=dim, items=items)
    check_scalars(
        f"scalars{suffix}",
        scalars,
        channels[1],
        like=x if like is None else like,
        beside=(name, x),
        required=kind == "vectors",
    )


def _is_plain(x: Any, like: Tensor | None) -> bool:
    """Whether :func:`check_real` has certainly nothing to say; quick."""
    return (
        isinstance(x, Tensor)
        and x.layout is torch.strided
        and x.dtype in FLOATS
        and (like is None or (x.dtype == like.dtype and x.device == like.device))
        and not x.is_nested
        and (torch.compiler.is_compiling() or not x.is_neg())
    )


def check_real(name: str, x: Any, shape: str, like: Tensor | None = None) -> None:
    """Raise unless ``x`` is a dense tensor of floating-point numbers, in the format of ``like``."""
    check_dense(name, x, shape)
    if x.dtype not in FLOATS:
        raise ValueError(
            f"{name} are {x.dtype}, but real floating-point numbers are wanted: "
            f"{name}.to(torch.float32)"
        )
    # Kernels read the memory itself, where the sign is not yet changed.
    if not torch.compiler.is_compiling() and x.is_neg():
        raise ValueError(f"{name} are a view with a pending change of sign; {name}.resolve_neg()")
    if like is None:
        return
    if x.device != like.device:
        raise ValueError(
            f"{name} are on {x.device}, but {like.device} is wanted, where parameters and other "
            f'inputs are: {name}.to("{like.device}")'
        )
    if x.dtype != like.dtype and not (
        x.dtype in _CASTS and like.dtype in _CASTS and torch.is_autocast_enabled(x.device.type)
    ):
        raise ValueError(
            f"{name} are {x.dtype}, but {like.dtype} is wanted, as parameters and other inputs "
            f"are: {name}.to({like.dtype}), or the module.to({x.dtype})"
        )


def check_dense(name: str, x: Any, shape: str) -> None:
    """Raise unless ``x`` is a dense tensor, of any format."""
    if not isinstance(x, Tensor):
        given = "None" if x is None else type(x).__name__
        raise TypeError(f"{name} must be a tensor {shape}, not {given}; see torch.as_tensor")
    if x.layout is not torch.strided or x.is_nested or x.is_quantized:
        raise ValueError(
            f"{name} must be a dense tensor {shape}, not {x.layout}, nested or quantized; "
            f"{name}.to_dense(), or a packing for events of different lengths"
        )


def check_values(name: str, x: Tensor) -> None:
    """Raise ``ValueError`` if ``x`` lies on the meta device."""
    if x.device.type == "meta":
        raise ValueError(f"{name} have no values (meta tensor); move the values to a device")


def broadcast(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Both with the leading dimensions of each other; ``ValueError`` if they do not fit."""
    try:
        a, b = torch.broadcast_tensors(x, y)
    except RuntimeError as error:
        raise ValueError(
            f"shapes {tuple(x.shape)} and {tuple(y.shape)} do not broadcast: leading dimensions "
            "must be equal or 1"
        ) from error
    return a, b
