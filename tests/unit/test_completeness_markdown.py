"""A night as a unit on a page in Prefect's UI: what it lacks, and what has changed."""

from __future__ import annotations

import datetime as dt

from nightkit import report, subrun

from ctaflows.dl1.night import Night
from ctaflows.dl1.night_completeness import assess
from ctaflows.dl1.night_snapshots import NightSnapshot
from ctaflows.dl1.report.markdown import census_digest, digest
from ctaflows.model import Entry

EVENING = dt.datetime(2024, 11, 14, 22, 0, tzinfo=dt.UTC)
NOON = EVENING + dt.timedelta(hours=14)


def look_at(night: Night, now: dt.datetime) -> NightSnapshot:
    """Look at a night, and return what is remembered of it."""
    census = assess(night, now)
    return NightSnapshot.of(night, census.looked_at, census.verdict)


def night(*names: str, size_bytes: int = 1000, version: str = "v0.1") -> Night:
    where = f"/cta/DL1/20241114/{version}"
    entries = tuple(
        Entry(f"{where}/tailcut84/{name}.h5", "file", size_bytes, EVENING) for name in names
    )
    return Night("20241114", version, where, entries)


RUN = [f"dl1_LST-1.Run11111.000{i}" for i in (0, 1, 3)]
CHECKED = [f"datacheck_{name}" for name in RUN]


def test_what_a_night_lacks_is_on_its_page() -> None:
    now = night(*RUN, *CHECKED[:2], "datacheck_dl1_LST-1.Run11111.0007")
    before = night(*RUN[:1], *CHECKED)
    look = look_at(before, EVENING + dt.timedelta(hours=1))
    other = night(*RUN[:1], version="v0.0")
    text = census_digest(assess(now, NOON, others=[other], before=look))
    assert text.startswith("# Night 20241114 v0.1\n\n**Incomplete: 1 runs, 3 subruns, 6 files, ")
    for heading, line in (
        ("Missing at the door", "- Run11111.0002"),
        ("Data without a datacheck", "- Run11111.0003"),
        ("Datacheck without data", "- Run11111.0007"),
        ("More than once", "- dl1 of run 11111: 1 file in v0.0/tailcut84, v0.1/tailcut84"),
        ("New since the last look", f"- tailcut84/{RUN[1]}.h5"),
        ("Gone since the last look", f"- tailcut84/{CHECKED[2]}.h5"),
    ):
        assert line in text.partition(f"## {heading}\n")[2].partition("##")[0].replace("\\", "")
    assert "Last look: 2024-11-14 23:00 UTC, " in text
    assert "| 11111 | 3 |" in text


def test_a_whole_night_s_page_is_short() -> None:
    text = census_digest(assess(night(*RUN[:2], *CHECKED[:2]), NOON))
    assert "**Complete: 1 runs, 2 subruns, 4 files, 4 kB.**" in text
    assert "##" not in text


def test_the_page_of_what_was_fetched_tells_of_the_whole_night_too() -> None:
    census = assess(night(*RUN, *CHECKED[:2]), NOON)
    text = digest(report(subrun(), census=census))
    assert "| The night at the door | incomplete: 1 runs, 3 subruns, 5 files, " in text
    assert "- Run11111.0003" in text.partition("## Data without a datacheck")[2]
    assert "at the door |" not in digest(report(subrun()))
