"""Policy as tests: imports point down, the library needs torch alone, configs stay unwritten."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

from support import ROOT

LIBRARY = sorted((ROOT / "lgatr").rglob("*.py"))
CODE = [*LIBRARY, *(ROOT / "experiments").rglob("*.py"), *(ROOT / "data").rglob("*.py")]

# A storey may import from the storeys before it, and from itself.
STOREYS = ["algebra", "layout", "ops", "attention", "primitives", "layers", "nets"]
FREE = {"utils", "interface"}
OPTIONAL = ("xformers", "safetensors", "numpy", "h5py", "hdf5plugin")


def imports(path: Path) -> list[tuple[str, bool]]:
    """Imported modules, and whether the import stands at the top of the file."""
    tree = ast.parse(path.read_text())
    top = {id(node) for node in tree.body}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, id(node) in top) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append((node.module, id(node) in top))
    return found


def test_library_imports_torch_alone_and_points_down():
    for path in LIBRARY:
        parts = path.relative_to(ROOT / "lgatr").with_suffix("").parts
        for name, at_top in imports(path):
            package, *rest = name.split(".")
            if package != "lgatr":
                assert (
                    package == "torch"
                    or package in sys.stdlib_module_names
                    or (package in OPTIONAL and not at_top)
                    # These files are imported where they are used.
                    or (package == "triton" and (not at_top or parts[-1].startswith("triton")))
                ), f"{path} imports {name}"
            # A command line stands on top of all storeys: nothing imports it.
            elif parts[0] in STOREYS and parts[-1] != "__main__" and rest and rest[0] not in FREE:
                assert STOREYS.index(rest[0]) <= STOREYS.index(parts[0]), f"{name} in {path}"


def module_graph(modules: dict[str, Path]) -> dict[str, set[str]]:
    """For each module those that it imports, at the top or inside of functions."""
    graph: dict[str, set[str]] = {name: set() for name in modules}
    for name, path in modules.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                graph[name].update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                # Of a package either a module in it, or what its __init__ has.
                inner = {f"{node.module}.{alias.name}" for alias in node.names}
                graph[name] |= {m if m in modules else node.module for m in inner}
    return {name: found & modules.keys() for name, found in graph.items()}


def test_no_circles_of_imports():
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in LIBRARY
    }
    graph = module_graph(modules)
    assert "lgatr.attention.graph_break" in graph["lgatr.attention.prepare"]  # in a function
    graphlib.TopologicalSorter(graph).prepare()  # CycleError names the circle


def test_library_does_not_know_the_experiments():
    for path in (ROOT / "data").rglob("*.py"):
        assert not any(name.split(".")[0] in ("experiments", "lgatr") for name, _ in imports(path))


def test_nobody_writes_to_a_config():
    for path in CODE:
        for node in ast.walk(ast.parse(path.read_text())):
            targets = node.targets if isinstance(node, ast.Assign) else []
            for target in targets:
                while isinstance(target, (ast.Attribute, ast.Subscript)):
                    target = target.value
                    assert not (isinstance(target, ast.Name) and target.id in ("cfg", "config")), (
                        path
                    )


# Rooms of the experiments, in the order in which they may import each other; commands come last.
ROOMS = [
    "errors", "options", "cli", "data", "flows", "saved_runs", "models", "metrics", "plots",
    "tasks", "report", "taggers", "training",
]  # fmt: skip
EXPERIMENTS = sorted((ROOT / "experiments").rglob("*.py"))


def module_of(path: Path) -> tuple[str, ...]:
    """The parts of a module's full name."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


def imported_experiments(path: Path) -> set[tuple[str, ...]]:
    """Modules of the experiments that a file imports, wherever in the file."""
    known = {module_of(file) for file in EXPERIMENTS}
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [tuple(alias.name.split(".")) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            home = tuple(node.module.split("."))
            names = [n if (n := (*home, alias.name)) in known else home for alias in node.names]
        else:
            continue
        found |= {name for name in names if name[0] == "experiments" and len(name) > 1}
    return found


def test_experiments_import_from_earlier_rooms():
    for path in EXPERIMENTS:
        room = module_of(path)[1:2]
        if not room:
            continue
        is_command = room[0] not in ROOMS
        for name in imported_experiments(path):
            if is_command:
                assert name[1] in ROOMS or path.stem == "keep", f"{name} in a command"
            else:
                assert name[1] in ROOMS, f"{path} imports the command {name}"
                assert ROOMS.index(name[1]) <= ROOMS.index(room[0]), f"{name} in {path}"


def test_experiments_have_no_circle_of_imports():
    graph = {module_of(path): imported_experiments(path) for path in EXPERIMENTS}
    TopologicalSorter(graph).prepare()  # raises CycleError


def test_import_is_silent_and_light():
    code = (
        "import sys, lgatr\n"
        "heavy = {'xformers', 'triton', 'flash_attn', 'hydra', 'lightning', 'torch._inductor'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, cwd=ROOT
    )
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_the_map_of_the_code_is_drawn_from_its_imports():
    command = [sys.executable, str(ROOT / "docs" / "code_map.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def is_kernel(node: ast.FunctionDef) -> bool:
    """Whether a function is one of Triton's language."""
    return any("triton.jit" in ast.unparse(decorator) for decorator in node.decorator_list)


def test_files_and_functions_stay_short():
    """350 lines for a file, 60 for a function without its docstring.

    Kernels in Triton are counted out: each is one program on the GPU.
    """
    long = []
    for path in [*CODE, *(ROOT / "benchmarks").rglob("*.py"), ROOT / "run.py"]:
        text = path.read_text()
        if len(text.splitlines()) > 350:
            long.append(str(path))
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and not is_kernel(node):
                first = node.body[0]
                docstring = 0
                if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                    docstring = first.end_lineno - first.lineno + 1
                if node.end_lineno - node.lineno + 1 - docstring > 60:
                    long.append(f"{path}: {node.name}")
    assert not long
