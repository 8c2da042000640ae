"""Tables of runs beside each other and beside published figures, as Markdown or LaTeX."""

from __future__ import annotations

import hashlib
import math
import statistics
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from experiments.errors import UserError
from experiments.metrics.ensemble import ensemble_metrics
from experiments.metrics.headline import Headline, headline
from experiments.report.headings import heading
from experiments.report.published import published, value_with_error
from experiments.saved_runs import run_directory
from experiments.saved_runs.metrics_file import read_metrics
from experiments.saved_runs.same_data import Identity, read_identity
from experiments.saved_runs.saved_config import load_config

_SEEDS = ("seed", "random_state")
_IGNORED = (*_SEEDS, "run_dir", "ckpt_path", "logger", "paths", "plots")
_SHOWN = 3  # options in a row's name


@dataclass(frozen=True)
class Run:
    """A finished run."""

    name: str
    task: str
    setup: Mapping[str, Any]
    results: dict[str, Any]
    folder: Path | None = None
    task_options: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None

    @classmethod
    def read(cls, folder: Path) -> Run:
        """Read a run from its directory.

        Raises
        ------
        UserError
            If it is not the directory of a finished run.
        """
        config, metrics = folder / run_directory.CONFIG, folder / "metrics.json"
        if not (config.is_file() and metrics.is_file()):
            kept = sorted(folder.glob("metrics_*_steps.json"))
            earlier = f"; it trains longer than for the results in {kept[-1].name}" if kept else ""
            raise UserError(
                f"{folder}: no finished run; it lacks {config.name} or {metrics.name}{earlier}"
            )
        if (folder / run_directory.SPEC).is_file():  # runs of earlier versions have none
            run_directory.read_spec(folder)
        # Nothing is built from it, so models of any package are allowed.
        cfg: Any = OmegaConf.to_container(load_config(folder, ("model",), build=False))
        target = str(cfg["model"].get("_target_")).rpartition(".")[2]
        results = read_metrics(metrics)
        name, task = f"{cfg.get('name')}, {target}", str(cfg.get("published"))
        setup = dict(_options(cfg, str(cfg.get("run_dir"))))
        noted = read_identity(folder)
        if noted is not None:  # other jets at the same path make another setup
            setup["data.path"] = f"{setup.get('data.path')} ({_short_digest(noted)})"
        return cls(name, task, setup, results, folder, cfg.get("task") or {}, cfg.get("seed"))


