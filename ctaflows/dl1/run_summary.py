"""lstchain's run summary of a night: the runs that were taken, with their numbers of subruns."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

from ctaflows.atomic_files import local_errors
from ctaflows.errors import UsageError

if TYPE_CHECKING:
    import os

_MOST_BYTES = 10_000_000
#: Type of runs of which DL1 files are made, unlike pedestal and calibration runs.
_DATA = "DATA"


def parse_run_summary(text: str) -> dict[int, int]:
    """Return the numbers of subruns in a run summary, ``RunSummary_YYYYMMDD.ecsv``.

    Parameters
    ----------
    text : str
        Content of the file.

    Returns
    -------
    dict of int to int
        Number of subruns by run, of runs of type ``DATA``.

    Raises
    ------
    ValueError
        It is not a table with the columns ``run_id``, ``n_subruns`` and ``run_type``, or is empty.
    """
    head = [line for line in text.splitlines() if line.startswith("#")]
    rows = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    # ECSV 1.0: the delimiter is a space unless the header states another
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
    """Return the numbers of subruns in the file of a run summary, see `parse_run_summary`.

    Parameters
    ----------
    path : path
        Local path of the file, of up to 10 MB.

    Raises
    ------
    UsageError
        The file can't be read, or is not a run summary.
    """
    path = Path(path)
    what = "The run summary can't be read"
    hint = "It is a table such as monitoring/RunSummary/RunSummary_20241114.ecsv."
    try:
        with local_errors(path, what, hint=hint):
            if path.stat().st_size > _MOST_BYTES:
                raise ValueError("it is too large")
            return parse_run_summary(path.read_text(encoding="utf-8"))
    except (ValueError, TypeError, csv.Error) as why:
        raise UsageError(what, where=str(path), said=str(why), hint=hint) from None
