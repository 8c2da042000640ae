"""Events of different lengths laid end to end.

Legend: T tokens of all events, B events, N places of a padded event.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from lgatr.utils.described import described
from lgatr.utils.devices import on_device
from lgatr.utils.inputs import check_values
from lgatr.utils.lengths import (
    MAX_TOKENS,
    checked_lengths,
    checked_offsets,
    is_readable,
    offsets_of_lengths,
    whole_number,
    whole_numbers,
)


class Packing:
    """Where each event starts and ends in a packed sequence. Immutable, and valid once it exists.

    The lengths are kept as Python numbers beside the tensor of offsets, so that no backend has
    to ask a device for them.

    Parameters
    ----------
    lengths
        Number of tokens of each event, each at least 1. None reads them from ``ptr``: at once on
        a CPU; when they are first needed on a GPU, which is not waited for before.
    ptr
        ``(B + 1,)`` offsets; event ``i`` owns tokens ``ptr[i]`` to ``ptr[i + 1]``.

    Raises
    ------
    ValueError, TypeError
        If lengths or offsets are no whole numbers, an event is empty, the offsets do not start at
        0, or the two contradict each other.
    """

    __slots__ = ("_lengths", "_ptr")

    def __init__(self, lengths: Iterable[int] | None, ptr: Tensor) -> None:
        ptr = whole_numbers("offsets", ptr, "(events + 1,)")
        if ptr.shape[0] < 2:
            raise ValueError("a packing needs at least one event, and so two offsets")
        readable = is_readable(ptr)
        if readable:
            read = checked_offsets(ptr)
            if lengths is not None and checked_lengths(lengths) != read:
                raise ValueError(f"events of lengths {lengths} do not have offsets {ptr.tolist()}")
            lengths = read
        if lengths is None:
            # A number too large for int32 stays so large that its event is refused when read.
            whole = ptr if ptr.dtype == torch.int32 else ptr.clamp(-1, MAX_TOKENS)
            self._lengths, self._ptr = None, whole.to(torch.int32)
        else:
            self._lengths = checked_lengths(lengths)
            # A copy: the given offsets may be overwritten later.
            self._ptr = offsets_of_lengths(self._lengths, ptr.device)

    @classmethod
    def _trusted(cls, lengths: tuple[int, ...] | None, ptr: Tensor) -> Packing:
        """A packing that is known to be valid."""
        packing = object.__new__(Packing)
        packing._lengths, packing._ptr = lengths, ptr
        return packing

    def __reduce__(self) -> tuple[Any, ...]:
        return Packing, (self._lengths, self._ptr)

    @property
    def ptr(self) -> Tensor:
        """``(B + 1,)`` int32 offsets of the events."""
        return self._ptr

    @property
    def lengths(self) -> tuple[int, ...]:
        """Number of tokens of each event."""
        if self._lengths is None:
            self._lengths = checked_offsets(self._ptr)
        return self._lengths

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Packing) and self.lengths == other.lengths

    def __hash__(self) -> int:
        return hash(self.lengths)

    def __repr__(self) -> str:
        return f"Packing({self.lengths})"

    @classmethod
    def from_lengths(
        cls, lengths: Iterable[int] | Tensor, device: torch.device | str = "cpu"
    ) -> Packing:
        """Describe events by their lengths.

        Raises
        ------
        TypeError
            If the lengths are no whole numbers.
        ValueError
            If there is no event, an event is empty, or there are more than 2^31 - 1 tokens.
        """
        lengths = checked_lengths(lengths)
        return Packing._trusted(lengths, offsets_of_lengths(lengths, device))

    @classmethod
    def from_ptr(cls, ptr: Tensor) -> Packing:
        """Describe events by their offsets ``(B + 1,)``, as ``cu_seqlens`` of flash-attention.

        On a GPU the offsets are not looked at before they are needed, so this does not wait for
        it; in a traced program attention looks at them each time that it runs.

        Raises
        ------
        TypeError, ValueError
            If the offsets are no whole numbers, do not start at 0, or do not rise.
        """
        return Packing(None, ptr)

    @classmethod
    def from_batch_index(cls, batch: Tensor) -> Packing:
        """Describe events by the event number of each token, ``(T,)``, rising from 0.

        Raises
        ------
        TypeError, ValueError
            If they are no whole numbers, or do not rise by at most one from token to token.
        """
        batch = whole_numbers("event numbers", batch, "(tokens,)")
        check_values("event numbers", batch)
        steps = batch.diff()
        if batch.numel() == 0 or batch[0] != 0 or ((steps != 0) & (steps != 1)).any():
            raise ValueError("batch must start at 0 and rise by at most 1 from token to token")
        return cls.from_lengths(torch.bincount(batch), batch.device)

    @classmethod
    def from_mask(cls, mask: Tensor) -> Packing:
        """Describe the events of a padded batch by its mask.

        Indexing with the mask gathers the tokens, and puts results back, wherever they stand::

            packing = Packing.from_mask(mask)
            out, out_s = net(multivectors[mask], scalars[mask], packing=packing)
            padded = out.new_zeros(*mask.shape, *out.shape[1:])
            padded[mask] = out

        Parameters
        ----------
        mask
            ``(B, N)`` boolean, True for tokens and False for padding.

        Raises
        ------
        TypeError, ValueError
            If the mask is not boolean or has another shape, or an event has no token.
        """
        if not isinstance(mask, Tensor):
            raise TypeError(
                f"mask must be a boolean tensor (events, places), not {type(mask).__name__}"
            )
        dense = mask.layout is torch.strided and not mask.is_nested
        if not dense or mask.dtype != torch.bool or mask.dim() != 2:
            raise ValueError(
                f"mask must be boolean (events, places), True for tokens; not {described(mask)}"
            )
        counts = mask.sum(1)
        return Packing(None, torch.cat([counts.new_zeros(1), counts.cumsum(0)]))

    @property
    def num_events(self) -> int:
        """Number of events B."""
        return self._ptr.shape[0] - 1

    @property
    def num_tokens(self) -> int:
        """Number of tokens T of all events."""
        return sum(self.lengths)

    @property
    def max_length(self) -> int:
        """Length of the longest event."""
        return max(self.lengths)

    @property
    def device(self) -> torch.device:
        """Where the offsets live."""
        return self._ptr.device

    def to(self, device: torch.device | str) -> Packing:
        """The same packing with its offsets on ``device``."""
        return Packing._trusted(self._lengths, on_device(self._ptr, device, non_blocking=True))

    def pin_memory(self) -> Packing:
        """The same packing with its offsets in pinned memory."""
        return Packing._trusted(self._lengths, self._ptr.pin_memory())

    def batch_index(self) -> Tensor:
        """The event number of each token, ``(T,)`` int64."""
        events = torch.arange(self.num_events, device=self.device)
        # output_size avoids synchronising with a GPU.
        return events.repeat_interleave(self._ptr.diff().long(), output_size=self.num_tokens)

    def prepend(self, count: int) -> tuple[Packing, Tensor, Tensor]:
        """Make room for ``count`` tokens in front of every event.

        Returns
        -------
        packing
            The longer events.
        new
            ``(B, count)`` int64, places of the new tokens in the longer sequence.
        old
            ``(T,)`` int64, places of the old tokens.

        Raises
        ------
        ValueError
            If ``count`` is no whole number or negative, or there are more than 2^31 - 1 tokens.
        """
        count = count if type(count) is int else whole_number("count", count)
        if count < 0 or self.num_tokens + count * self.num_events > MAX_TOKENS:
            raise ValueError(
                f"cannot put {described(count)} tokens in front of each of {self.num_events} "
                f"events with {self.num_tokens} tokens; give from 0 to {MAX_TOKENS} tokens in all"
            )
        events = torch.arange(self.num_events + 1, device=self.device)
        ptr = self._ptr + (count * events).to(self._ptr.dtype)
        new = ptr[:-1, None].long() + torch.arange(count, device=self.device)
        tokens = torch.arange(self.num_tokens, device=self.device)
        old = tokens + count * (self.batch_index() + 1)
        return self._longer(count, ptr), new, old

    def _longer(self, count: int, ptr: Tensor) -> Packing:
        return Packing._trusted(tuple(n + count for n in self.lengths), ptr)


class BoundedPacking(Packing):
    """Events whose lengths change from batch to batch, while what a program depends on does not.

    For CUDA graphs, which replay launches of fixed shapes: the number of events and of tokens is
    fixed, and a limit on the length of an event is known, but who owns which token stands in
    ``ptr`` alone. Attention on CUDA needs no more than that.

    Parameters
    ----------
    ptr
        ``(B + 1,)`` int32 offsets, whose values may be overwritten. On a CPU they are checked now
        and whenever they are read; on a GPU whoever writes them answers for them.
    num_tokens
        Number of tokens of all events, the last of the offsets.
    max_length
        No event is longer; may be more than there are tokens.

    Raises
    ------
    ValueError, TypeError
        If the offsets are not such offsets, or one of the limits is wrong.
    """

    __slots__ = ("_max_length", "_num_tokens")

    def __init__(self, ptr: Tensor, num_tokens: int, max_length: int) -> None:
        self._ptr, self._lengths = whole_numbers("offsets", ptr, "(events + 1,)"), None
        if ptr.dtype != torch.int32 or ptr.shape[0] < 2:
            raise ValueError(f"offsets must be int32 of shape (events + 1,), not {described(ptr)}")
        num_tokens = whole_number("num_tokens", num_tokens)
        max_length = whole_number("max_length", max_length)
        self._num_tokens, self._max_length = num_tokens, max_length
        if max_length < 1 or not 1 <= num_tokens <= MAX_TOKENS:
            raise ValueError(
                f"a batch has tokens and a limit on the length of its events, not "
                f"{described(num_tokens)} and {described(max_length)}"
            )
        if is_readable(ptr):
            self._read()

    def _read(self) -> tuple[int, ...]:
        lengths = checked_offsets(self._ptr)
        if sum(lengths) != self._num_tokens or max(lengths) > self._max_length:
            raise ValueError(
                f"the offsets describe {sum(lengths)} tokens, the longest event has "
                f"{max(lengths)}; promised were {self._num_tokens} and at most {self._max_length}"
            )
        return lengths

    def __reduce__(self) -> tuple[Any, ...]:
        return BoundedPacking, (self._ptr, self._num_tokens, self._max_length)

    @property
    def lengths(self) -> tuple[int, ...]:
        """Number of tokens of each event, as it stands in the offsets now.

        Raises
        ------
        ValueError
            While a CUDA graph is captured, which cannot wait for an answer; or if the offsets are
            no offsets of so many tokens.
        """
        if self._ptr.is_cuda and torch.cuda.is_current_stream_capturing():
            raise ValueError(
                "this attention needs the lengths of events as numbers, which a CUDA graph does "
                "not have; use attention native, varlen, flash or xformers without special masks"
            )
        return self._read()

    @property
    def num_tokens(self) -> int:
        """Number of tokens T of all events."""
        return self._num_tokens

    @property
    def max_length(self) -> int:
        """Limit on the length of an event."""
        return self._max_length

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BoundedPacking) and self._ptr is other._ptr

    def __hash__(self) -> int:
        return id(self._ptr)

    def __repr__(self) -> str:
        return (
            f"BoundedPacking({self.num_events} events, {self.num_tokens} tokens, "
            f"at most {self.max_length} each)"
        )

    def to(self, device: torch.device | str) -> BoundedPacking:
        """The same packing with its offsets on ``device``."""
        return BoundedPacking(on_device(self._ptr, device, True), self.num_tokens, self.max_length)

    def pin_memory(self) -> BoundedPacking:
        """The same packing with its offsets in pinned memory."""
        return BoundedPacking(self._ptr.pin_memory(), self.num_tokens, self.max_length)

    def _longer(self, count: int, ptr: Tensor) -> BoundedPacking:
        return BoundedPacking(
            ptr, self.num_tokens + count * self.num_events, self.max_length + count
        )
