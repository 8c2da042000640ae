"""What may attend to what, and how scores are changed: independent of any backend."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from lgatr.attention.packing import Packing


@dataclass(frozen=True)
class AttentionSpec:
    """One description of an attention pattern; each backend lowers it once per forward pass.

    Parameters
    ----------
    packing
        Events of a packed batch (block-diagonal attention); None for dense batches.
    kv_packing
        Events of the keys and values where they differ from the queries' (cross-attention): event
        i of the queries attends to event i of the keys. None means ``packing``.
    mask
        Dense mask for dense batches: boolean with True where attention is allowed, or float to
        be added to the scores; broadcasts to ``(..., heads, items_out, items_in)``.
    causal
        Whether a token attends only to itself and to earlier tokens of its event.
    dropout
        Probability with which attention weights are dropped.
    scale
        Factor on the scores; None means one over the square root of the head width.
    """

    packing: Packing | None = None
    kv_packing: Packing | None = None
    mask: Tensor | None = None
    causal: bool = False
    dropout: float = 0.0
    scale: float | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"attention dropout must be in [0, 1), not {self.dropout}")
        if self.packing is not None and self.mask is not None:
            raise ValueError("a packed batch takes no dense mask; its packing is the mask")
        if self.kv_packing is not None:
            if self.packing is None:
                raise ValueError("kv_packing needs packing, the events of the queries")
            if self.kv_packing.num_events != self.packing.num_events:
                raise ValueError(
                    f"queries come from {self.packing.num_events} events, keys from "
                    f"{self.kv_packing.num_events}; there must be one for each"
                )
            if self.causal:
                raise ValueError("causal attention needs queries and keys of the same events")

    @property
    def key_packing(self) -> Packing | None:
        """Events of the keys and values."""
        return self.packing if self.kv_packing is None else self.kv_packing

    def features(self) -> frozenset[str]:
        """Names of the capabilities that a backend needs to run this."""
        wanted = {
            "packed": self.packing is not None,
            "cross": self.kv_packing is not None,
            "dense": self.packing is None,
            "mask": self.mask is not None,
            "causal": self.causal,
            "dropout": self.dropout > 0.0,
            "scale": self.scale is not None,
        }
        return frozenset(name for name, needed in wanted.items() if needed)
