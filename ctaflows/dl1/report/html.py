"""A night on one page of HTML that opens offline: verdict, pictures, and a table of all files.

All of it is in the one file; its own rules (CSP) forbid the browser to load anything, and to run
any script but the page's.
"""

from __future__ import annotations

import base64
import hashlib
import html
from importlib import resources
from typing import TYPE_CHECKING, Any

from ctaflows.dl1.content.times import is_one_night
from ctaflows.dl1.report.night_report import NightReport
from ctaflows.dl1.report.tables import (
    SIGNS,
    figures_of,
    headline,
    lists_of,
    rows_of,
    runs_of,
    tally_of,
)
from ctaflows.errors import printable, redact
from ctaflows.text import human_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from ctaflows.dl1.quality.checks import Inspection
    from ctaflows.dl1.report.tables import Row, RunRow

#: The page in the night's folder.
NAME = "night.html"
#: Of longer lists of what is amiss the rest is counted.
_MOST_LINES = 200
#: The table's columns: heading, are they numbers, is there no place for them on a phone.
_COLUMNS = (
    ("File", False, False), ("Verdict", False, False), ("Run", True, True),
    ("Subrun", True, True), ("Size", True, True), ("Proof", False, True),
    ("Events", True, False), ("Duration / s", True, True), ("Rate / Hz", True, False),
)  # fmt: skip
_RUN_COLUMNS = (
    ("Run", True, False), ("Files", True, False), ("Size", True, True), ("Events", True, False),
    ("Begin (UTC)", False, False), ("End", False, True), ("Duration / s", True, True),
    ("Rate / Hz", True, True), ("Verdicts", False, False),
)  # fmt: skip


def page(night: NightReport | Iterable[Inspection], *, title: str | None = None) -> str:
    """Write the page.

    Parameters
    ----------
    night : NightReport or iterable of Inspection
        What came of fetch-dl1, or what is in some files.
    title : str, optional
        The heading; by default the night's date and version.

    Returns
    -------
    str
        HTML. The same night makes the same page.
    """
    from ctaflows.dl1.report.plots import pictures_of

    if not isinstance(night, NightReport):
        night = list(night)
    looked = night.inspections.values() if isinstance(night, NightReport) else night
    rows = rows_of(night)
    parts = [
        _headline(*headline(night, rows)),
        _figures(figures_of(night, rows)),
        *(_amiss(heading, lines) for heading, lines in lists_of(night)),
        _pictures([(p.title, p.words, p.svg()) for p in pictures_of(looked)]),
        _runs(runs_of(rows)),
        _files(rows),
    ]
    heading = title or _title(night)
    return _document(heading, f"<h1>{_text(heading)}</h1>\n" + "\n".join(filter(None, parts)))


def _title(night: NightReport | Sequence[Inspection]) -> str:
    if isinstance(night, NightReport):
        return f"DL1 night {night.name}"
    return "DL1 files"


def _document(title: str, body: str) -> str:
    style, script = (
        (resources.files(__package__) / name).read_text("utf-8") for name in ("page.css", "page.js")
    )
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'"
    )
    return f"""<!DOCTYPE html>
<html lang="en" class="no-script">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{_text(title)}</title>
<style>{style}</style>
</head>
<body>
<main>
{body}
</main>
<footer>Made by ctaflows. Times are UTC; rates are not corrected for dead time.</footer>
<script>{script}</script>
</body>
</html>
"""


def _headline(verdict: str, sentence: str) -> str:
    return (
        f'<p class="headline {_class(verdict)}" id="headline"><strong>{_verdict(verdict)}</strong> '
        f"<span>{_text(sentence)}</span></p>"
    )


def _figures(figures: list[tuple[str, str]]) -> str:
    lines = "\n".join(f"<dt>{_text(k)}</dt><dd>{_text(v)}</dd>" for k, v in figures)
    return f'<dl class="figures">\n{lines}\n</dl>'


def _amiss(heading: str, lines: list[str]) -> str:
    shown = [f"<li>{_text(line)}</li>" for line in lines[:_MOST_LINES]]
    if len(lines) > _MOST_LINES:
        shown.append(f"<li>and {len(lines) - _MOST_LINES:,} more</li>")
    items = "\n".join(shown)
    short = " short" if max(map(len, lines)) < 40 else ""
    return f'<h2>{_text(heading)} ({len(lines):,})</h2>\n<ul class="amiss{short}">\n{items}\n</ul>'


def _pictures(pictures: list[tuple[str, str, str]]) -> str:
    if not pictures:
        return ""
    figures = "\n".join(
        f"<figure><figcaption>{_text(title)}</figcaption>\n"
        # the words below are the alternative text, for all to read
        f'<div role="img" aria-label="{_text(words)}">{svg}</div>\n'
        f'<p aria-hidden="true">{_text(words)}</p></figure>'
        for title, words, svg in pictures
    )
    return f'<h2>Pictures</h2>\n<div class="pictures">\n{figures}\n</div>'


