"""Families of taggers that one number scales: width, depth and heads (arXiv:2608.02735).

Size 0 has some 10^6 parameters; each step up doubles the width and multiplies the depth by the
square root of two. Learning rate and weight decay follow in ``experiment=jetclass_guide``.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated

from experiments.data.batch import DataSpec
from experiments.models.baselines.lloca import LLoCaTransformer
from experiments.models.baselines.part import ParticleTransformer
from experiments.models.lgatr import LGATrTagger
from experiments.models.lgatr_slim import SlimTagger
from experiments.models.symmetry import SymmetryBreaking
from experiments.models.transformer import Transformer
from experiments.options.attention_choice import AttentionChoice
from experiments.options.markers import Positive, Range
from lgatr import LGATr, LGATrSlim

Size = Annotated[float, Range(-4, 6)]
_BLOCKS = 3


def blocks(size: float) -> int:
    """Number of blocks."""
    return round(_BLOCKS * 2 ** ((size + 3) / 2))


def heads(size: float) -> int:
    """Number of heads."""
    return round(2 ** (3 + size // 2))


def width(power: int, size: float) -> int:
    """Channels, of which size 0 has two to this power."""
    return round(2 ** (size + power))


class SizedLGATr(LGATrTagger):
    """L-GATr.

    Parameters
    ----------
    spec, symmetry_breaking, attention, momentum_unit
        As of :class:`~experiments.models.lgatr.LGATrTagger`.
    size
        Two to this power times as wide as size 0.
    """

    def __init__(
        self,
        spec: DataSpec,
        size: Size,
        symmetry_breaking: SymmetryBreaking,
        attention: AttentionChoice,
        momentum_unit: Positive,
    ) -> None:
        network = partial(
            LGATr,
            num_blocks=blocks(size),
            hidden_mv_channels=width(4, size),
            hidden_s_channels=width(6, size),
            attention={"num_heads": heads(size), "attn_ratio": 1, "head_scale": False},
            mlp={"mlp_ratio": 2},
            primitives={"subgroup": True},
        )
        super().__init__(spec, network, symmetry_breaking, attention, momentum_unit)


class SizedSlim(SlimTagger):
    """L-GATr-slim; parameters as of :class:`SizedLGATr`."""

    def __init__(
        self,
        spec: DataSpec,
        size: Size,
        symmetry_breaking: SymmetryBreaking,
        attention: AttentionChoice,
        momentum_unit: Positive,
    ) -> None:
        network = partial(
            LGATrSlim,
            num_blocks=blocks(size),
            hidden_v_channels=width(5, size),
            hidden_s_channels=width(7, size),
            num_heads=heads(size),
            mlp_ratio=2,
        )
        super().__init__(spec, network, symmetry_breaking, attention, momentum_unit)


class SizedTransformer(Transformer):
    """A plain transformer; parameters as of :class:`SizedLGATr`."""

    def __init__(
        self, spec: DataSpec, size: Size, attention: AttentionChoice, momentum_unit: Positive
    ) -> None:
        count = heads(size)
        super().__init__(
            spec, blocks(size), count, max(width(7, size) // count, 1), 2, 0.0, attention,
            momentum_unit,
        )  # fmt: skip


class SizedLLoCa(LLoCaTransformer):
    """LLoCa-Transformer; parameters as of :class:`SizedLGATr`."""

    def __init__(
        self,
        spec: DataSpec,
        size: Size,
        symmetry_breaking: SymmetryBreaking,
        attention: AttentionChoice,
        momentum_unit: Positive,
    ) -> None:
        count = heads(size)
        scalars, vectors = (max(round(2 ** (size + n) / count), 1) for n in (6, 4))
        network = {
            "attn_reps": f"{scalars}x0n+{vectors}x1n", "num_blocks": blocks(size),
            "num_heads": count, "mlp_factor": 2,
        }  # fmt: skip
        frames = {"hidden_channels": width(5, size), "num_layers_mlp": 2}
        super().__init__(spec, symmetry_breaking, momentum_unit, frames, network, attention)


class SizedParT(ParticleTransformer):
    """Particle Transformer; its class-token blocks count among its blocks.

    Parameters
    ----------
    spec
        Specification of the data set.
    size
        As of :class:`SizedLGATr`.
    """

    def __init__(self, spec: DataSpec, size: Size) -> None:
        last = 2 if size >= 0 else 1
        super().__init__(
            spec,
            embed_dims=[width(7, size)],
            pair_embed_dims=[width(6, size)] * 3,
            num_heads=heads(size),
            num_layers=blocks(size) - last,
            num_cls_layers=last,
            dropout=0.0,
            fc_params=[],
        )
