"""Files of a night, by run and subrun, for tests."""

from datetime import UTC, datetime, timedelta

from ctaflows.dl1.night import Night
from ctaflows.model import Entry

DAY = "20241114"
NOW = datetime(2024, 11, 15, 12, tzinfo=UTC)
OLD = NOW - timedelta(hours=5)
PATH = "/cta/DL1/20241114/v0.1"


def dl1(run, subrun=None):
    return f"tailcut84/dl1_LST-1.Run{run:05d}{'' if subrun is None else f'.{subrun:04d}'}.h5"


def check(run, subrun=None, extension="h5"):
    name = f"Run{run:05d}{'' if subrun is None else f'.{subrun:04d}'}.{extension}"
    return f"datacheck/datacheck_dl1_LST-1.{name}"


def night(*names, size=10, mtime=OLD):
    entries = tuple(Entry(f"{PATH}/{n}", size_bytes=size, mtime=mtime) for n in names)
    return Night("20241114", "v0.1", PATH, entries)
