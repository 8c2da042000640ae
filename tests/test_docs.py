"""The documentation is run: every Python block of every page, and every notebook."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
# Files of a package, which tests/test_extending.py writes and runs.
FILE = "# my_jets/"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
@pytest.mark.filterwarnings("ignore:.*lru_cache")
def test_python_blocks_run(page, monkeypatch, capsys):
    blocks = [block for block in BLOCK.findall(page.read_text()) if not block.startswith(FILE)]
    monkeypatch.chdir(ROOT)
    names = {"__name__": page.stem}
    for number, block in enumerate(blocks):
        name = f"{page.name}, block {number}"
        exec(compile(block, name, "exec", dont_inherit=True), names)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run(notebook, monkeypatch):
    # Small tensors: threads waiting for each other on a busy machine would cost minutes.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    nbformat = pytest.importorskip("nbformat")
    client = pytest.importorskip("nbclient")
    content = nbformat.read(notebook, as_version=4)
    assert not any(cell.get("outputs") for cell in content.cells), "commit without outputs"
    client.NotebookClient(
        content, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(ROOT)}}
    ).execute()


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
    internal = {"lgatr.interface.components", "lgatr.nets.slim_base"}
    assert public - internal <= listed
