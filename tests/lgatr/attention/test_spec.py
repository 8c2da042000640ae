"""What a pattern says of itself."""

from __future__ import annotations

import pytest
import torch

from lgatr.attention import AttentionSpec, Causal, DenseBias, DenseMask, Packing, SoftCap


@pytest.mark.parametrize(
    ("spec", "dims", "fits"),
    [
        (AttentionSpec(), 4, True),
        (AttentionSpec(mask=Causal()), 4, True),
        (AttentionSpec(mask=DenseMask(torch.ones(1, 1, 5, 5, dtype=torch.bool))), 5, True),
        (AttentionSpec(mask=DenseMask(torch.ones(2, 1, 5, 5, dtype=torch.bool))), 4, True),
        (AttentionSpec(mask=DenseMask(torch.ones(2, 1, 5, 5, dtype=torch.bool))), 5, False),
        (AttentionSpec(score=DenseBias(torch.ones(1, 1, 5, 5))), 5, True),
        (AttentionSpec(score=SoftCap(2.0)), 4, False),
        (AttentionSpec(packing=Packing.from_lengths([2, 3]), mask=Causal()), 3, True),
        (AttentionSpec(packing=Packing.from_lengths([2, 3]), dropout=0.1), 3, False),
    ],
)
def test_what_fits_one_graph(spec, dims, fits):
    assert spec.fits_one_graph(dims) is fits
