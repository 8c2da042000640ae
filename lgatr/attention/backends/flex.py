"""FlexAttention: any mask and any score modification in one compiled kernel.

A pattern becomes a ``mask_mod``, a ``score_mod`` and a ``BlockMask``. The block mask is made from
the offsets of the events alone: a block of queries meets the blocks of keys between the first key
of its first event and the last key of its last. No mask of all scores is built and no device is
waited for. Numbers that change from batch to batch are tensors, so that one compilation serves all.

On a CPU there is no backward kernel; there, training falls back to the native backend.

Legend: T query tokens, U key tokens, Q and K blocks of 128 of them, H heads, D head width.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import cache
from types import FunctionType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lgatr.attention.backends.base import Backend, Capabilities
from lgatr.attention.backends.dropout import draw_seed, drop_threshold, keep_mask
from lgatr.attention.pattern.features import PATTERN_FEATURES
from lgatr.attention.pattern.masks import Mask
from lgatr.attention.pattern.masks.block_mask import BlockMaskMod
from lgatr.attention.pattern.positions import Positions
from lgatr.attention.pattern.scores import ScoreMod
from lgatr.attention.pattern.spec import AttentionSpec

BLOCK = 128
# The kernels need heads at least this wide.
_MIN_HEAD_WIDTH = 16
_MIN_TABLE = 4096
_MAX_HEADS = 64

Locate = Callable[[Tensor, Tensor, Tensor, Tensor], Positions]


def _compiler(device_type: str, with_lse: bool) -> str:
    """The compiler's backend: a CPU without C++ compiler runs the formula on all scores.

    So does any CPU where the log-sum-exp is wanted, which inductor's kernel does not give.
    """
    if device_type != "cpu":
        return "inductor"
    without = shutil.which("c++") is None and shutil.which("g++") is None
    return "eager" if without or with_lse else "inductor"


def _call(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    return flex_attention(q, k, v, **options)


@cache
def _function(signature: str, compiler: str) -> Callable[..., Any]:
    """FlexAttention compiled for one kind of pattern.

    Torch keeps compiled programs by code object, few for each, and compares the objects that a
    program holds with those of the next call. A code object for each kind of pattern keeps unlike
    objects apart, and the number of programs for each small.
    """
    code = _call.__code__.replace(co_name=f"flex_{signature}")
    function = FunctionType(code, globals(), f"flex_{signature}")
    function.__kwdefaults__ = _call.__kwdefaults__
    return torch.compile(function, dynamic=True, backend=compiler)


def _padded_table(x: Tensor) -> Tensor:
    """A table padded to a power of two, with sizes that the compiler takes for constants.

    Inductor's template for CPUs (torch 2.13) garbles the names of sizes that are not. Tables with
    an entry for each head have a constant size already.
    """
    if x.shape[0] > _MAX_HEADS or x.dim() == 1:
        size = max(1 << (x.shape[0] - 1).bit_length(), _MIN_TABLE)
        x = F.pad(x, (0, 0) * (x.dim() - 1) + (0, size - x.shape[0]))
    else:
        x = x.view(x.shape)
    for dim in range(x.dim()):
        torch._dynamo.mark_static(x, dim)
    return x


def _packed_positions(q_ptr: Tensor, k_ptr: Tensor, q_event: Tensor, k_event: Tensor) -> Locate:
    def locate(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Positions:
        event = q_event[q]
        q_start, k_start = q_ptr[event], k_ptr[event]
        return Positions(
            event=event,
            head=h,
            q=q - q_start,
            k=k - k_start,
            q_length=q_ptr[event + 1] - q_start,
            k_length=k_ptr[event + 1] - k_start,
            q_token=q,
            k_token=k,
        )

    return locate


def _dense_positions(queries: Tensor, keys: Tensor) -> Locate:
    def locate(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Positions:
        return Positions(b, h, q, k, queries, keys, b * queries + q, b * keys + k)

    return locate


def _mask_mod(
    locate: Locate, mask: Mask | None, events: tuple[Tensor, Tensor] | None
) -> Callable[..., Tensor]:
    if events is None:
        assert mask is not None

        def dense(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
            return mask.allowed(locate(b, h, q, k))

        return dense
    q_event, k_event = events
    if mask is None:

        def same_event(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
            return q_event[q] == k_event[k]

        return same_event

    def inside_event(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return (q_event[q] == k_event[k]) & mask.allowed(locate(b, h, q, k))

    return inside_event


def _block_mask(first: Tensor, count: Tensor, columns: int, mask_mod: Any, tokens: Any) -> Any:
    """A block mask with the neighbouring blocks ``first`` to ``first + count`` in each row."""
    from torch.nn.attention.flex_attention import BlockMask

    places = torch.arange(columns, device=first.device, dtype=torch.int32)
    # Entries past the count are not read, but must be valid indices.
    indices = torch.minimum(first[:, None] + places, places[-1])
    return BlockMask.from_kv_blocks(
        count.int()[None, None],
        indices.int()[None, None].contiguous(),
        BLOCK_SIZE=BLOCK,
        mask_mod=mask_mod,
        seq_lengths=tokens,
    )


def structure(part: Any) -> str:
    """The kinds of masks or modifications in ``part``, by name."""
    parts = getattr(part, "parts", None) or ([part.part] if hasattr(part, "part") else [])
    inner = ", ".join(structure(p) for p in parts)
    function = getattr(part, "function", None)
    own = "" if function is None else f" {id(getattr(function, '__code__', function))}"
    return f"{type(part).__name__}{own}({inner})"


def _pad_width(x: Tensor) -> Tensor:
    lacking = _MIN_HEAD_WIDTH - x.shape[-1]
    return F.pad(x, (0, lacking)) if lacking > 0 else x


class Lowering:
    """A pattern as FlexAttention wants it; made once for a forward pass."""

    def __init__(self, spec: AttentionSpec, device: torch.device) -> None:
        self.spec, self.device = spec, device
        self.mask: Mask | None = None if spec.mask is None else spec.mask.map(*self._as_data)
        self.score: ScoreMod | None = None
        if spec.score is not None:
            self.score = spec.score.map(*self._as_data)
        self.index = None if spec.storage is None else spec.storage.index().to(device)
        self.signature = " ".join(
            [structure(self.mask), structure(self.score), "dense" * (spec.packing is None)]
        )
        self._of_shape: tuple[tuple[int, int], Any, Locate] | None = None

    @property
    def _as_data(self) -> tuple[Callable[[Tensor], Tensor], Callable[[float], Tensor]]:
        """Conversions of tensors and numbers that keep one compiled program for all values."""

        def tensor(x: Tensor) -> Tensor:
            return _padded_table(x) if self.device.type == "cpu" else x.to(self.device)

        return tensor, self._number

    def _number(self, x: float) -> Tensor:
        """A scalar tensor made on the device, without a copy from the host."""
        kind = torch.int64 if isinstance(x, int) else None
        return torch.full((), x, dtype=kind, device=self.device)

    def block_mask(self, queries: int, keys: int) -> tuple[Any, Locate]:
        """The block mask for ``queries`` and ``keys`` per sequence, and where scores stand."""
        if self._of_shape is None or self._of_shape[0] != (queries, keys):
            lower = self._dense if self.spec.packing is None else self._packed
            self._of_shape = ((queries, keys), *lower(queries, keys))
        return self._of_shape[1:]

    def _dense(self, queries: int, keys: int) -> tuple[Any, Locate]:
        locate = _dense_positions(self._number(queries), self._number(keys))
        if isinstance(self.mask, BlockMaskMod):
            return self.mask.block_mask, locate
        if self.mask is None or self.spec.mask is None:
            return None, locate
        ranges = [
            self.spec.mask.key_range(range(i, min(i + BLOCK, queries)), (queries, keys), 0)
            for i in range(0, queries, BLOCK)
        ]
        first = torch.tensor([r.start // BLOCK for r in ranges], dtype=torch.int32)
        last = torch.tensor([-(-r.stop // BLOCK) for r in ranges], dtype=torch.int32)
        mask_mod = _mask_mod(locate, self.mask, None)
        first, count = (x.to(self.device, non_blocking=True) for x in (first, last - first))
        return _block_mask(first, count, -(-keys // BLOCK), mask_mod, (queries, keys)), locate

    def _packed(self, queries: int, keys: int) -> tuple[Any, Locate]:
        packing, key_packing = self.spec.packing, self.spec.key_packing
        assert packing is not None and key_packing is not None
        packing, key_packing = packing.to(self.device), key_packing.to(self.device)
        q_event = packing.batch_index().int()
        k_event = q_event if key_packing is packing else key_packing.batch_index().int()
        q_ptr, k_ptr = packing.ptr, key_packing.ptr
        starts = torch.arange(0, queries, BLOCK, device=self.device)
        ends = (starts + BLOCK - 1).clamp(max=queries - 1)
        first = k_ptr[q_event[starts]] // BLOCK
        last = (k_ptr[q_event[ends] + 1] - 1) // BLOCK + 1
        if self.device.type == "cpu":
            q_ptr, k_ptr, q_event, k_event = map(_padded_table, (q_ptr, k_ptr, q_event, k_event))
        locate = _packed_positions(q_ptr, k_ptr, q_event, k_event)
        mask_mod = _mask_mod(locate, self.mask, (q_event, k_event))
        columns = -(-keys // BLOCK)
        return _block_mask(first, last - first, columns, mask_mod, (queries, keys)), locate

    def score_mod(self, locate: Locate, seed: Tensor | None) -> Callable[..., Tensor] | None:
        """The score modification; with a seed, dropped scores become minus infinity."""
        score = self.score
        if seed is None:
            if score is None:
                return None

            def modified(s: Tensor, b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
                return score(s, locate(b, h, q, k))

            return modified

        # A tensor: the compiler would read a captured number back from the device.
        limit = self._number(drop_threshold(self.spec.dropout))

        def dropped(s: Tensor, b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
            at = locate(b, h, q, k)
            s = s if score is None else score(s, at)
            return torch.where(keep_mask(seed, at, limit), s, -float("inf"))

        return dropped


class FlexBackend(Backend):
    """``torch.nn.attention.flex_attention``, compiled, on CUDA and (inference) on CPUs."""

    name = "flex"
    priority = -5
    capabilities = Capabilities(
        features=frozenset(PATTERN_FEATURES),
        devices=frozenset({"cuda", "cpu"}),
        training_devices=frozenset({"cuda"}),
        dtypes=frozenset({torch.float32, torch.bfloat16, torch.float16}),
    )

    @classmethod
    def import_error(cls) -> str | None:
        """Whether torch has it."""
        try:
            import torch.nn.attention.flex_attention
        except ImportError:
            return f"needs torch >= 2.7, this is {torch.__version__}"
        return None

    @classmethod
    def preference(cls, spec: AttentionSpec, device: torch.device) -> int:
        """On CUDA before the native blocks, where the pattern is more than a band of keys."""
        plain = spec.score is None and (spec.mask is None or spec.mask.band() is not None)
        return cls.priority if plain or device.type != "cuda" else 5

    def plan(self, spec: AttentionSpec, device: torch.device) -> Lowering:
        """Functions and block mask, the latter made when the shapes are known."""
        return Lowering(spec, device)

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, spec: AttentionSpec, plan: Lowering
    ) -> Tensor:
        return self._run(q, k, v, spec, plan, False)[0]

    def attend_partial(
        self, q: Tensor, k: Tensor, v: Tensor, spec: AttentionSpec, plan: Lowering
    ) -> tuple[Tensor, Tensor]:
        out, lse = self._run(q, k, v, spec, plan, True)
        assert lse is not None
        return out, lse

    def _run(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        spec: AttentionSpec,
        plan: Lowering,
        want_lse: bool,
    ) -> tuple[Tensor, Tensor | None]:
        shape, width, out_width = q.shape, q.shape[-1], v.shape[-1]
        if plan.index is not None:
            k, v = k.index_select(0, plan.index), v.index_select(0, plan.index)
        scale = width**-0.5 if spec.scale is None else spec.scale
        parts = [
            x.unsqueeze(0) if spec.packing is not None else x.flatten(0, -4) for x in (q, k, v)
        ]
        q, k, v = (_pad_width(x.transpose(1, 2)) for x in parts)
        block_mask, locate = plan.block_mask(q.shape[2], k.shape[2])
        compiler = _compiler(q.device.type, want_lse or spec.dropout > 0.0)
        flex = _function(plan.signature, compiler)
        options = {"block_mask": block_mask, "scale": scale, "enable_gqa": k.shape[1] != q.shape[1]}
        score_mod = plan.score_mod(locate, None)
        if spec.dropout > 0.0:
            # The kernel has no dropout: masking dropped scores and rescaling by the full sum is
            # equivalent.
            _, lse = flex(q, k, v, score_mod=score_mod, return_lse=True, **options)
            seed = torch.full((), int(draw_seed()), dtype=torch.int64, device=q.device)
            drop = plan.score_mod(locate, seed)
            dropping = _function(plan.signature + " dropout", compiler)
            out, some = dropping(q, k, v, score_mod=drop, return_lse=True, **options)
            share = torch.exp(some - lse).nan_to_num(0.0) / (1.0 - spec.dropout)
            out = out * share.unsqueeze(-1).to(out.dtype)
        elif want_lse:
            out, lse = flex(q, k, v, score_mod=score_mod, return_lse=True, **options)
        else:
            out, lse = flex(q, k, v, score_mod=score_mod, **options), None
        out = out.transpose(1, 2)[..., :out_width].reshape(*shape[:-1], out_width)
        return out, None if lse is None else lse.transpose(1, 2).reshape(shape[:-1])


BACKEND = FlexBackend