# ---------------------------------------------------------------------------- tables
def _runs(runs: list[RunRow]) -> str:
    if not runs:
        return ""
    moments = [m for run in runs for m in (run.time_first, run.time_last) if m]
    dated = bool(moments) and not is_one_night(min(moments), max(moments))
    rows = []
    for run in runs:
        counts = run.verdicts
        verdicts = ", ".join(f"{counts[v]:,} {v}" for v in reversed(SIGNS) if v in counts)
        cells = (
            "other" if run.run is None else f"{run.run}",
            f"{run.n_files:,}",
            human_bytes(run.size_bytes),
            f"{run.n_events:,}" if run.n_events else "",
            _moment(run.time_first, dated=dated),
            _moment(run.time_last, dated=dated),
            _number(run.duration_s or None, 1),
            _number(run.rate_hz, 1),
            verdicts,
        )
        rows.append("<tr>" + "".join(map(_cell, cells, _RUN_COLUMNS)) + "</tr>")
    head = "".join(f'<th scope="col"{_classes(c)}>{c[0]}</th>' for c in _RUN_COLUMNS)
    return _table("runs", "Runs", f"{len(runs):,} runs, their files added up", head, rows)


def _files(rows: list[Row]) -> str:
    head = "".join(
        f'<th scope="col"{_classes(c)}><button type="button">{c[0]}</button></th>' for c in _COLUMNS
    )
    tally = tally_of(rows)
    choices = "".join(
        f'<option value="{v}">{SIGNS[v]} {v} ({tally[v]:,})</option>'
        for v in reversed(SIGNS)
        if v in tally
    )
    form = f"""<form id="filter" role="search">
<label>Name or remark<input id="words" type="search" autocomplete="off"></label>
<label>Verdict<select id="verdict"><option value="">all</option>
<option value="not ok">not ok</option>{choices}</select></label>
<output id="shown" for="words verdict"></output>
</form>"""
    caption = "One file a row; the headings sort"
    return _table("files", "Files", caption, head, [_row(row) for row in rows], before=form)


def _row(row: Row) -> str:
    remarks = "".join(f"<li>{_text(r)}</li>" for r in row.remarks)
    name = _text(row.name) + (f"<ul>{remarks}</ul>" if remarks else "")
    rank = list(SIGNS).index(row.verdict)
    subrun = "" if row.subrun is None else f"{row.subrun:04d}"
    cells = [
        f'<td class="file" title="{_text(row.path)}">{name}</td>',
        f'<td data-v="{rank}" class="verdict {_class(row.verdict)}">{_verdict(row.verdict)}</td>',
    ]
    values: list[tuple[float | None, str]] = [
        (row.run, "" if row.run is None else f"{row.run}"),
        (row.subrun, subrun),
        (row.size_bytes, "" if row.size_bytes is None else human_bytes(row.size_bytes)),
        (None, row.proof),
        (row.n_events, "" if row.n_events is None else f"{row.n_events:,}"),
        (row.duration_s, _number(row.duration_s, 3)),
        (row.rate_hz, _number(row.rate_hz, 1)),
    ]
    for column, (value, text) in zip(_COLUMNS[2:], values, strict=True):
        sortable = f' data-v="{"" if value is None else repr(value)}"' if column[1] else ""
        cells.append(f"<td{_classes(column)}{sortable}>{_text(text)}</td>")
    return f'<tr data-verdict="{row.verdict}">{"".join(cells)}</tr>'


def _table(
    name: str, heading: str, caption: str, head: str, rows: list[str], *, before: str = ""
) -> str:
    body = "\n".join(rows)
    return f"""<h2 id="{name}-heading">{heading}</h2>
{before}
<div class="scrolls" role="region" aria-labelledby="{name}-heading" tabindex="0">
<table id="{name}"><caption>{caption}</caption>
<thead><tr>{head}</tr></thead>
<tbody>
{body}
</tbody></table></div>"""


def _cell(text: str, column: tuple[str, bool, bool]) -> str:
    return f"<td{_classes(column)}>{_text(text)}</td>"


def _classes(column: tuple[str, bool, bool]) -> str:
    classes = [word for word, given in zip(("n", "wide"), column[1:], strict=True) if given]
    return f' class="{" ".join(classes)}"' if classes else ""


def _verdict(verdict: str) -> str:
    return f'<span aria-hidden="true">{SIGNS[verdict]}</span> {verdict}'


def _class(verdict: str) -> str:
    return verdict.replace(" ", "-")


def _moment(time: datetime | None, *, dated: bool) -> str:
    return f"{time:{'%Y-%m-%d ' if dated else ''}%H:%M:%S}" if time else ""


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def _text(text: Any) -> str:
    """Let nothing that a file's name, a header or a server says be more than text."""
    text = redact(str(text))
    return html.escape(text if text.isprintable() else printable(text), quote=True)
