"""L-GATr-slim as a network of weaver-core, likewise."""

from functools import partial

from torch import nn

from experiments.models.lgatr_slim import SlimTagger
from experiments.models.symmetry import SymmetryBreaking
from experiments.models.weaver import WeaverTagger
from lgatr import LGATrSlim


def get_model(data_config, **options):
    """The network and what weaver asks about it; options of the command change its size."""
    network = partial(
        LGATrSlim,
        num_blocks=options.pop("num_blocks", 12),
        hidden_v_channels=options.pop("hidden_v_channels", 32),
        hidden_s_channels=options.pop("hidden_s_channels", 96),
        num_heads=options.pop("num_heads", 8),
        mlp_ratio=options.pop("mlp_ratio", 4),
    )
    references = SymmetryBreaking(
        "lightlike", add_time_spurion=True, beam_mirror=True, place="tokens"
    )
    return WeaverTagger.of(SlimTagger, data_config, network, references, **options)


def get_loss(data_config, **options):
    """Cross entropy of the classes."""
    return nn.CrossEntropyLoss()
