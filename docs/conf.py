"""Sphinx: the site built by ``make docs``."""

import os
import subprocess
import sys
from importlib.metadata import version as package_version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
# xFormers tells on import which kernels it lacks; notebooks should not.
os.environ.setdefault("XFORMERS_IGNORE_FLASH_VERSION_CHECK", "1")
# Notebooks work on small tensors: threads waiting for each other on a busy machine cost minutes.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# The tables of attention.md come from the backends themselves, those of reproduce.md from the runs.
_generated = Path(__file__).parent / "_generated"
_generated.mkdir(exist_ok=True)
for _name, _command in (
    ("backends", ["lgatr.attention", "--markdown"]),
    ("reproduce", ["experiments.reproduce", "--curves", str(_generated)]),
):
    _table = subprocess.run(
        [sys.executable, "-m", *_command],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).resolve().parents[1],
    )
    (_generated / f"{_name}.md").write_text(_table.stdout)

project = "lgatr"
author = "The lgatr developers"
version = release = package_version("lgatr")

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
]
exclude_patterns = [
    "_build",
    "_generated",
    "examples/attention_backend",
    "examples/*/README.md",
    "**.ipynb_checkpoints",
]
myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3

# Notebooks are run each time the site is built; an error in one fails the build.
nb_execution_mode = "force"
nb_execution_timeout = 900
nb_execution_raise_on_error = True
nb_merge_streams = True

napoleon_google_docstring = False
napoleon_use_rtype = False
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_class_signature = "mixed"
autoclass_content = "class"
add_module_names = False
python_use_unqualified_type_names = True

html_theme = "furo"
html_title = f"lgatr {release}"
html_static_path: list[str] = []
