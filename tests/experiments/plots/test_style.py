"""In which formats figures are written, and what drawing on trial finds."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pytest

from experiments.plots.style import new_figure, save, saved_as


def drawn(folder, title):
    figure, axes = new_figure()
    axes.plot([1, 2])
    axes.set_title(title)
    save(figure, folder, "plot")


@pytest.mark.parametrize("formats", [("svg",), ("png", "pdf")])
def test_formats(tmp_path, formats):
    with saved_as(formats):
        drawn(tmp_path, "a")
    assert {file.suffix[1:] for file in tmp_path.iterdir()} == {*formats}
    drawn(tmp_path / "usual", "a")
    assert {file.suffix for file in (tmp_path / "usual").iterdir()} == {".png", ".pdf"}


def test_without_formats_mistakes_are_found_and_nothing_is_written(tmp_path):
    with saved_as(()):
        drawn(tmp_path / "new", r"$\alpha$")
        with pytest.raises(ValueError, match="Unknown symbol"):
            drawn(tmp_path / "new", r"$\nonsense$")
    assert not (tmp_path / "new").exists()
    plt.close("all")
