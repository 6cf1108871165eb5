"""lstchain's run summary of a night: which runs were taken, with how many subruns."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

from ctaflows.errors import UsageError

if TYPE_CHECKING:
    import os

_MOST_BYTES = 10_000_000
#: What makes DL1 files: not pedestal and calibration runs.
_DATA = "DATA"


def parse_run_summary(text: str) -> dict[int, int]:
    """Read ``RunSummary_YYYYMMDD.ecsv``.

    Parameters
    ----------
    text : str
        Its content.

    Returns
    -------
    dict of int to int
        Number of subruns by run, of runs with data.

    Raises
    ------
    ValueError
        It is no such table.
    """
    head = [line for line in text.splitlines() if line.startswith("#")]
    rows = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    # ECSV 1.0: blanks, if the head says nothing else
    delimiter = "," if any("delimiter: ','" in line for line in head) else " "
    found: dict[int, int] = {}
    for row in csv.DictReader(rows, delimiter=delimiter):
        if {"run_id", "n_subruns", "run_type"} - row.keys():
            raise ValueError("there is no run_id, n_subruns or run_type")
        if row["run_type"] == _DATA:
            found[int(row["run_id"])] = int(row["n_subruns"])
    if not rows:
        raise ValueError("it has no rows")
    return found


def read_run_summary(path: str | os.PathLike[str]) -> dict[int, int]:
    """Read the file, see `parse_run_summary`.

    Raises
    ------
    UsageError
        It can't be read, or is none.
    """
    path = Path(path)
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError("it is too large")
        return parse_run_summary(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError, csv.Error) as why:
        raise UsageError(
            "The run summary can't be read",
            where=str(path),
            said=getattr(why, "strerror", None) or str(why),
            hint="It is a table such as monitoring/RunSummary/RunSummary_20241114.ecsv.",
        ) from None
