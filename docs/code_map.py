"""The map of the code, drawn from its imports: ``python docs/code_map.py`` writes ``code_map.svg``.

Rooms are packages. A room stands above all rooms that it imports; an arrow that follows from
others (A to C, where A imports B and B imports C) is left out. Rooms that import each other are an
error.
"""

from __future__ import annotations

import ast
import html
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TARGET = Path(__file__).with_suffix(".svg")
CODE = ("lgatr", "experiments", "data")

# Packages whose parts are rooms of their own; all others are one room with everything below them.
OPENED = {"lgatr", "lgatr.ops", "lgatr.attention", "lgatr.layers", "experiments"}
# Their files beside the rooms are one room.
DOORS = {"lgatr.attention"}

_BOX, _GAP, _ROW = (148, 26), 14, 62
_COLOURS = {"run": "#444444", "lgatr": "#2f6690", "experiments": "#8a4f7d", "data": "#4d7c4a"}


@cache
def modules() -> dict[str, Path]:
    """All modules of the project by name."""
    found = {"run": ROOT / "run.py"}
    for package in CODE:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def room_of(module: str) -> str:
    """The room of a module: the package below the last opened one, or the file itself."""
    parts = module.split(".")
    if module.rpartition(".")[0] in DOORS and modules()[module].name != "__init__.py":
        return module.rpartition(".")[0]
    for i in range(1, len(parts)):
        if ".".join(parts[:i]) not in OPENED:
            return ".".join(parts[:i])
    return module


@cache
def _top(module: str, known: frozenset[str]) -> str | None:
    """The longest known module that ``module`` starts with: names may be attributes."""
    while module and module not in known:
        module = module.rpartition(".")[0]
    return module or None


def imports(path: Path, known: frozenset[str]) -> set[str]:
    """Modules of the project that a file imports, wherever in the file."""
    found: set[str | None] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {_top(alias.name, known) for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {_top(f"{node.module}.{alias.name}", known) for alias in node.names}
    return {module for module in found if module is not None}


def reexports(path: Path) -> bool:
    """Whether a file only imports names and lists them."""
    body = ast.parse(path.read_text()).body[1:]  # after its docstring
    return all(
        isinstance(node, (ast.Import, ast.ImportFrom))
        or (isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__")
        for node in body
    )


def rooms() -> dict[str, set[str]]:
    """Each room, and the rooms that it imports.

    The faces of opened packages (``lgatr/__init__.py`` and the like), command lines
    (``__main__.py``) and import paths of the reference library are no rooms: they collect.
    """
    files = modules()
    known = frozenset(files)
    collecting = {
        m for m, path in files.items() if m in OPENED or m.endswith("__main__") or reexports(path)
    }
    graph: dict[str, set[str]] = {}
    for module, path in files.items():
        room = room_of(module)
        if module in collecting:
            continue
        targets = {room_of(m) for m in imports(path, known) - collecting}
        graph.setdefault(room, set()).update(targets - {room})
    for targets in list(graph.values()):
        for target in targets:
            graph.setdefault(target, set())
    return graph


def levels(graph: dict[str, set[str]]) -> dict[str, int]:
    """How many rooms lie below each: the length of the longest way down."""
    found: dict[str, int] = {}

    def level(room: str, above: tuple[str, ...]) -> int:
        if room in above:
            circle = " imports ".join((*above[above.index(room) :], room))
            raise SystemExit(f"rooms import each other: {circle}")
        if room not in found:
            below = [level(target, (*above, room)) for target in sorted(graph[room])]
            found[room] = 1 + max(below, default=-1)
        return found[room]

    for room in sorted(graph):
        level(room, ())
    return found


def arrows(graph: dict[str, set[str]]) -> list[tuple[str, str]]:
    """Imports that do not follow from others."""

    @cache
    def reachable(room: str) -> frozenset[str]:
        return (
            frozenset().union(*({t} | reachable(t) for t in graph[room]))
            if graph[room]
            else (frozenset())
        )

    return sorted(
        (room, target)
        for room, targets in graph.items()
        for target in targets
        if not any(target in reachable(other) for other in targets - {target})
    )


def drawing() -> str:
    """The map as SVG."""
    graph = rooms()
    height = levels(graph)
    rows: dict[int, list[str]] = {}
    for room in sorted(graph):
        rows.setdefault(height[room], []).append(room)
    top, (w, h) = max(rows), _BOX
    width = max(len(row) for row in rows.values()) * (w + _GAP) + _GAP
    place = {
        room: ((width - len(row) * (w + _GAP) + _GAP) / 2 + i * (w + _GAP), (top - y) * _ROW + 10)
        for y, row in rows.items()
        for i, room in enumerate(row)
    }
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {(top + 1) * _ROW}" '
        'font-family="sans-serif" font-size="11">',
        "<title>Rooms of the code: each stands above all rooms that it imports</title>",
    ]
    for room, target in arrows(graph):
        (x, y), (u, v) = place[room], place[target]
        lines.append(
            f'<path d="M{x + w / 2:.0f} {y + h:.0f} C{x + w / 2:.0f} {y + h + 22:.0f} '
            f'{u + w / 2:.0f} {v - 22:.0f} {u + w / 2:.0f} {v:.0f}" fill="none" stroke="#999"/>'
        )
    for room, (x, y) in sorted(place.items()):
        colour = _COLOURS[room.split(".")[0]]
        lines.append(
            f'<rect x="{x:.0f}" y="{y:.0f}" width="{w}" height="{h}" rx="4" fill="{colour}"/>'
            f'<text x="{x + w / 2:.0f}" y="{y + 17:.0f}" fill="white" text-anchor="middle">'
            f"{html.escape(room)}</text>"
        )
    return "\n".join([*lines, "</svg>", ""])


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        if not TARGET.is_file() or TARGET.read_text() != drawing():
            sys.exit("docs/code_map.svg is out of date; run: python docs/code_map.py")
    else:
        TARGET.write_text(drawing())
