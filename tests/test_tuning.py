"""Launch options: the fastest, measured once, remembered, and never at the cost of a run."""

from __future__ import annotations

import json

import pytest
import torch

from lgatr.kernels.tuning import BY_TOKEN, Tuned, by_block, path

CANDIDATES = ({"BLOCK": 256}, {"BLOCK": 128}, {"BLOCK": 512})
SECONDS = {256: 3.0, 128: 1.0, 512: 2.0}


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
    assert json.loads(path().read_text()) == {"gpu: test 16, 32": {"BLOCK": 128}}
    assert make().options("gpu", (16, 32), launched.append) == {"BLOCK": 128}
    assert len(launched) == 3


@pytest.mark.parametrize("text", ["no json", "[]", '{"gpu: test 16": {"BLOCK": 7}}'])
def test_a_file_that_makes_no_sense_is_measured_over(measured, text):
    make, launched = measured
    path().write_text(text)
    assert make().options("gpu", (16,), launched.append) == {"BLOCK": 128}
    assert json.loads(path().read_text())["gpu: test 16"] == {"BLOCK": 128}


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


def test_candidates_for_which_the_gpu_has_no_room(measured):
    make, launched = measured

    def launch(options):
        launched.append(options)
        if options["BLOCK"] == 128:
            raise OutOfResources

    assert make().options("gpu", (16,), launch) == {"BLOCK": 512}

    def first_fails(options):
        raise OutOfResources

    with pytest.raises(OutOfResources):
        make().options("gpu", (17,), first_fails)

    def wrong(options):
        if options["BLOCK"] == 128:
            raise ValueError("a mistake in the kernel")
        launched.append(options)

    with pytest.raises(ValueError, match="a mistake"):
        make().options("gpu", (18,), wrong)


def test_nothing_is_measured_while_a_graph_is_captured(measured):
    make, launched = measured
    kernel = make()
    assert kernel.options("gpu", (16,), launched.append, measure=False) == {"BLOCK": 256}
    assert not launched
    kernel.options("gpu", (16,), launched.append)
    assert kernel.options("gpu", (16,), launched.append, measure=False) == {"BLOCK": 128}
    assert len(launched) == 3


def test_candidates():
    assert by_block(256, 128)[0] == {"BLOCK": 256, "num_warps": 4}
    assert len(by_block(256, 128)) == 4
    assert BY_TOKEN[0] == {"num_warps": 4}
