"""Embedding into multivectors, extracting from them, and spurions."""

from __future__ import annotations

import pytest
import torch

from lgatr import (
    embed_axialvector,
    embed_bivector,
    embed_pseudoscalar,
    embed_scalar,
    embed_vector,
    extract_axialvector,
    extract_bivector,
    extract_pseudoscalar,
    extract_scalar,
    extract_vector,
    get_num_spurions,
    get_spurions,
)


@pytest.mark.parametrize(
    ("embed", "extract", "size", "first"),
    [
        (embed_scalar, extract_scalar, 1, 0),
        (embed_vector, extract_vector, 4, 1),
        (embed_bivector, extract_bivector, 6, 5),
        (embed_axialvector, extract_axialvector, 4, 11),
        (embed_pseudoscalar, extract_pseudoscalar, 1, 15),
    ],
)
def test_interface(embed, extract, size, first):
    x = torch.randn(3, 2, size)
    mv = embed(x)
    assert torch.equal(extract(mv), x)
    outside = [i for i in range(16) if not first <= i < first + size]
    assert not mv[..., outside].any()
    with pytest.raises(ValueError, match="components"):
        embed(torch.randn(3, size + 1))
    with pytest.raises(ValueError, match="multivectors"):
        extract(torch.randn(3, 15))


SQUARES = {"lightlike": 0.0, "timelike": 1.0, "spacelike": -1.0}


@pytest.mark.parametrize("mirror", [True, False])
@pytest.mark.parametrize("time", [True, False])
@pytest.mark.parametrize("beam", ["lightlike", "timelike", "spacelike", "xyplane", None])
def test_spurions(beam, time, mirror):
    spurions = get_spurions(beam, time, mirror)
    beams = 0 if beam is None else 1 if beam == "xyplane" or not mirror else 2
    assert len(spurions) == get_num_spurions(beam, time, mirror) == beams + time
    vectors = extract_vector(spurions[:beams])
    if beam in SQUARES:
        square = vectors[:, 0] ** 2 - (vectors[:, 1:] ** 2).sum(-1)
        torch.testing.assert_close(square, torch.full((beams,), SQUARES[beam]))
        assert vectors[:, 3].tolist() == [1.0, -1.0][:beams]
    if beam == "xyplane":
        assert spurions[0].nonzero().flatten().tolist() == [8]  # e12
    if time:
        assert extract_vector(spurions[-1]).tolist() == [1, 0, 0, 0]


def test_unknown_spurion():
    with pytest.raises(ValueError, match="lightlike"):
        get_spurions("diagonal")
