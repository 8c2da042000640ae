"""Launch options: the fastest, measured once, remembered, and never at the cost of a run."""

from __future__ import annotations

import json
import zlib

import pytest
import torch

from lgatr.ops._runtime.tuning import Tuned, path

CANDIDATES = ({"BLOCK": 256}, {"BLOCK": 128}, {"BLOCK": 512})
SECONDS = {256: 3.0, 128: 1.0, 512: 2.0, 64: 0.5}
TRIED = f"{zlib.crc32(repr(CANDIDATES).encode()):08x}"


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """A kernel with a timer of its own, and the list of what was launched."""
    monkeypatch.setenv("LGATR_CACHE", str(tmp_path))
    launched = []

    def timer(run):
        run()
        return SECONDS[launched[-1]["BLOCK"]]

    return lambda: Tuned("test", CANDIDATES, timer), launched


def test_the_fastest_is_measured_once_for_each_size(measured):
    make, launched = measured
    kernel = make()
    assert kernel.options("gpu", (16,), launched.append) == {"BLOCK": 128}
    assert len(launched) == 3
    kernel.options("gpu", (16,), launched.append)
    assert len(launched) == 3
    kernel.options("gpu", (32,), launched.append)
    kernel.options("another gpu", (16,), launched.append)
    assert len(launched) == 9


def test_remembered_by_the_next_process(measured):
    make, launched = measured
    make().options("gpu", (16, 32), launched.append)
    assert json.loads(path().read_text()) == {f"gpu: test 16, 32 of {TRIED}": {"BLOCK": 128}}
    assert make().options("gpu", (16, 32), launched.append) == {"BLOCK": 128}
    assert len(launched) == 3


def test_a_new_candidate_is_tried(measured):
    """Which is faster than what was remembered before."""
    make, launched = measured
    kernel = make()
    kernel.options("gpu", (16,), launched.append)
    for later in (kernel, make()):
        later.candidates = (*CANDIDATES, {"BLOCK": 64})
        assert later.options("gpu", (16,), launched.append) == {"BLOCK": 64}


ODD = f'{{"gpu: test 16 of {TRIED}": {{"BLOCK": 7}}}}'


@pytest.mark.parametrize("text", ["no json", "[]", ODD])
def test_a_file_that_makes_no_sense_is_measured_over(measured, text):
    make, launched = measured
    path().write_text(text)
    assert make().options("gpu", (16,), launched.append) == {"BLOCK": 128}
    assert json.loads(path().read_text())[f"gpu: test 16 of {TRIED}"] == {"BLOCK": 128}


def test_a_folder_that_cannot_be_written(measured, monkeypatch, tmp_path):
    make, launched = measured
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LGATR_CACHE", str(tmp_path / "file"))
    assert make().options("gpu", (16,), launched.append) == {"BLOCK": 128}


def test_first_candidate_where_nothing_can_be_timed(measured, monkeypatch):
    make, launched = measured
    kernel, seen = make(), []
    kernel(torch.zeros(1), (16,), seen.append)
    assert seen == [{"BLOCK": 256}] and not launched
    monkeypatch.setenv("LGATR_TUNE", "0")
    assert kernel.options("gpu", (16,), launched.append) == {"BLOCK": 256} and not launched


class OutOfResources(Exception):
    """As Triton's: shared memory or registers do not suffice."""


def test_a_single_candidate_needs_no_measurement(measured):
    launched = []
    kernel = Tuned("test", CANDIDATES[:1], timer=None)
    assert kernel.options("gpu", (16,), launched.append) == CANDIDATES[0]
    assert not launched
