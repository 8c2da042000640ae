"""The documentation is run: every Python block of every page, and every notebook."""

from __future__ import annotations

import re

import numpy as np
import pytest

from support import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
# These train for a minute; the notebook of them is kept with its results.
TRAINED = ("tutorial", "train_a_tagger")
SLOW = {*TRAINED, "deployment", "which_symmetry", "layers_in_your_model"}
LEAST_AUC = 0.95
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
# Files of a package, which tests/docs/test_extending.py writes and runs.
FILE = "# my_jets/"


def parameters(paths):
    """Paths, of which those that train or compare networks are slow."""
    paths = list(paths)
    mark = {path.stem: pytest.mark.slow(minutes=path.stem in TRAINED) for path in paths}
    slow = {path: [mark[path.stem]] if path.stem in SLOW else [] for path in paths}
    return [pytest.param(path, marks=marks, id=path.name) for path, marks in slow.items()]


def auc_in(notebook):
    """The AUC that a notebook printed, and the number of its plots."""
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    text = "".join(out.get("text", "") for out in outputs)
    plots = sum("image/png" in out.get("data", {}) for out in outputs)
    return float(re.search(r"AUC (0\.\d+) on 2000 jets", text)[1]), plots


@pytest.mark.parametrize("page", parameters(PAGES))
@pytest.mark.filterwarnings("ignore:.*lru_cache")
def test_python_blocks_run(page, monkeypatch, capsys):
    blocks = [block for block in BLOCK.findall(page.read_text()) if not block.startswith(FILE)]
    monkeypatch.chdir(ROOT)
    names = {"__name__": page.stem}
    for number, block in enumerate(blocks):
        name = f"{page.name}, block {number}"
        exec(compile(block, name, "exec", dont_inherit=True), names)
    if page.stem in TRAINED:
        assert names["auc"] >= LEAST_AUC and np.mean(names["losses"][-50:]) < 0.3


# Of what trains, the tutorial is run, which is the same code; `make docs` runs all notebooks.
@pytest.mark.parametrize("notebook", parameters(n for n in NOTEBOOKS if n.stem not in TRAINED))
def test_notebooks_run(notebook, monkeypatch):
    # Small tensors: threads waiting for each other on a busy machine would cost minutes.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    nbformat = pytest.importorskip("nbformat")
    client = pytest.importorskip("nbclient")
    content = nbformat.read(notebook, as_version=4)
    assert not any(cell.get("outputs") for cell in content.cells), "commit without outputs"
    client.NotebookClient(
        content, timeout=900, kernel_name="python3", resources={"metadata": {"path": str(ROOT)}}
    ).execute()


def test_the_notebook_shows_what_it_learned():
    nbformat = pytest.importorskip("nbformat")
    auc, plots = auc_in(nbformat.read(ROOT / "examples" / "train_a_tagger.ipynb", as_version=4))
    assert auc >= LEAST_AUC and plots == 2


def test_notebook_and_tutorial_are_one_story():
    """Network and training are the same code; only the plots are in one of them."""
    nbformat = pytest.importorskip("nbformat")
    notebook = nbformat.read(ROOT / "examples" / "train_a_tagger.ipynb", as_version=4)
    cells = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    page = "\n".join(BLOCK.findall((ROOT / "docs" / "tutorial.md").read_text()))
    for start, end in (("class Tagger", "\n\n\n"), ("BATCH, EPOCHS", "print(f")):
        ours, theirs = (text[text.index(start) :].split(end)[0] for text in (page, cells))
        assert ours == theirs


def test_there_are_notebooks():
    assert len(NOTEBOOKS) == 3


def test_every_module_is_in_the_reference():
    pages = "\n".join(path.read_text() for path in (ROOT / "docs" / "api").glob("*.rst"))
    listed = set(re.findall(r"automodule:: (\S+)", pages))
    for module in listed:
        __import__(module)
    public = {
        path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
        for folder in ("nets", "interface", "testing", "attention")
        for path in (ROOT / "lgatr" / folder).rglob("*.py")
        if not path.name.startswith("_")
    }
    internal = {
        "lgatr.interface.components",
        *(f"lgatr.attention.{name}" for name in ("graph_break", "pages", "xformers_shapes")),
        *(f"lgatr.attention.pattern.{name}" for name in (
            "continued", "kernel_keywords", "number_checks", "shapes",
        )),
        *(f"lgatr.attention.backends.native.{name}" for name in (
            "ranges", "score_terms", "triton_tiles", "triton_launch",
        )),
        # Paths of the reference library, to what stands elsewhere here.
        "lgatr.nets.lgatr_slim", "lgatr.nets.conditional_lgatr_slim",
    }  # fmt: skip
    assert public - internal <= listed
