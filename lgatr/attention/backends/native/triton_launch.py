"""Launches of the kernels for packed events on CUDA."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import torch
from torch import Tensor

from lgatr.attention.backends.native.layout import places_of_gradients
from lgatr.attention.backends.native.score_terms import ScoreTerms
from lgatr.attention.backends.native.triton_event_gradients import gradient_kernel, sums_kernel
from lgatr.attention.backends.native.triton_events import forward_kernel, largest_kernel
from lgatr.attention.pattern.masks import Band
from lgatr.attention.pattern.packing import Packing
from lgatr.ops._runtime.products import AS_THEY_ARE, SPLIT, products
from lgatr.ops._runtime.triton import FUSED, ceil_div, power_of_two
from lgatr.ops._runtime.tuning import Options, Tuned


class Problem(Protocol):
    """What the kernels compute; see :mod:`lgatr.attention.backends.native.cuda`."""

    @property
    def queries(self) -> Packing:
        """Events of the queries."""

    @property
    def keys(self) -> Packing:
        """Events of the keys."""

    @property
    def band(self) -> Band | None:
        """Which keys are seen."""

    @property
    def terms(self) -> ScoreTerms:
        """Changes of the scores."""

    def scale_of(self, q: Tensor) -> float:
        """The factor of the scores."""


# Powers of two from _SMALLEST on. Forward tiles of 64 x 64 end in an illegal access at width 72
# (Triton 3.6, compiled for sm_90).
_FORWARD = Tuned(
    "attention of events",
    (
        {"BLOCK_M": 64, "BLOCK_N": 32, "num_warps": 4, "num_stages": 2},
        {"BLOCK_M": 32, "BLOCK_N": 32, "num_warps": 2, "num_stages": 1},
    ),
)
_BACKWARD = Tuned(
    "attention of events, gradient",
    (
        {"BLOCK_M": 64, "BLOCK_N": 64, "SERIAL": True, "num_warps": 4, "num_stages": 1},
        {"BLOCK_M": 64, "BLOCK_N": 64, "SERIAL": False, "num_warps": 4, "num_stages": 1},
        {"BLOCK_M": 32, "BLOCK_N": 32, "SERIAL": True, "num_warps": 2, "num_stages": 1},
    ),
)
_LARGEST: Options = {"BLOCK_T": 32, "num_warps": 4}
_UNLIMITED = 1 << 30
_MANY = 2048  # heads of events; some hundred programs fit on a card at once
_SMALLEST = 16  # what tensor cores multiply at least


def columns(width: int) -> tuple[int, int]:
    """Head width as two powers of two, the second 0 if one suffices: 72 is 64 and 16."""
    first = max(_SMALLEST, 1 << (width.bit_length() - 1))
    rest = width - first
    return first, max(_SMALLEST, power_of_two(rest)) if rest > 0 else 0


def _reach(limit: int | None) -> int:
    """A side of a band as a number that can be added to positions."""
    return _UNLIMITED if limit is None else min(limit, _UNLIMITED)


def _shared(settings: Problem, q: Tensor) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments of both kernels: numbers, and constants."""
    band, terms = settings.band, settings.terms
    left, right = (None, None) if band is None else (band.left, band.right)
    numbers = (
        settings.scale_of(q), terms.cap or 0.0,
        _reach(left), _reach(right),
    )  # fmt: skip
    d0, d1 = columns(q.shape[2])
    constants = {
        "BAND": band is not None, "BOTTOM_RIGHT": band is not None and band.bottom_right,
        "CAP": terms.cap is not None, "ALIBI": terms.slopes is not None,
        "PRODUCTS": products().components if q.dtype == torch.float32 else AS_THEY_ARE,
        "heads": q.shape[1], "width": q.shape[2], "D0": d0, "D1": d1,
    }  # fmt: skip
    return numbers, constants


