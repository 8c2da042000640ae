"""A file that must be refused, in one line."""

from __future__ import annotations

import pytest

from data.errors import DataError
from data.formats import read_jets


def refused(path, match, split="train"):
    with pytest.raises(DataError, match=match) as caught:
        read_jets(path, split)
    text = str(caught.value)
    assert len(text.splitlines()) == 1 and str(path) in text and text.isprintable()
