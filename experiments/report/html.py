"""Report of a run in one self-contained HTML file."""

from __future__ import annotations

import base64
import html
from pathlib import Path
from typing import Any

from data.atomic import write_text
from experiments.report.headline import headline
from experiments.report.published import published, value_with_error
from experiments.saved_runs import run_directory

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; margin: 1rem 0 }
th, td { padding: .25rem .8rem; border-bottom: 1px solid #ddd; text-align: left }
tr.ours { background: #fff3cd; font-weight: 600 }
.plots { display: grid; grid-template-columns: 1fr 1fr; gap: 1rem } img { width: 100% }
pre { background: #f6f6f6; padding: 1rem; overflow-x: auto; font-size: 13px }
"""


def heading(column: str) -> str:
    """HTML heading of a metric: ``rejection_Hbb_at_0.5`` is 1/ε_B of Hbb at ε_S = 0.5."""
    if not column.startswith("rejection_"):
        return {"auc": "AUC", "mse_times_1e5": "MSE × 10<sup>5</sup>"}.get(
            column, html.escape(column)
        )
    name, _, efficiency = column.removeprefix("rejection_").rpartition("at_")
    name = f" {html.escape(name.rstrip('_'))}" if name else ""
    return f"1/ε<sub>B</sub>{name} (ε<sub>S</sub> = {efficiency})"


def _row(cells: list[str], tag: str = "td", css: str = "") -> str:
    inner = "".join(f"<{tag}>{cell}</{tag}>" for cell in cells)
    return f"<tr class='{css}'>{inner}</tr>" if css else f"<tr>{inner}</tr>"


def _comparison(task: str, results: dict[str, Any]) -> str:
    table = published(task)
    columns = table.get("columns", headline(results).columns)
    rows = [_row(["network", *(heading(c) for c in columns)], "th")]
    ours = [value_with_error(results, column) for column in columns]
    rows.append(_row(["this run", *ours], css="ours"))
    for entry in table.get("rows", []):
        name = html.escape(entry["network"]) + ("*" if entry["equivariant"] else "")
        rows.append(_row([name, *entry["values"]]))
    note = ""
    if table:
        note = (
            f"<p>Published: {html.escape(table['title'])}; {html.escape(table['sources'])}. "
            "* Lorentz-equivariant. Errors of published rows are spreads over trainings, errors "
            "of this run are statistical. Figures compare only if the data are the same: this "
            f"run used <code>{html.escape(str(results.get('data')))}</code>.</p>"
        )
    return f"<table>{''.join(rows)}</table>{note}"


def _symmetry(directory: Path) -> str:
    file = directory / run_directory.SYMMETRY
    if not file.is_file():
        return ""
    meaning = "Momenta are transformed, features computed anew; deviations of the logits."
    table = html.escape(file.read_text(encoding="utf-8"))
    return f"<h2>Symmetry of the trained network</h2><p>{meaning}</p><pre>{table}</pre>"


def write_report(directory: Path, task: str, results: dict[str, Any], config: str) -> None:
    """Write ``report.html`` with metrics, plots and the configuration of a run.

    Parameters
    ----------
    directory
        Run directory, whose ``plots`` are embedded.
    task
        Name of the published table to show.
    results
        Content of ``metrics.json``.
    config
        Resolved configuration as YAML.
    """
    plots = []
    for image in sorted((directory / "plots").glob("*.png")):
        data = base64.b64encode(image.read_bytes()).decode()
        plots.append(f"<img alt='{image.stem}' src='data:image/png;base64,{data}'>")
    facts = [
        _row([html.escape(key), html.escape(str(value))])
        for key, value in results.items()
        if not key.endswith(("_error", "_lower_limit_95"))
    ]
    page = (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{html.escape(task)}</title>"
        f"<style>{_STYLE}</style><h1>{html.escape(task)}</h1>{_comparison(task, results)}"
        f"<h2>Plots</h2><div class='plots'>{''.join(plots)}</div>"
        f"<h2>All results</h2><table>{''.join(facts)}</table>{_symmetry(directory)}"
        f"<h2>Configuration</h2><pre>{html.escape(config)}</pre></html>"
    )
    write_text(directory / "report.html", page)
