"""The report: what it says first, in which order, and what it does not compare."""

from __future__ import annotations

import re

import pytest

from experiments.report.captions import CAPTIONS, caption, ordered
from experiments.report.html import is_comparable, write_report

ABOUT = {
    "model": "SlimTagger", "name": "toptagging",
    "question": "How well does it tell signal from background",
}  # fmt: skip
RESULTS = {
    "auc": 0.98765, "auc_error": 0.0012, "accuracy": 0.94321, "accuracy_error": 0.0051,
    "rejection_at_0.5": 412.3, "rejection_at_0.5_error": 57.1, "rejection_at_0.3": None,
    "rejection_at_0.3_lower_limit_95": 300.0, "jets": {"train": 7200, "val": 800, "test": 2000},
    "steps": 1700, "parameters": 54321, "training_seconds": 66.0, "device": "cpu",
    "symmetry": "SO(2)", "data": "toptagging_mini.h5", "loss": 0.123456789, "odd": "<script>",
}  # fmt: skip


@pytest.fixture
def page(tmp_path):
    (tmp_path / "plots").mkdir()
    for name in ("zebra", "loss", "learning", "calibration", "scores", "roc", "response_mass"):
        (tmp_path / "plots" / f"{name}.png").write_bytes(name.encode())
    write_report(tmp_path, "toptagging", RESULTS, "option: <b>", ABOUT, tmp_path / "plots")
    return (tmp_path / "report.html").read_text()


def test_the_question_comes_first(page):
    text = re.sub(r"<style>.*?</style>", "", page)
    first = text.index(
        "How well does it tell signal from background on 2,000 that it has not seen?"
    )
    assert text.index("<h1>SlimTagger: toptagging</h1>") < first < text.index("0.9877±0.0012")
    assert text.index("0.9877±0.0012") < text.index("Rejection against efficiency")
    assert "412±57" in page and "&gt; 300 (95 %)" in page.replace("> 300", "&gt; 300")


def test_plots_stand_in_order_with_captions(page):
    titles = re.findall(r"<figcaption><strong>(.*?)\.</strong>", page)
    assert titles == [
        "Rejection against efficiency", "Scores", "Predicted over true values: mass", "Calibration",
        "Learning", "Zebra",
    ]  # fmt: skip


def test_toys_are_not_beside_published_rows(page):
    assert "This run was tested on 2,000 events" in page and "They do not compare" in page
    assert ".9423±.0002" in page and "<tr class='ours'>" not in page
    assert not is_comparable("toptagging", RESULTS)


def test_runs_on_the_public_data_are(tmp_path):
    results = {**RESULTS, "jets": {"train": 1_200_000, "val": 400_000, "test": 400_000}}
    write_report(tmp_path, "toptagging", results, "", ABOUT, tmp_path / "plots")
    text = (tmp_path / "report.html").read_text()
    assert "<tr class='ours'><td>this run</td>" in text and "do not compare" not in text
    write_report(tmp_path, "unknown", results, "", ABOUT, tmp_path / "plots")
    assert "Beside published figures" not in (tmp_path / "report.html").read_text()


def test_it_is_one_file_that_runs_nothing(page):
    assert "<script" not in page and "src='http" not in page and "<link" not in page
    assert "option: &lt;b&gt;" in page and "viewport" in page and "prefers-color-scheme" in page


def test_names_of_plots():
    assert ordered(["loss"]) == ["loss"] and ordered(["loss", "learning"]) == ["learning"]
    assert caption("response_top_mass")[0] == "Predicted over true values: top mass"
    assert caption("something_else") == ("Something else", "")
    assert all(title and text for title, text in CAPTIONS.values())