def _events(settings: Problem, q: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """Offsets of queries and keys, and slopes, on the device of ``q``."""
    slopes = settings.terms.slopes
    return (
        settings.queries.ptr.to(q.device),
        settings.keys.ptr.to(q.device),
        None if slopes is None else slopes.to(q.device, torch.float32).contiguous(),
    )


def _sizes(settings: Problem, constants: dict[str, Any], q: Tensor) -> tuple[int, ...]:
    """What the best launch options depend on."""
    longest = power_of_two(settings.keys.max_length)
    # Heads of few events leave multiprocessors idle, unless each has several programs.
    many = int(settings.queries.num_events * q.shape[1] >= _MANY)
    sizes = q.shape[1], q.shape[2], constants["PRODUCTS"], q.element_size(), min(longest, 1024)
    return *sizes, many


def _largest(settings: Problem, parts: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The largest finite sizes in each head of each event, for kernels that scale by them.

    Of queries, keys and values: ``(3, B H)``.
    """
    (_, heads, width), events = q.shape, settings.queries.num_events
    found = torch.empty(3, events * heads, device=q.device, dtype=torch.float32)
    if parts == SPLIT:
        q_ptr, k_ptr, _ = _events(settings, q)
        largest_kernel[(events * heads, 3)](
            q, k, v, found, q_ptr, k_ptr, *_tokens(q, k, v), **_heads("qkv", q, k, v),
            heads=heads, width=width, BLOCK_D=power_of_two(width), **_LARGEST, **FUSED,
        )  # fmt: skip
    return found


def _sums(settings: Problem, parts: int, grad: Tensor, out: Tensor) -> tuple[Tensor, Tensor]:
    """Sums over a head of gradient times output ``(T, H)``; largest gradients ``(B H)``."""
    (_, heads, width), events = grad.shape, settings.queries.num_events
    delta = torch.empty(grad.shape[:2], device=grad.device, dtype=torch.float32)
    largest = torch.empty(events * heads, device=grad.device, dtype=torch.float32)
    q_ptr, _, _ = _events(settings, grad)
    sums_kernel[(events * heads,)](
        grad, out, delta, largest, q_ptr, *_tokens(grad, out), **_heads("go", grad, out),
        heads=heads, width=width, PRODUCTS=parts, BLOCK_D=power_of_two(width), **_LARGEST, **FUSED,
    )  # fmt: skip
    return delta, largest


def attention(settings: Problem, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs ``(T, H, D)``, their log-sum-exps ``(T, H)``, and largest numbers of the inputs."""
    out = q.new_empty(q.shape)
    lse = torch.empty(q.shape[:2], device=q.device, dtype=torch.float32)
    numbers, constants = _shared(settings, q)
    largest = _largest(settings, constants["PRODUCTS"], q, k, v)
    q_ptr, k_ptr, slopes = _events(settings, q)
    events, heads = settings.queries.num_events, q.shape[1]

    def launch(options: Options) -> None:
        tiles = ceil_div(settings.queries.max_length, options["BLOCK_M"])
        forward_kernel[(events * heads, tiles)](
            q, k, v, out, lse, largest, q_ptr, k_ptr, slopes, *_tokens(q, k, v, out), *numbers,
            **_heads("qkvo", q, k, v, out), **constants, **options, **FUSED,
        )  # fmt: skip

    _FORWARD(q, _sizes(settings, constants, q), launch)
    return out, lse, largest


def attention_gradients(
    settings: Problem,
    inputs: tuple[Tensor, Tensor, Tensor],
    out: Tensor,
    grad: Tensor,
    lse: Tensor,
    largest: Tensor,
) -> tuple[Tensor, ...]:
    """Gradients of queries, keys and values, given that of the outputs."""
    q, k, v = inputs
    gradients = places_of_gradients(q, k, v)
    numbers, constants = _shared(settings, q)
    delta, of_grad = _sums(settings, constants["PRODUCTS"], grad, out)
    q_ptr, k_ptr, slopes = _events(settings, q)
    events, heads = settings.queries.num_events, q.shape[1]
    names, tensors = ("q", "k", "v", "g", "oq", "ok", "ov"), (q, k, v, grad, *gradients)
    longest_q, longest_k = settings.queries.max_length, settings.keys.max_length

    def launch(options: Options) -> None:
        # Sums of several tiles are kept in the output, which must not round them.
        serial = bool(options["SERIAL"]) and q.dtype == torch.float32
        key_tiles = 1 if serial else ceil_div(longest_k, options["BLOCK_N"])
        # Where all keys of every event are in one tile, no program is for queries alone.
        query_tiles = ceil_div(longest_q, options["BLOCK_M"]) if key_tiles > 1 else 0
        gradient_kernel[(events * heads, key_tiles + query_tiles)](
            q, k, v, grad, lse, delta, *gradients, largest, of_grad, q_ptr, k_ptr, slopes,
            *_tokens(*tensors), *numbers, key_tiles,
            **_heads(names, *tensors), **constants, **{**options, "SERIAL": serial}, **FUSED,
        )  # fmt: skip

    _BACKWARD(q, _sizes(settings, constants, q), launch)
    return gradients


def _tokens(*tensors: Tensor) -> list[int]:
    """Strides of tokens."""
    return [x.stride(0) for x in tensors]


def _heads(names: Iterable[str], *tensors: Tensor) -> dict[str, int]:
    """Strides of heads; constants, so that the compiler knows how far they are aligned."""
    return {f"{name}_h": x.stride(1) for name, x in zip(names, tensors, strict=True)}
