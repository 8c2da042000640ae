"""L-GATr-slim as a tagger."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from experiments.data.batch import DataSpec
from experiments.models.symmetry import SymmetryBreaking
from experiments.models.token_tagger import NetworkTagger, heads_of
from experiments.options.attention_choice import AttentionChoice
from experiments.options.markers import Supplied
from lgatr import LGATrSlim


class SlimTagger(NetworkTagger):
    """L-GATr-slim with a global token whose scalars are the logits.

    Parameters
    ----------
    spec, attention, momentum_unit
        As of :class:`~experiments.models.lgatr.LGATrTagger`.
    symmetry_breaking
        Reference vectors; the xy plane is a bivector and not available.
    network
        Makes an :class:`lgatr.LGATrSlim` from its numbers of input and output channels.
    """

    def __init__(
        self,
        spec: DataSpec,
        network: Annotated[
            Callable[..., LGATrSlim],
            Supplied("in_v_channels", "in_s_channels", "out_v_channels", "out_s_channels"),
        ],
        symmetry_breaking: SymmetryBreaking,
        attention: AttentionChoice,
        momentum_unit: float,
    ) -> None:
        references = symmetry_breaking.vectors()
        as_channels = symmetry_breaking.place == "channels"
        super().__init__(references, as_channels, attention, momentum_unit)
        self.network = network(
            in_v_channels=1 + (len(references) if as_channels else 0),
            in_s_channels=spec.num_scalars + 1,
            out_v_channels=0,
            out_s_channels=spec.num_outputs,
        )
        self.add_pairs(heads_of(self.network), symmetric=True)
