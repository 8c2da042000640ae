"""What may attend to what, and how scores are changed: independent of any backend."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lgatr.attention.pattern.key_storage import KeyStorage
from lgatr.attention.pattern.masks import Causal, DenseMask, Mask
from lgatr.attention.pattern.masks.base import Movable, fields_of
from lgatr.attention.pattern.masks.block_mask import BlockMaskMod
from lgatr.attention.pattern.number_checks import real_number
from lgatr.attention.pattern.packing import BoundedPacking, Packing
from lgatr.attention.pattern.scores import DenseBias, ScoreMod
from lgatr.attention.pattern.shapes import Layout, check_shapes
from lgatr.utils.lengths import check_token_count

MAX_SEQLENS = ("max_seqlen_q", "max_seqlen_k")
"""Keywords that say how long events of queries and of keys may be."""
_STORAGE_FEATURES = {"PaddedKeys": "padded_keys", "GappyKeys": "gappy_keys"}


def parts_of(pattern: Movable | None) -> Iterator[Movable]:
    """A mask or score modification and all its parts, recursively."""
    if pattern is None:
        return
    yield pattern
    for field in fields_of(pattern):
        value = getattr(pattern, field.name)
        for part in value if isinstance(value, tuple) else (value,):
            if isinstance(part, Movable):
                yield from parts_of(part)


@dataclass(frozen=True, eq=False)
class AttentionSpec:
    """One description of an attention pattern; each backend lowers it once per forward pass.

    Parameters
    ----------
    packing
        Events of a packed batch (block-diagonal attention); None for dense batches.
    kv_packing
        Events of the keys and values where they differ from the queries' (cross-attention): event
        i of the queries attends to event i of the keys. None means ``packing``. A
        :class:`~lgatr.attention.pattern.key_storage.KeyStorage` says that the keys do not lie end
        to end.
    mask
        Which keys a query may attend to; a boolean tensor means :class:`DenseMask`, a float tensor
        a :class:`DenseBias`.
    score
        How scores are changed before the softmax.
    dropout
        Probability with which attention weights are dropped.
    scale
        Factor on the scores; None means one over the square root of the head width.
    """

    packing: Packing | None = None
    kv_packing: Packing | KeyStorage | None = None
    mask: Mask | None = None
    score: ScoreMod | None = None
    dropout: float = 0.0
    scale: float | None = None

    def __post_init__(self) -> None:
        if isinstance(self.mask, Tensor):
            self._read_tensor(self.mask)
        self._check_kinds()
        if self.mask is None and self.score is None:
            dense = False
        else:
            dense = self._has_dense_parts()  # of every pattern: refuses parts that are no dataclass
        if self.packing is not None and dense:
            raise ValueError(
                "a packed batch takes no dense mask (DenseMask, DenseBias, block_mask); its "
                "packing is the mask, which MaskMod(function) narrows"
            )
        if self.kv_packing is not None:
            if self.packing is None:
                raise ValueError("kv_packing needs packing, the events of the queries")
            if self.kv_packing.num_events != self.packing.num_events:
                raise ValueError(
                    f"queries come from {self.packing.num_events} events, keys from "
                    f"{self.kv_packing.num_events}; there must be one for each"
                )

    def _check_kinds(self) -> None:
        if not (self.mask is None or isinstance(self.mask, Mask)):
            raise TypeError(f"mask is a Mask or a tensor, not {type(self.mask).__name__}")
        if not (self.score is None or isinstance(self.score, ScoreMod)):
            raise TypeError(f"score is a ScoreMod, not {type(self.score).__name__}")
        if type(self.dropout) is not float or self.dropout:
            object.__setattr__(self, "dropout", real_number(self.dropout, "dropout_p"))
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout_p, attention dropout, must be in [0, 1), not {self.dropout}")
        if self.scale is not None:
            if isinstance(self.scale, Tensor):
                raise TypeError("scale is a number; what is learned multiplies the queries")
            object.__setattr__(self, "scale", real_number(self.scale, "scale of attention"))

    def _has_dense_parts(self) -> bool:
        """Whether some part has one entry for each score of a dense batch."""
        kinds = (DenseMask, DenseBias, BlockMaskMod)
        parts = (*parts_of(self.mask), *parts_of(self.score))
        return any(isinstance(part, kinds) for part in parts)

    def _read_tensor(self, table: Tensor) -> None:
        if not (table.dtype == torch.bool or table.is_floating_point()):
            raise TypeError(
                "a tensor given as mask, attn_mask or attn_bias is boolean (True where attention "
                "is allowed) or of a "
                f"floating-point format (added to the scores), not {table.dtype}"
            )
        if table.dtype == torch.bool:
            object.__setattr__(self, "mask", DenseMask(table))
        else:
            bias = DenseBias(table)
            object.__setattr__(self, "mask", None)
            object.__setattr__(self, "score", bias if self.score is None else self.score >> bias)

    @property
    def key_packing(self) -> Packing | None:
        """Events of the keys and values, as if they lay end to end."""
        if isinstance(self.kv_packing, KeyStorage):
            return self.kv_packing.compact()
        return self.packing if self.kv_packing is None else self.kv_packing

    @property
    def storage(self) -> KeyStorage | None:
        """Where the keys lie, if not end to end."""
        return self.kv_packing if isinstance(self.kv_packing, KeyStorage) else None

    @property
    def causal(self) -> bool:
        """Whether the mask is plain causality from the first query and key."""
        return isinstance(self.mask, Causal) and not self.mask.bottom_right

    def fits_one_graph(self, dims: int = 4) -> bool:
        """Whether a traced program, where lengths of events are data, can hold the pattern.

        Parameters
        ----------
        dims
            Dimensions of the queries.
        """
        plain = self.mask is None or self.causal
        if self.packing is not None:
            return plain and self.score is None and self.dropout == 0.0
        table: Tensor | None = None
        if isinstance(self.mask, DenseMask) and self.score is None:
            table = self.mask.table
        elif isinstance(self.score, DenseBias) and self.mask is None:
            table = self.score.table
        if table is None:
            return plain and self.score is None
        # Events of several batch dimensions may be counted through.
        return dims <= 4 or table.dim() != 4 or table.shape[0] == 1

    def features(self) -> frozenset[str]:
        """Names of the capabilities that a backend needs to run this."""
        names = {"dense" if self.packing is None else "packed"}
        if self.kv_packing is not None:
            names.add("cross")
        if self.dropout > 0.0:
            names.add("dropout")
        if self.scale is not None:
            names.add("scale")
        if isinstance(self.kv_packing, KeyStorage):
            names.add(_STORAGE_FEATURES.get(type(self.kv_packing).__name__, "paged_keys"))
        for part in (self.mask, self.score):
            if part is not None:
                names |= part.features()
        return frozenset(names)

    def check(self, q: torch.Size, k: torch.Size, v: torch.Size) -> None:
        """Raise ``ValueError`` unless shapes of queries, keys and values fit the pattern."""
        packed = self.packing is not None
        plain = packed and len(q) == 3 and q[1:] == k[1:] and k == v and q[1] > 0 and q[2] > 0
        if not plain:  # or heads are shared, or values have another width
            check_shapes(q, k, v, packed)
        if self.packing is not None:
            if self.storage is not None:
                self.storage.check_keys(k[0])
            if torch.compiler.is_compiling():
                return  # lengths are data; the operator compares them with the tokens
            self.check_tokens(q[0], k[0])
        if self.mask is None and self.score is None:
            return  # without a look at the lengths, which may have to be waited for
        if self.packing is None:
            # A traced program may have any number of events, all of one length.
            events = 1 if torch.compiler.is_compiling() else q[:-3].numel()
            layout = Layout((q[-3],) * events, (k[-3],) * events, q[-2], tuple(q[:-3]))
        else:
            if isinstance(self.packing, BoundedPacking) and self.packing.ptr.is_cuda:
                return  # a graph that is captured cannot wait for its lengths
            keys = self.packing if self.kv_packing is None else self.kv_packing
            layout = Layout(self.packing.lengths, keys.lengths, q[-2])
        for part in (self.mask, self.score):
            if part is not None:
                part.check(layout)

    def check_tokens(self, queries: int, keys: int) -> None:
        """Raise ``ValueError`` unless a packed pattern is made for so many tokens."""
        assert self.packing is not None
        described = self.packing.num_tokens
        if described != queries:
            check_token_count(described, queries)
        if isinstance(self.kv_packing, KeyStorage):
            self.kv_packing.check_size(keys)
            return
        if self.kv_packing is not None:
            described = self.kv_packing.num_tokens
        if described != keys:
            check_token_count(described, keys)

    def check_max_seqlens(self, limits: Mapping[str, int]) -> None:
        """Raise ``ValueError`` if an event is longer than ``max_seqlen_q`` or ``_k`` says.

        Parameters
        ----------
        limits
            By keyword, one of :data:`MAX_SEQLENS`.
        """
        for name, packing in zip(MAX_SEQLENS, (self.packing, self.key_packing), strict=True):
            if name not in limits:
                continue
            if packing is None:
                raise ValueError(
                    f"{name} goes with packed events; give packing, or cu_seqlens_q and "
                    "cu_seqlens_k"
                )
            if torch.compiler.is_compiling():
                raise ValueError(
                    f"{name} is compared with lengths, which an exported program does not know; "
                    "leave it out, it is not needed"
                )
            if packing.max_length > limits[name]:
                raise ValueError(
                    f"{name}={limits[name]} is below the {packing.max_length} tokens of the "
                    "longest event; leave it out, it is not needed"
                )
