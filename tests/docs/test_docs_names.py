"""What the documentation names exists: commands, options, modules, files."""

from __future__ import annotations

import importlib.util
import re
import shlex
from functools import cache
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from experiments.cli import CONFIG_DIR
from support import ROOT
from support.slow import every

PACKAGES = ("lgatr", "experiments", "data", "benchmarks")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
SUFFIXES = {".py", ".md", ".yaml", ".rst", ".ipynb", ".cpp", ".h"}
SOURCES = [
    *PAGES,
    *(
        path
        for folder in (*PACKAGES, "config", "examples", "docs/api")
        for path in sorted((ROOT / folder).rglob("*"))
        if path.suffix in SUFFIXES
    ),
    ROOT / "run.py",
    ROOT / "Makefile",
]
# What docs/extending.md builds is tested where it is built.
ELSEWHERE = re.compile(r"my_jets|by_event|deep_sets|\bNAME\b")
FILE = re.compile(r"(?<![\w/.<~-])((?:lgatr|experiments|tests|examples|config|docs)/[\w./-]+\.\w+)")
DOTTED = re.compile(rf"`(?:[^`<\n]*<)?~?\.?((?:{'|'.join(PACKAGES)})\.[\w.]*\w)(?:>|\(\))?`")
OPTION = re.compile(r"`((?:[a-z_]+\.)+[a-z_]+)(?:=[^`]*)?`")
MODULE = re.compile(rf"python -m ((?:{'|'.join(PACKAGES)})[\w.]*\w)")
RUN = re.compile(r"run\.py ((?:[^`\n#$\"]|\$\{)*)")
EXTRA = re.compile(r"-e '?\.\[([\w,]+)\]")
ENTRY_POINT_GROUPS = {"lgatr.configs", "lgatr.formats", "lgatr.attention_backends"}


def found(pattern: re.Pattern[str], paths: list[Path]) -> list[tuple[str, str]]:
    """What a pattern finds, and the file that has it."""
    names: dict[str, str] = {}
    for path in paths:
        text = path.read_text().replace("\\\n", " ").replace("\\n", "\n")
        for name in pattern.findall(text):
            if not ELSEWHERE.search(name):
                names.setdefault(name.strip(), str(path.relative_to(ROOT)))
    assert names, "a pattern that finds nothing tests nothing"
    return sorted(names.items())


@cache
def composed(*overrides: str) -> OmegaConf:
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return compose("run", overrides=list(overrides))


def is_option(name: str) -> bool:
    """Whether some configuration has this option."""
    group = name.split(".")[0]
    choices = sorted(path.stem for path in (CONFIG_DIR / group).glob("*.yaml"))
    overrides = [(), *((f"{group}={choice}",) for choice in choices), ("data=streamed",)]
    missing = object()
    return any(
        OmegaConf.select(composed(*o), name, default=missing, throw_on_missing=False) is not missing
        for o in overrides
    )


def resolves(name: str) -> bool:
    """Whether a dotted name is a module, or something in one."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            thing = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            if hasattr(thing, part):
                thing = getattr(thing, part)
            elif part in getattr(thing, "__annotations__", {}):
                return True
            else:
                return False
        return True
    return False


@pytest.mark.parametrize(("name", "where"), found(FILE, SOURCES))
def test_files(name, where):
    generated = name.startswith(("docs/_build", "docs/_generated"))
    assert generated or (ROOT / name).exists(), f"{where} names {name}"


@pytest.mark.parametrize(("name", "where"), found(DOTTED, SOURCES))
def test_dotted_names(name, where):
    known = name in ENTRY_POINT_GROUPS or resolves(name) or is_option(name)
    assert known, f"{where} names {name}"


@pytest.mark.parametrize(("name", "where"), found(OPTION, PAGES))
def test_options(name, where):
    if not (CONFIG_DIR / name.split(".")[0]).is_dir() or Path(name).suffix[1:] in (
        "json", "yaml", "safetensors", "onnx", "py", "md", "h5", "txt", "html", "cpp",
    ):  # fmt: skip
        return
    assert is_option(name) or resolves(name), f"{where} names {name}"


@pytest.mark.parametrize(("name", "where"), found(MODULE, SOURCES))
def test_modules_that_are_run(name, where):
    spec = importlib.util.find_spec(name)
    assert spec is not None, f"{where} runs {name}"
    if spec.submodule_search_locations:
        assert importlib.util.find_spec(f"{name}.__main__"), f"{where} runs {name}"
    else:
        assert "__main__" in Path(spec.origin).read_text(), f"{where} runs {name}"


@pytest.mark.parametrize(("line", "where"), every(6, found(RUN, SOURCES)))
def test_run_lines_compose(line, where):
    words = [w for w in shlex.split(line) if "=" in w and "..." not in w and "NAME" not in w]
    # Of a sweep, its first run.
    words = [w if "[" in w else w.split(",")[0] for w in words]
    own = ("ckpt_path=", "resume=", "hydra.launcher.")
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        compose("run", overrides=[w for w in words if not w.startswith(own)])


@pytest.mark.parametrize(("names", "where"), found(EXTRA, SOURCES))
def test_extras(names, where):
    extras = (ROOT / "pyproject.toml").read_text().split("[project.optional-dependencies]")[1]
    known = set(re.findall(r"^(\w+) = \[", extras.split("\n[")[0], re.MULTILINE))
    assert set(names.split(",")) <= known, f"{where} names {names}"


def test_hints_install_this_package():
    """``lgatr`` on PyPI is the reference library."""
    for path in SOURCES:
        assert not re.search(r"pip install[^\n`]*['\" ]lgatr\b", path.read_text()), path
