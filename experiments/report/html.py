"""Report of a run in one self-contained HTML file."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data.atomic import write_text
from experiments.metrics.headline import headline
from experiments.report.captions import caption, ordered
from experiments.report.headings import html_heading
from experiments.report.page import folded, page, row, section, table
from experiments.report.published import published, value_with_error
from experiments.saved_runs import run_directory

_SAME_DATA = 0.9
"""Share of the public test sample that a run was tested on, from which figures compare."""


def _top(about: Mapping[str, str], results: Mapping[str, Any]) -> str:
    """The question that the report answers, and the answer in figures."""
    columns = [c for c in headline(results).columns if c in results]
    cards = [
        f"<div class='figure'><span class='faint'>{html_heading(c)}</span>"
        f"<b>{value_with_error(dict(results), c)}</b></div>"
        for c in columns
    ]
    tested = results.get("jets", {}).get("test")
    count = f" on {tested:,} that it has not seen" if tested else ""
    return (
        f"<h1>{html.escape(about['model'])}: {html.escape(about['name'])}</h1>"
        f"<p class='question'>{html.escape(about['question'])}{count}?</p>"
        f"<div class='figures'>{''.join(cards)}</div>"
        f"<p class='faint'>{html.escape(_facts(results))}</p>"
    )


def _facts(results: Mapping[str, Any]) -> str:
    """One sentence about the training."""
    jets, parts = results.get("jets", {}), []
    if jets.get("train"):
        parts.append(f"{jets['train']:,} events of training")
    for name, unit in (("steps", "steps"), ("parameters", "parameters")):
        if results.get(name):
            parts.append(f"{results[name]:,} {unit}")
    if results.get("training_seconds"):
        parts.append(f"{results['training_seconds'] / 60:.1f} minutes on {results.get('device')}")
    if results.get("symmetry"):
        parts.append(f"symmetry {results['symmetry']}")
    return "; ".join(parts)


def is_comparable(task: str, results: Mapping[str, Any]) -> bool:
    """Whether a run was tested on as many events as the published figures are of."""
    wanted: int | None = published(task).get("test_events")
    tested = results.get("jets", {}).get("test") or 0
    return wanted is not None and tested >= _SAME_DATA * wanted


def _comparison(task: str, results: dict[str, Any]) -> str:
    known = published(task)
    if not known:
        return ""
    columns = known["columns"]
    head = row(["network", *(html_heading(c) for c in columns)], "th")
    rows = [
        row(
            [
                html.escape(entry["network"]) + ("*" if entry["equivariant"] else ""),
                *entry["values"],
            ]
        )
        for entry in known.get("rows", [])
    ]
    note = (
        f"<p class='faint'>{html.escape(known['title'])}; {html.escape(known['sources'])}. "
        "* Lorentz-equivariant. Errors of published rows are spreads over trainings, errors of "
        "this run are statistical.</p>"
    )
    if is_comparable(task, results):
        ours = row(["this run", *(value_with_error(results, c) for c in columns)], css="ours")
        return table([head, ours, *rows]) + note
    tested = results.get("jets", {}).get("test") or 0
    warning = (
        f"<p class='toy'>This run was tested on {tested:,} events of "
        f"<code>{html.escape(str(results.get('data')))}</code>, and published figures are of "
        f"{known['test_events']:,} events of the public data set. They do not compare, and stand "
        "below by themselves.</p>"
        if "test_events" in known
        else ""
    )
    return warning + folded(
        "Published figures, on the public data set", table([head, *rows]) + note
    )


def _plots(images: Path) -> str:
    files = {image.stem: image for image in images.glob("*.png")}
    figures = []
    for stem in ordered(files):
        title, text = caption(stem)
        data = base64.b64encode(files[stem].read_bytes()).decode()
        figures.append(
            f"<figure><img alt='{html.escape(title)}' src='data:image/png;base64,{data}'>"
            f"<figcaption><strong>{html.escape(title)}.</strong> {html.escape(text)}</figcaption>"
            "</figure>"
        )
    return f"<div class='plots'>{''.join(figures)}</div>"


def _symmetry(directory: Path) -> str:
    file = directory / run_directory.SYMMETRY
    if not file.is_file():
        return ""
    meaning = "Momenta are transformed, features computed anew; deviations of the logits."
    content = html.escape(file.read_text(encoding="utf-8"))
    return f"<p>{meaning}</p><pre>{content}</pre>"


def _all_results(results: dict[str, Any]) -> str:
    rows = []
    for key, value in results.items():
        if key.endswith(("_error", "_lower_limit_95")):
            continue
        if isinstance(value, float):
            value = value_with_error(results, key) if f"{key}_error" in results else f"{value:.4g}"
        rows.append(row([html.escape(key), html.escape(str(value))]))
    return table(rows)


def write_report(
    directory: Path,
    task: str,
    results: dict[str, Any],
    config: str,
    about: Mapping[str, str],
    images: Path | None,
) -> None:
    """Write ``report.html`` with metrics, plots and the configuration of a run.

    Parameters
    ----------
    directory
        Run directory.
    task
        Name of the published table to show.
    results
        Content of ``metrics.json``.
    config
        Resolved configuration as YAML.
    about
        ``model`` and ``name`` of the run, and the ``question`` that it answers, without its end.
    images
        Directory whose PNG files are embedded, or None.
    """
    content = page(
        f"{about['model']}: {about['name']}",
        [
            _top(about, results),
            "" if images is None else _plots(images),
            section("Beside published figures", _comparison(task, results)),
            section("Symmetry of the trained network", _symmetry(directory)),
            section("All results", folded("Show them", _all_results(results))),
            section("Configuration", folded("Show it", f"<pre>{html.escape(config)}</pre>")),
        ],
    )
    write_text(directory / run_directory.REPORT, content)
