"""Rendering of plots: one or several on a sheet as PNG, PDF or SVG, or as SVG within HTML.

It neither needs nor changes pyplot, matplotlib's backend, or the caller's settings of matplotlib.
"""

from __future__ import annotations

import math
import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ctaflows.errors import UsageError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Sequence

#: Accepted suffixes of file names.
SUFFIXES = (".png", ".pdf", ".svg")
#: Size of one plot in inches: its text stays readable at the width of a phone.
WIDTH, HEIGHT = 4.4, 3.1
_DPI = 160
#: The palette of Okabe and Ito, which people with colour blindness can tell apart.
TEXT, GRID = "#1b1d20", "#c9ccd1"
BLUE, VERMILLION, GREEN, PURPLE = "#0072b2", "#d55e00", "#009e73", "#cc79a7"
#: In HTML, colours are variables of the page's style sheet, which has other values in dark mode.
CSS_COLOURS = {
    TEXT: "currentColor", GRID: "var(--grid)", BLUE: "var(--blue)",
    VERMILLION: "var(--vermillion)", GREEN: "var(--green)", PURPLE: "var(--purple)",
}  # fmt: skip
_SETTINGS: dict[str, Any] = {
    "font.size": 8.0, "axes.titlesize": 8.0, "axes.labelsize": 8.0, "legend.fontsize": 7.5,
    "xtick.labelsize": 7.5, "ytick.labelsize": 7.5, "axes.spines.top": False,
    "axes.spines.right": False, "axes.grid": True, "grid.color": GRID, "grid.linewidth": 0.5,
    "text.color": TEXT, "axes.labelcolor": TEXT, "axes.edgecolor": TEXT, "xtick.color": TEXT,
    "ytick.color": TEXT, "legend.frameon": False, "lines.linewidth": 1.2, "lines.markersize": 3.0,
    "axes.titlelocation": "left", "text.parse_math": False, "axes.formatter.use_mathtext": False,
    "axes.unicode_minus": True, "svg.fonttype": "none", "pdf.fonttype": 42,
    "timezone": "UTC", "axes.formatter.useoffset": False,
}  # fmt: skip
#: Held while drawing: matplotlib's settings are shared by all threads.
_drawing = threading.RLock()


@dataclass(frozen=True)
class Picture:
    """One plot of a night; a notebook displays it.

    Attributes
    ----------
    name : str
        Name of the plot, such as ``rates``.
    title : str
        The title above it.
    words : str
        Text alternative: what the plot shows, with figures, for readers who can't see it.
    draw : Callable
        Draws the plot into the matplotlib ``Figure`` or ``SubFigure`` given.
    """

    name: str
    title: str
    words: str
    draw: Callable[[Any], None]

    def figure(self) -> Any:
        """Return the plot as a ``matplotlib.figure.Figure``."""
        return _sheet([self])

    def svg(self) -> str:
        """Return the plot as an SVG element for HTML that has the variables of `CSS_COLOURS`."""
        from io import BytesIO

        stream = BytesIO()
        _write(self.figure(), stream, "svg", salt=f"ctaflows {self.name}", transparent=True)
        return _inlined(stream.getvalue().decode())

    def _repr_png_(self) -> bytes:
        from io import BytesIO

        stream = BytesIO()
        _write(self.figure(), stream, "png")
        return stream.getvalue()


def save(pictures: Sequence[Picture], path: str | os.PathLike[str], *, title: str = "") -> None:
    """Write plots into a file, on one sheet.

    Parameters
    ----------
    pictures : sequence of Picture
        The plots, at least one.
    path : path
        File to write, atomically; its suffix, ``.png``, ``.pdf`` or ``.svg``, is the format.
    title : str, optional
        A title above all plots (default: none).

    Raises
    ------
    UsageError
        The suffix is another one, there are no plots, or the file can't be written.
    """
    from ctaflows.atomic_files import replaced

    kind = suffix_of(path)
    if not pictures:
        raise UsageError(
            "There is nothing to draw",
            where=str(path),
            hint="Pictures need at least one file of events or a datacheck that can be read.",
        )
    sheet = _sheet(pictures, title)
    with replaced(path) as stream:
        _write(sheet, stream, kind)


def suffix_of(path: str | os.PathLike[str]) -> str:
    """Return the format of a picture file, from its suffix: ``png``, ``pdf`` or ``svg``.

    Raises
    ------
    UsageError
        The suffix is another one.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(
            f"A picture can't be “{suffix or 'a file without a suffix'}”",
            where=str(path),
            hint=f"Its name ends in one of {', '.join(SUFFIXES)}.",
        )
    return suffix[1:]


# ---------------------------------------------------------------------------- sheets
@contextmanager
def _settings(salt: str = "ctaflows") -> Iterator[None]:
    """Use our settings of matplotlib within the block, and restore the caller's afterwards."""
    import matplotlib as mpl

    with _drawing, mpl.rc_context():
        mpl.rcdefaults()
        changed: Any = {**_SETTINGS, "svg.hashsalt": salt}
        mpl.rcParams.update(changed)
        yield


def _sheet(pictures: Sequence[Picture], title: str = "") -> Any:
    from matplotlib.figure import Figure

    n_columns = 1 if len(pictures) == 1 else 2
    n_rows = math.ceil(len(pictures) / n_columns)
    with _settings():
        size = (WIDTH * n_columns, HEIGHT * n_rows + (0.35 if title else 0))
        figure = Figure(figsize=size, layout="constrained")
        if len(pictures) == 1 and not title:
            pictures[0].draw(figure)
            return figure
        if title:
            figure.suptitle(title, fontsize=11, parse_math=False)
        cells = figure.subfigures(n_rows, n_columns, squeeze=False).flat
        for cell, picture in zip(cells, pictures, strict=False):
            cell.suptitle(picture.title, fontsize=9, fontweight="bold")
            picture.draw(cell)
    return figure


def _write(figure: Any, stream: IO[bytes], kind: str, **more: Any) -> None:
    salt = more.pop("salt", "ctaflows")
    # without dates and versions the same night gives the same bytes
    no_metadata: dict[str, dict[str, None]] = {
        "svg": dict.fromkeys(("Date", "Creator", "Format", "Type")),
        "pdf": dict.fromkeys(("CreationDate", "Creator", "Producer")),
        "png": {"Software": None},
    }
    with _settings(salt):
        figure.savefig(stream, format=kind, dpi=_DPI, metadata=no_metadata[kind], **more)


def _inlined(svg: str) -> str:
    """Return matplotlib's SVG as an element for HTML: no XML header, size, or unused ids."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->\s*", "", svg, flags=re.DOTALL)
    head, rest = svg.split(">", 1)
    box = re.search(r'viewBox="[^"]*"', head)
    used = set(re.findall(r"#([A-Za-z][\w.-]*)", rest))
    rest = re.sub(r' id="([^"]*)"', lambda m: m[0] if m[1] in used else "", rest)
    rest = re.sub(
        r"#[0-9a-f]{6}\b", lambda m: CSS_COLOURS.get(m[0].lower(), m[0]), rest, flags=re.IGNORECASE
    )
    return f'<svg {box[0] if box else ""} aria-hidden="true" focusable="false">{rest}'.strip()
