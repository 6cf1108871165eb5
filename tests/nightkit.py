"""Synthetic contents of the files of a night, quick to make and with known values."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from ctaflows.dl1.content.quantities import (
    Charges,
    Images,
    Pointing,
    Quantities,
    Rate,
    Rates,
    Spectrum,
)
from ctaflows.dl1.content.summary import DL1Summary
from ctaflows.dl1.hdf5.tables import TableInfo
from ctaflows.dl1.night import Gaps
from ctaflows.dl1.quality.check_values import expected
from ctaflows.dl1.quality.checks import Inspection, check, check_error
from ctaflows.dl1.report.night_report import NightReport
from ctaflows.model import Checksum, Transfer

BEGIN = datetime(2024, 11, 14, 21, 30, tzinfo=UTC)
FOLDER = "/data/20241114/v0.1/tailcut84"
COUNTS = {"cosmic": 60_000, "pedestal": 900, "flatfield": 950}


def name(run, subrun, prefix="dl1"):
    return f"{prefix}_LST-1.Run{run:05d}" + ("" if subrun is None else f".{subrun:04d}") + ".h5"


def rates(n_bins=10):
    by_type = {
        kind: Rate(n / 10, 1.0, n / 10 - 1, n / 10 + 1, 0.0, (n // 10,) * n_bins)
        for kind, n in COUNTS.items()
    }
    return Rates(1.0, n_bins, {"all": by_type["cosmic"], **by_type})


def spectrum():
    return Spectrum(
        tuple(int(1e5 * (1 + i) ** -1.3) if i > 10 else 0 for i in range(100)), 1.7, -2.2
    )


def charges(flatfield=69.0):
    found = {
        "pedestal": Charges(900, 0.1, 1.6, n_noisy=0),
        "flatfield": Charges(950, flatfield, 9.0, time_mean_ns=18.0, relative_time_std_ns=0.4),
    }
    return Images(1850, 1850, 1855, 0, found)


def subrun(run=11111, number=0, **changes):
    """Return the inspection of one subrun's file, with changes to its summary or quantities."""
    first = BEGIN + timedelta(minutes=20 * (run % 100), seconds=10 * (number or 0))
    quantities = {
        "rates": rates(),
        "pointing": Pointing(61_850, 0, 65.0, 110.0, 25.0, 0.1, 0.01),
        "spectrum": spectrum(),
        "images": charges(),
    }
    quantities |= {k: changes.pop(k) for k in list(changes) if k in quantities}
    values = {
        "file": f"{FOLDER}/{name(run, number)}",
        "size_bytes": 700_000_000,
        "layout": "lstchain",
        "level": "DL1a+DL1b",
        "simulated": False,
        "telescope": (1,),
        "run": run,
        "subrun": number,
        "n_events": sum(COUNTS.values()),
        "n_events_by_type": COUNTS,
        "time_first": first,
        "time_last": first + timedelta(seconds=10),
        "duration_s": 10.0,
        "rate_hz": sum(COUNTS.values()) / 10,
        "rate_hz_by_type": {kind: n / 10 for kind, n in COUNTS.items()},
        "quantities": Quantities(**quantities),
    }
    summary = DL1Summary(**{**values, **changes})
    tables = tuple(TableInfo(path, summary.n_events or 0, ()) for path in expected(summary))
    summary = replace(summary, tables=tables)
    return Inspection(summary.file, summary, checks=check(summary))


def datacheck(run=11111, number=0, **changes):
    file = f"{FOLDER}/datacheck/{name(run, number, 'datacheck_dl1')}"
    more = {"level": "datacheck", "rates": None, "size_bytes": 1_000_000, **changes}
    return subrun(run, number, file=file, **more)


def damaged(run=11111, number=9, error="Truncated: the file ends after 5 of 9 bytes"):
    return Inspection(f"{FOLDER}/{name(run, number)}", error=error, checks=check_error(error))


def report(*inspections, missing=(), growing=(), transfers=(), **more):
    made = [
        Transfer(
            "/cta/DL1" + looked.file.removeprefix("/data"),
            looked.file,
            looked.summary.size_bytes if looked.summary else 5,
            checksum=Checksum("adler32", "1a2b3c4d"),
            verified=True,
        )
        for looked in inspections
    ]
    return NightReport(
        "20241114",
        "v0.1",
        "/cta/DL1/20241114/v0.1",
        "/data/20241114",
        "/data/20241114/manifest.jsonl",
        (*made, *transfers),
        {looked.file: looked for looked in inspections},
        Gaps(tuple(missing), tuple(growing)),
        **more,
    )
