"""L-GATr as a tagger."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from experiments.data.batch import DataSpec
from experiments.models.symmetry import SymmetryBreaking
from experiments.models.token_tagger import NetworkTagger, heads_of
from experiments.options.attention_choice import AttentionChoice
from experiments.options.markers import Supplied
from lgatr import LGATr, embed_vector


class LGATrTagger(NetworkTagger):
    """L-GATr with a global token whose scalar components are the logits.

    Parameters
    ----------
    spec
        Specification of the data set.
    network
        Makes an :class:`lgatr.LGATr` from its numbers of input and output channels.
    symmetry_breaking
        Reference multivectors.
    attention
        Attention backend.
    momentum_unit
        Four-momenta are divided by this many GeV.
    """

    embed = staticmethod(embed_vector)

    def __init__(
        self,
        spec: DataSpec,
        network: Annotated[
            Callable[..., LGATr],
            Supplied("in_mv_channels", "in_s_channels", "out_mv_channels", "out_s_channels"),
        ],
        symmetry_breaking: SymmetryBreaking,
        attention: AttentionChoice,
        momentum_unit: float,
    ) -> None:
        references = symmetry_breaking.multivectors()
        as_channels = symmetry_breaking.place == "channels"
        super().__init__(references, as_channels, attention, momentum_unit)
        self.network = network(
            in_mv_channels=1 + (len(references) if as_channels else 0),
            in_s_channels=spec.num_scalars + 1,
            out_mv_channels=spec.num_outputs,
            out_s_channels=0,
        )
        self.add_pairs(heads_of(self.network), symmetric=True)
