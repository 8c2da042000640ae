"""Headings of metrics."""

from __future__ import annotations

import pytest

from experiments.report.headings import heading, html_heading


@pytest.mark.parametrize(
    ("column", "plain", "in_html"),
    [
        ("auc", "AUC", "AUC"),
        ("classifier_auc", "classifier AUC", "classifier AUC"),
        ("mse_times_1e5", "MSE × 1e5", "MSE × 10<sup>5</sup>"),
        ("rejection_at_0.5", "1/ε_B (0.5)", "1/ε<sub>B</sub> (ε<sub>S</sub> = 0.5)"),
        ("rejection_Hbb_at_0.5", "1/ε_B Hbb (0.5)", "1/ε<sub>B</sub> Hbb (ε<sub>S</sub> = 0.5)"),
        ("<b>_&", "<b> &", "&lt;b&gt; &amp;"),
    ],
)
def test_headings(column, plain, in_html):
    assert heading(column) == plain and html_heading(column) == in_html
