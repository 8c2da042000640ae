"""Events of different lengths laid end to end.

Legend: T tokens of all events, B events.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate

import torch
from torch import Tensor


def _checked(lengths: Iterable[int]) -> tuple[int, ...]:
    lengths = tuple(lengths)
    if not lengths:
        raise ValueError("a packing needs at least one event")
    if min(lengths) < 1:
        raise ValueError(
            f"event {lengths.index(min(lengths))} has {min(lengths)} tokens; "
            "leave empty events out of the batch"
        )
    total = sum(lengths)
    if total > torch.iinfo(torch.int32).max:
        raise ValueError(f"{total} tokens exceed 2^31 - 1; use smaller batches")
    return lengths


class Packing:
    """Where each event starts and ends in a packed sequence. Immutable.

    The lengths are kept as Python numbers beside the tensor of offsets, so that no backend has
    to ask a device for them.

    Parameters
    ----------
    lengths
        Number of tokens of each event, each at least 1. None reads them from ``ptr`` when they
        are first needed.
    ptr
        ``(B + 1,)`` int32 offsets; event ``i`` owns tokens ``ptr[i]`` to ``ptr[i + 1]``.
    """

    __slots__ = ("_lengths", "ptr")

    def __init__(self, lengths: tuple[int, ...] | None, ptr: Tensor) -> None:
        self._lengths, self.ptr = lengths, ptr

    @property
    def lengths(self) -> tuple[int, ...]:
        """Number of tokens of each event."""
        if self._lengths is None:
            self._lengths = _checked(self.ptr.diff().tolist())
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
        ValueError
            If there is no event, an event is empty, or there are more than 2^31 - 1 tokens.
        """
        if isinstance(lengths, Tensor):
            lengths = lengths.tolist()
        lengths = _checked(int(n) for n in lengths)
        offsets = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32)
        return cls(lengths, offsets.to(device, non_blocking=True))

    @classmethod
    def from_ptr(cls, ptr: Tensor) -> Packing:
        """Describe events by their offsets ``(B + 1,)``, as ``cu_seqlens`` of flash-attention.

        The offsets are not looked at before they are needed, so this does not wait for a GPU.
        """
        if ptr.dim() != 1 or ptr.shape[0] < 2 or ptr.is_floating_point():
            raise ValueError(
                f"offsets must be whole numbers of shape (events + 1,), not {ptr.dtype} of shape "
                f"{tuple(ptr.shape)}"
            )
        return cls(None, ptr.to(torch.int32))

    @classmethod
    def from_batch_index(cls, batch: Tensor) -> Packing:
        """Describe events by the event number of each token, ``(T,)``, rising from 0.

        Raises
        ------
        ValueError
            If the numbers do not rise by at most one from token to token.
        """
        steps = batch.diff()
        if batch.numel() == 0 or batch[0] != 0 or ((steps != 0) & (steps != 1)).any():
            raise ValueError("batch must start at 0 and rise by at most 1 from token to token")
        return cls.from_lengths(torch.bincount(batch), batch.device)

    @property
    def num_events(self) -> int:
        """Number of events B."""
        return self.ptr.shape[0] - 1

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
        return self.ptr.device

    def to(self, device: torch.device | str) -> Packing:
        """The same packing with its offsets on ``device``."""
        return Packing(self._lengths, self.ptr.to(device, non_blocking=True))

    def pin_memory(self) -> Packing:
        """The same packing with its offsets where a GPU can fetch them by itself."""
        return Packing(self._lengths, self.ptr.pin_memory())

    def batch_index(self) -> Tensor:
        """The event number of each token, ``(T,)`` int64."""
        events = torch.arange(self.num_events, device=self.device)
        # With the size of the result given, the device need not be asked for it.
        return events.repeat_interleave(self.ptr.diff().long(), output_size=self.num_tokens)

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
        """
        events = torch.arange(self.num_events + 1, device=self.device)
        ptr = self.ptr + (count * events).to(self.ptr.dtype)
        new = ptr[:-1, None].long() + torch.arange(count, device=self.device)
        tokens = torch.arange(self.num_tokens, device=self.device)
        old = tokens + count * (self.batch_index() + 1)
        return self._longer(count, ptr), new, old

    def _longer(self, count: int, ptr: Tensor) -> Packing:
        return Packing(tuple(n + count for n in self.lengths), ptr)


class BoundedPacking(Packing):
    """Events whose lengths change from batch to batch, while what a program depends on does not.

    For CUDA graphs, which replay launches of fixed shapes: the number of events and of tokens is
    fixed, and a limit on the length of an event is known, but who owns which token stands in
    ``ptr`` alone. Attention on CUDA needs no more than that.

    Parameters
    ----------
    ptr
        ``(B + 1,)`` int32 offsets, whose values may be overwritten.
    num_tokens
        Number of tokens of all events, the last of the offsets.
    max_length
        No event is longer.
    """

    __slots__ = ("_max_length", "_num_tokens")

    def __init__(self, ptr: Tensor, num_tokens: int, max_length: int) -> None:
        super().__init__(None, ptr)
        self._num_tokens, self._max_length = num_tokens, max_length

    @property
    def lengths(self) -> tuple[int, ...]:
        """Number of tokens of each event, as it stands in the offsets now.

        Raises
        ------
        ValueError
            While a CUDA graph is captured, which cannot wait for an answer.
        """
        if self.ptr.is_cuda and torch.cuda.is_current_stream_capturing():
            raise ValueError(
                "this attention needs the lengths of events as numbers, which a CUDA graph does "
                "not have; use attention native, varlen, flash or xformers without special masks"
            )
        return _checked(self.ptr.diff().tolist())

    @property
    def num_tokens(self) -> int:
        """Number of tokens T of all events."""
        return self._num_tokens

    @property
    def max_length(self) -> int:
        """Limit on the length of an event."""
        return self._max_length

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BoundedPacking) and self.ptr is other.ptr

    def __hash__(self) -> int:
        return id(self.ptr)

    def __repr__(self) -> str:
        return (
            f"BoundedPacking({self.num_events} events, {self.num_tokens} tokens, "
            f"at most {self.max_length} each)"
        )

    def to(self, device: torch.device | str) -> BoundedPacking:
        """The same packing with its offsets on ``device``."""
        ptr = self.ptr.to(device, non_blocking=True)
        return BoundedPacking(ptr, self.num_tokens, self.max_length)

    def pin_memory(self) -> BoundedPacking:
        """The same packing with its offsets where a GPU can fetch them by itself."""
        return BoundedPacking(self.ptr.pin_memory(), self.num_tokens, self.max_length)

    def _longer(self, count: int, ptr: Tensor) -> BoundedPacking:
        return BoundedPacking(
            ptr, self.num_tokens + count * self.num_events, self.max_length + count
        )