def _short_digest(identity: Identity) -> str:
    """Enough of the jets' digests to tell samples apart."""
    text = repr(sorted(identity.items()))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _options(value: Any, run_dir: str, name: str = "") -> Iterator[tuple[str, Any]]:
    """All options by full names, except seeds and what depends on the run directory."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key not in _IGNORED:
                yield from _options(inner, run_dir, f"{name}.{key}" if name else str(key))
    elif not (isinstance(value, str) and value.startswith(run_dir)):
        yield name, value


def _digits(error: float) -> int:
    """Decimals that show an error with two significant digits."""
    return max(0, 1 - math.floor(math.log10(error))) if error > 0 else 4


def mean_and_spread(values: Sequence[float]) -> str:
    """Format ``mean±standard deviation`` with significant digits."""
    mean, spread = statistics.mean(values), statistics.stdev(values)
    if spread == 0:  # the same few background jets passed
        return f"{mean:.4g}±0"
    digits = min(_digits(spread), 5)
    return f"{mean:.{digits}f}±{spread:.{digits}f}"


def _cell(runs: list[Run], column: str) -> str:
    found = [run.results.get(column) for run in runs]
    if len(runs) == 1:
        return value_with_error(runs[0].results, column)
    if any(value is None for value in found):
        return "–"
    return mean_and_spread([float(v) for v in found if v is not None])


def _ensemble(group: list[Run], name: str, columns: Sequence[str]) -> list[str]:
    folders = [run.folder for run in group if run.folder is not None]
    found = ensemble_metrics(folders, group[0].task_options)
    cells = [value_with_error(found, column) for column in columns]
    return [f"{name}, ensemble", str(len(group)), *cells]


def rows(runs: list[Run], columns: Sequence[str], ensembles: bool = False) -> list[list[str]]:
    """Rows of a table: one for each setup, and one for its ensemble if wanted."""
    groups: list[list[Run]] = []
    for run in runs:
        same = next((group for group in groups if group[0].setup == run.setup), None)
        if same is None:
            groups.append([run])
        else:
            same.append(run)
    found = []
    for group, name in zip(groups, _names([group[0] for group in groups]), strict=True):
        _check_seeds(group)
        cells = [_cell(group, column) for column in columns]
        found.append([name, str(len(group)), *cells])
        if ensembles and len(group) > 1:
            found.append(_ensemble(group, name, columns))
    return found


def _check_seeds(group: list[Run]) -> None:
    """Refuse copies of one run in a row, and warn of other runs that have the same seed.

    Their spread would be smaller than that between seeds.
    """
    for place, run in enumerate(group):
        for other in group[:place]:
            if run.seed is None or run.seed != other.seed:
                continue
            if run.results == other.results:
                raise UserError(f"{run.folder}: a copy of {other.folder}; name each run once")
            else:
                warnings.warn(
                    f"{run.folder} and {other.folder} have the same seed, {run.seed}; their spread "
                    "is not that between seeds",
                    stacklevel=2,
                )


def _names(firsts: list[Run]) -> list[str]:
    """Names of rows, with options that distinguish rows of the same name."""
    found = []
    for run in firsts:
        namesakes = [other.setup for other in firsts if other.name == run.name]
        # Copies by reference, as of attention in a model, are left out: the shortest name wins.
        options = sorted({option for setup in namesakes for option in setup}, key=_depth)
        shown: dict[str, str] = {}
        for option in options:
            values = [setup.get(option) for setup in namesakes]
            if any(value != values[0] for value in values):
                text = f"{option}={run.setup.get(option)}"
                shown.setdefault(option.rpartition(".")[2], text)
        more = ["…"] if len(shown) > _SHOWN else []
        found.append(", ".join([run.name, *list(shown.values())[:_SHOWN], *more]))
    return found


def _depth(option: str) -> tuple[int, str]:
    return option.count("."), option


def data_efficiency(runs: list[Run]) -> tuple[Headline, dict[str, dict[int, list[float]]]]:
    """The figure of merit of all seeds, by network and number of training jets."""
    curves: dict[str, dict[int, list[float]]] = {}
    figure = headline(runs[0].results)
    for run in runs:
        points = curves.setdefault(run.name, {})
        jets, value = run.results.get("jets", {}).get("train"), run.results.get(figure.name)
        if not jets or value is None:
            raise UserError(
                f"{run.folder}: lacks {figure.name} or jets.train, which a curve is made of"
            )
        points.setdefault(jets, []).append(value)
    return figure, curves


def markdown(header: list[str], body: list[list[str]]) -> str:
    """Format a table in Markdown."""
    lines = [header, ["---"] * len(header), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


_LATEX = {
    **{c: f"\\{c}" for c in "%_&#${}"},
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "±": r"$\pm$", "ε": r"$\epsilon$", "–": "--", "→": r"$\to$",
}  # fmt: skip


def latex(header: list[str], body: list[list[str]]) -> str:
    """Format a table in LaTeX with booktabs."""

    def line(cells: list[str]) -> str:
        plain = ("".join(_LATEX.get(c, c) for c in cell) for cell in cells)
        return " & ".join(plain) + r" \\"

    columns = "l" + "r" * (len(header) - 1)
    rule = [r"\begin{tabular}{" + columns + "}", r"\toprule", line(header), r"\midrule"]
    return "\n".join([*rule, *(line(cells) for cells in body), r"\bottomrule", r"\end{tabular}"])


def table(
    runs: list[Run], with_published: bool, ensembles: bool = False
) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the table of runs.

    Raises
    ------
    UserError
        If the runs are of different tasks.
    """
    tasks = sorted({run.task for run in runs})
    if len(tasks) > 1:
        raise UserError(f"runs of different tasks ({', '.join(tasks)}) have no common table")
    entry = published(tasks[0])
    columns = entry.get("columns", headline(runs[0].results).columns)
    header = ["network", "runs", *(heading(column) for column in columns)]
    body = rows(runs, columns, ensembles)
    if with_published:
        for row in entry.get("rows", []):
            mark = "*" if row["equivariant"] else ""
            body.append([f"{row['network']}{mark} (published)", "", *row["values"]])
    return header, body
