"""L-GATr as a network of weaver-core: ``weaver --network-config examples/weaver/lgatr.py ...``."""

from functools import partial

from torch import nn

from experiments.models.lgatr import LGATrTagger
from experiments.models.symmetry import SymmetryBreaking
from experiments.models.weaver import WeaverTagger
from lgatr import LGATr


def get_model(data_config, **options):
    """The network and what weaver asks about it; options of the command change its size."""
    network = partial(
        LGATr,
        num_blocks=options.pop("num_blocks", 12),
        hidden_mv_channels=options.pop("hidden_mv_channels", 16),
        hidden_s_channels=options.pop("hidden_s_channels", 32),
        attention={"num_heads": options.pop("num_heads", 8)},
        mlp={},
    )
    references = SymmetryBreaking(
        "xyplane", add_time_spurion=True, beam_mirror=True, place="tokens"
    )
    return WeaverTagger.of(LGATrTagger, data_config, network, references, **options)


def get_loss(data_config, **options):
    """Cross entropy of the classes."""
    return nn.CrossEntropyLoss()
