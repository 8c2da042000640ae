"""The page of a report: its style, which works on narrow screens, in the dark and in print."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

STYLE = """
:root { color-scheme: light dark; --text: #1b1f24; --faint: #5b6470; --line: #d8dde3;
  --page: #fff; --card: #f5f7f9; --ours: #fff3cd }
@media (prefers-color-scheme: dark) { :root { --text: #e6e9ed; --faint: #9aa4af; --line: #3a424b;
  --page: #14181d; --card: #1f252c; --ours: #4d4011 } }
* { box-sizing: border-box }
body { font: 16px/1.55 system-ui, sans-serif; color: var(--text); background: var(--page);
  max-width: 68rem; margin: 0 auto; padding: 1.5rem 1rem 4rem }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .3rem } h2 { margin: 2.5rem 0 .5rem }
.question { font-size: 1.1rem; margin: 0 0 1rem } .faint, figcaption { color: var(--faint) }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .7rem }
.figure { background: var(--card); border-radius: .5rem; padding: .7rem .9rem }
.figure b { display: block; font-size: 1.35rem; font-weight: 600; white-space: nowrap }
.plots { display: grid; gap: 1.5rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)) }
figure { margin: 0 } figcaption { font-size: .9rem } figcaption strong { color: var(--text) }
img { width: 100%; height: auto; background: #fff; border-radius: .4rem }
.wide { overflow-x: auto } table { border-collapse: collapse; margin: .7rem 0 }
th, td { padding: .25rem .8rem; border-bottom: 1px solid var(--line); text-align: left }
tr.ours { background: var(--ours); font-weight: 600 }
.toy { border-left: .3rem solid #d98c00; background: var(--card); padding: .6rem .9rem;
  border-radius: .3rem }
pre { background: var(--card); padding: 1rem; overflow-x: auto; font-size: 13px }
summary { cursor: pointer; font-weight: 600 }
"""


def row(cells: Iterable[str], tag: str = "td", css: str = "") -> str:
    """A row of a table, of HTML."""
    inner = "".join(f"<{tag}>{cell}</{tag}>" for cell in cells)
    return f"<tr class='{css}'>{inner}</tr>" if css else f"<tr>{inner}</tr>"


def table(rows: Sequence[str]) -> str:
    """A table that scrolls where the screen is narrow."""
    return f"<div class='wide'><table>{''.join(rows)}</table></div>"


def section(title: str, content: str) -> str:
    """A heading and what is below; nothing for nothing."""
    return f"<h2>{html.escape(title)}</h2>{content}" if content else ""


def folded(title: str, content: str) -> str:
    """What is shown when it is asked for."""
    return f"<details><summary>{html.escape(title)}</summary>{content}</details>"


def page(title: str, parts: Iterable[str]) -> str:
    """A whole document."""
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head>"
        f"<body>{''.join(parts)}</body></html>"
    )
