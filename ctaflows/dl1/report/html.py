"""The report of a night as an HTML page that opens offline: verdict, plots, a table of all files.

Everything is in one file. Its Content Security Policy forbids the browser to load anything else,
and to run any script but the page's own. The template is ``page.html.j2``.
"""

from __future__ import annotations

import base64
import hashlib
from importlib import resources
from typing import TYPE_CHECKING, Any

from ctaflows.dl1.content.times import is_one_night
from ctaflows.dl1.report.night_report import NightReport
from ctaflows.dl1.report.tables import figures_of, headline, lists_of, tally_of
from ctaflows.dl1.report.totals import SIGNS, rows_of_inspections, totals_by_run
from ctaflows.errors import redact
from ctaflows.text import human_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jinja2 import Template

    from ctaflows.dl1.quality.checks import Inspection

#: Name of the page in the night's folder.
NAME = "night.html"
#: Of problems this many lines are listed, the rest is counted.
_MOST_LINES = 200


def page(night: NightReport | Iterable[Inspection], *, title: str | None = None) -> str:
    """Return the HTML page of a night, or of some files.

    Parameters
    ----------
    night : NightReport or iterable of Inspection
        A report of fetch-dl1, or inspections of some files.
    title : str, optional
        The heading (default: date and version of the night, or ``DL1 files``).

    Returns
    -------
    str
        HTML; the same for the same night.
    """
    from ctaflows.dl1.report.plots import pictures_of

    if isinstance(night, NightReport):
        inspections, name, rows = (
            list(night.inspections.values()),
            f"DL1 night {night.name}",
            night.rows(),
        )
    else:
        night = inspections = list(night)
        name, rows = "DL1 files", rows_of_inspections(inspections)
    runs = totals_by_run(rows)
    moments = [m for run in runs for m in (run.time_first, run.time_last) if m]
    is_dated = bool(moments) and not is_one_night(min(moments), max(moments))
    verdict, sentence = headline(night, rows)
    style, script, source = (
        (resources.files(__package__) / file).read_text("utf-8")
        for file in ("page.css", "page.js", "page.html.j2")
    )
    digest = hashlib.sha256(script.encode()).digest()
    return _template(source).render(
        title=title or name,
        style=style,
        script=script,
        script_sha256=base64.b64encode(digest).decode(),
        verdict=verdict,
        sentence=sentence,
        figures=figures_of(night, rows),
        lists=[_list(heading, lines) for heading, lines in lists_of(night)],
        pictures=[(p.title, p.words, p.svg()) for p in pictures_of(inspections)],
        runs=runs,
        clock="%Y-%m-%d %H:%M:%S" if is_dated else "%H:%M:%S",
        rows=rows,
        tally=tally_of(rows),
        signs=dict(reversed(SIGNS.items())),  # the worst first
        ranks={verdict: rank for rank, verdict in enumerate(SIGNS)},
    )


def _list(heading: str, lines: list[str]) -> tuple[str, list[str], bool]:
    """Return the heading with the count, the lines to show, and whether all of them are short."""
    shown = lines[:_MOST_LINES]
    if len(lines) > _MOST_LINES:
        shown.append(f"and {len(lines) - _MOST_LINES:,} more")
    return f"{heading} ({len(lines):,})", shown, max(map(len, lines)) < 40


def _template(source: str) -> Template:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True,
        finalize=_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["number"] = _number
    environment.filters["size"] = lambda value: "" if value is None else human_bytes(value)
    return environment.from_string(source)


def _number(value: float | None, how: str = "") -> str:
    return "" if value is None else f"{value:,{how}}"


def _shown(value: Any) -> Any:
    """Return a value without secrets and control characters, "" for None; jinja2 escapes it."""
    if value is None:
        return ""
    # what the template marks as safe stays as it is
    return value if hasattr(value, "__html__") else redact(str(value))
