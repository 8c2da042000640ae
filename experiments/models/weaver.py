"""Our taggers as networks of weaver-core (``weaver --network-config``).

Legend: B jets, P particles of the longest, padded; F features, K classes, T particles of all jets.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

# Counting operations, weaver replaces functions of torch for good, and parts of torch that are
# imported only later do not know what to do with its replacements.
import torch._dynamo
from torch import Tensor, nn

from experiments.data.batch import DataSpec, EventBatch
from experiments.errors import UserError
from experiments.models.symmetry import SymmetryBreaking
from experiments.options.attention_choice import AttentionChoice
from lgatr import Packing

VECTORS, MASK, FEATURES = "pf_vectors", "pf_mask", "pf_features"
"""Inputs of weaver's data configuration, as of Particle Transformer: (px, py, pz, energy) in GeV,
1 for particles and 0 for padding, and scalar features."""


class WeaverTagger(nn.Module):
    """A tagger that takes zero-padded inputs, and packs them.

    Parameters
    ----------
    tagger
        Maps batches to logits.
    inputs
        Names of the inputs, in the order in which they come.
    classes
        Number of classes.
    """

    def __init__(self, tagger: nn.Module, inputs: tuple[str, ...], classes: int) -> None:
        super().__init__()
        self.tagger, self.inputs, self.classes = tagger, inputs, classes

    @classmethod
    def of(
        cls,
        kind: Callable[..., nn.Module],
        data_config: Any,
        network: Callable[..., nn.Module],
        references: SymmetryBreaking,
        momentum_unit: float = 20.0,
        attention: str = "auto",
        **unknown: Any,
    ) -> tuple[WeaverTagger, dict[str, Any]]:
        """The network and the description that weaver asks for.

        Parameters
        ----------
        kind
            Class of the tagger.
        data_config
            Of weaver.
        network, references, momentum_unit, attention
            As of :class:`~experiments.models.lgatr.LGATrTagger`; attention by name.
        unknown
            Options that there are none of.

        Raises
        ------
        UserError
            If an input is missing, or an option is unknown.
        """
        if unknown:
            raise UserError(f"--network-option: there is no {', '.join(unknown)}")
        inputs = tuple(data_config.input_names)
        if missing := [name for name in (VECTORS, MASK) if name not in inputs]:
            raise UserError(
                f"the data configuration has no input {', '.join(missing)}; this network takes "
                f"{VECTORS} (px, py, pz, energy), {MASK} and, if it is there, {FEATURES}"
            )
        features = len(data_config.input_dicts[FEATURES]) if FEATURES in inputs else 0
        names = tuple(f"class {i}" for i in range(len(data_config.label_value)))
        tagger = kind(
            spec=DataSpec(features, names),
            network=network,
            symmetry_breaking=references,
            attention=AttentionChoice(attention, strict=False),
            momentum_unit=momentum_unit,
        )
        info = {
            "input_names": list(inputs),
            "input_shapes": {k: (1, *s[1:]) for k, s in data_config.input_shapes.items()},
            "output_names": ["softmax"],
            "dynamic_axes": {name: {0: "N", 2: "n"} for name in inputs} | {"softmax": {0: "N"}},
        }
        return cls(tagger, inputs, len(names)), info

    def forward(self, *inputs: Tensor) -> Tensor:
        """Logits ``(B, K)`` of inputs ``(B, channels, P)`` each."""
        given = dict(zip(self.inputs, inputs, strict=True))
        real = given[MASK][:, 0] > 0
        vectors = given[VECTORS].transpose(1, 2)[real]
        momenta = vectors.float()[:, [3, 0, 1, 2]]
        scalars = momenta.new_zeros(len(momenta), 0)
        if FEATURES in given:
            scalars = given[FEATURES].transpose(1, 2)[real].float()
        nothing = momenta.new_zeros(len(real), dtype=torch.int64)
        batch = EventBatch(momenta, scalars, Packing.from_mask(real), nothing)
        logits: Tensor = self.tagger(batch)
        # weaver has an output for each of two classes as well.
        return torch.cat([torch.zeros_like(logits), logits], 1) if self.classes == 2 else logits
