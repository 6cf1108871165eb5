"""Which files make up a night of several versions: each run's of its newest one."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctaflows.dl1.names import parse_name, parse_numbers
from ctaflows.dl1.night import Night, Wanted, current, gaps, newest_of_each_run, select
from ctaflows.dl1.night_completeness import Completeness, assess
from ctaflows.dl1.night_snapshots import COMPLETE, INCOMPLETE
from ctaflows.dl1.report.markdown import census_digest, digest
from ctaflows.dl1.report.night_report import NightReport
from ctaflows.model import Entry, Transfer
from ctaflows.reporting.assets import fetched_runs

NOW = datetime(2024, 11, 15, 12, tzinfo=UTC)
ABOVE = "/cta/DL1/20241114"


def dl1(run: int, *subruns: int | None, telescope: int = 1) -> list[str]:
    return [f"tailcut84/dl1_LST-{telescope}.{number(run, s)}.h5" for s in subruns]


def other(kind: str, run: int, *subruns: int | None) -> list[str]:
    return [f"{kind}/{kind}_LST-1.{number(run, s)}.h5" for s in subruns]


def check(run: int, *subruns: int | None) -> list[str]:
    return [f"tailcut84/datacheck/datacheck_dl1_LST-1.{number(run, s)}.h5" for s in subruns]


def number(run: int, subrun: int | None) -> str:
    return f"Run{run:05d}" + ("" if subrun is None else f".{subrun:04d}")


def night(versions: dict[str, list[str]]) -> Night:
    nights = [
        Night("20241114", v, f"{ABOVE}/{v}", tuple(entry(f"{ABOVE}/{v}/{n}") for n in names))
        for v, names in versions.items()
    ]
    return newest_of_each_run(nights, ABOVE)


def entry(path: str) -> Entry:
    return Entry(path, size_bytes=1000, mtime=NOW - timedelta(hours=5))


def taken(found: Night) -> list[str]:
    return sorted(e.path.removeprefix(f"{ABOVE}/") for e in found.entries)


def census(found: Night) -> Completeness:
    return assess(found, NOW, others=found.superseded)


def test_a_run_that_was_made_anew_hides_no_other_run() -> None:
    old = [name for run in range(18000, 18010) for name in dl1(run, 0, 1) + check(run, 0, 1)]
    new = dl1(18003, 0, 1) + check(18003, 0, 1)
    found = night({"v0.11": new, "v0.10": old})
    kept = [f"v0.10/{n}" for n in old if "18003" not in n]
    assert taken(found) == sorted(kept + [f"v0.11/{n}" for n in new])
    assert (found.version, found.path, found.base) == ("v0.11", ABOVE, ABOVE)
    assert list(found.versions) == ["v0.10", "v0.11"]
    told = census(found)
    assert (told.verdict, len(told.runs)) == (COMPLETE, 10)
    assert (told.versions_used, told.missing) == (("v0.10", "v0.11"), ())
    assert [r.run for r in told.runs if r.version == "v0.11"] == [18003]
    assert [(d.kind, d.run, d.places) for d in told.doubles] == [
        (kind, 18003, ("v0.10/tailcut84", "v0.11/tailcut84")) for kind in ("datacheck", "dl1")
    ]
    page = census_digest(told)
    assert page.startswith("# Night 20241114 v0.10, v0.11\n")
    assert "Versions: v0.10 of runs 18000, 18001, " in page
    assert "v0.11 of run 18003." in page


def test_a_run_that_is_still_made_anew_is_not_mixed_and_not_complete() -> None:
    found = night({"v0.10": dl1(18000, *range(8)), "v0.11": dl1(18000, *range(6))})
    assert {e.path.split("/")[4] for e in found.entries} == {"v0.11"}
    assert (found.version, found.path) == ("v0.11", f"{ABOVE}/v0.11")
    told = census(found)
    assert (told.verdict, told.missing) == (INCOMPLETE, ("Run18000.0006", "Run18000.0007"))
    assert told.only_older == {"Run18000.0006": "v0.10", "Run18000.0007": "v0.10"}
    assert told.runs[0].missing == (6, 7)
    assert "- Run18000.0006 (in v0.10)" in census_digest(told)


@pytest.mark.parametrize(
    ("want", "missing"),
    [
        (Wanted(), ["Run18000.0001", "Run18000.0002"]),
        (Wanted(subruns=parse_numbers("0-1")), ["Run18000.0001"]),
        (Wanted(parse_numbers("18001")), []),
    ],
)
def test_of_what_only_an_older_version_has_that_is_missing_which_is_wanted(
    want: Wanted, missing: list[str]
) -> None:
    found = night({"v1": dl1(18000, 0, 1, 2) + dl1(18001, 0, 1), "v2": dl1(18000, 0)})
    lacking = gaps(found, want, NOW)
    assert list(lacking.missing) == missing
    assert dict(lacking.only_older) == dict.fromkeys(missing, "v1")


def test_what_is_missing_is_named_with_the_newest_version_that_has_it() -> None:
    versions = {"v1": dl1(7, 0, 1, 2, 3), "v2": dl1(7, 0, 1, 2), "v10": dl1(7, 0, 2)}
    assert night(versions).only_older == {(7, 1): "v2", (7, 3): "v1"}


def test_the_file_of_a_whole_run_lacks_no_subrun() -> None:
    found = night({"v1": dl1(7, 0, 1, None), "v2": dl1(7, None)})
    assert taken(found) == [f"v2/{n}" for n in dl1(7, None)]
    assert found.only_older == {}
    assert night({"v1": dl1(7, 0, None), "v2": dl1(7, 0)}).only_older == {}


def test_an_older_file_of_a_whole_run_is_more_than_a_newer_subrun() -> None:
    found = night({"v1": dl1(7, None), "v2": dl1(7, 0)})
    assert found.only_older == {(7, None): "v1"}
    told = census(found)
    assert told.verdict == INCOMPLETE
    assert dict(told.only_older) == {"Run00007": "v1"}


@pytest.mark.parametrize(
    ("begun", "is_awaited"),
    [
        ([], False),
        (["README.md"], False),
        (other("interleaved", 18000, 0, 1), True),
        (other("muons", 18000, 0) + check(18000, 0, 1), True),
    ],
)
def test_a_version_without_dl1_files_hides_nothing(begun: list[str], is_awaited: bool) -> None:
    old = dl1(18000, 0, 1) + check(18000, 0, 1) + other("interleaved", 18000, 0) + ["README.md"]
    found = night({"v0.10": old, "v0.11": begun})
    assert taken(found) == sorted(f"v0.10/{n}" for n in old)
    assert (found.version, found.path, found.versions) == ("v0.10", f"{ABOVE}/v0.10", {})
    told = census(found)
    assert told.versions == ("v0.10", "v0.11")
    assert told.versions_without_dl1 == ("v0.11",)
    assert told.verdict == (INCOMPLETE if is_awaited else COMPLETE)
    assert dict(told.awaited) == ({"Run18000": "v0.11"} if is_awaited else {})


def test_what_is_not_described_makes_no_night_complete() -> None:
    [old, new] = [night({v: dl1(7, 0, 1) + check(7, 0, 1)}) for v in ("v1", "v2")]
    odd = Entry(f"{new.path}/tailcut84", error="403 Forbidden")
    for entries in ((odd,), (*new.entries, odd)):
        found = newest_of_each_run([old, replace(new, entries=entries)], ABOVE)
        told = census(found)
        assert told.verdict == INCOMPLETE
        assert told.unknown == (f"{odd.path}: 403 Forbidden",)
        assert [e.path for e in select(found, Wanted()) if e.error] == [odd.path]


@pytest.mark.parametrize("hidden", ["v0.10/tailcut84/datacheck", "v0.11"])
def test_a_directory_that_shows_nothing_makes_no_night_complete(hidden: str) -> None:
    """So a dCache door shows one that it can't read."""
    full = Night("20241114", "v0.10", f"{ABOVE}/v0.10",
                 tuple(entry(f"{ABOVE}/v0.10/{n}") for n in dl1(18000, 0, 1)))  # fmt: skip
    other = Night("20241114", hidden[:5].rstrip("/"), f"{ABOVE}/{hidden[:5].rstrip('/')}", ())
    path = f"{ABOVE}/{hidden}"
    if hidden == "v0.11":
        found = newest_of_each_run([full, replace(other, empty=(path,))], ABOVE)
    else:
        found = newest_of_each_run([replace(full, empty=(path,))], ABOVE)
    assert census(newest_of_each_run([full], ABOVE)).verdict == COMPLETE
    told = census(found)
    assert told.verdict == INCOMPLETE
    assert told.unknown == (f"{path}: shown as empty, but not known to be so",)
    unwanted = Wanted(exclude=(path.rpartition("/")[2],))
    assert not gaps(found, unwanted, NOW).is_incomplete


def test_an_older_version_that_was_emptied_says_nothing_of_the_night() -> None:
    new = Night("20241114", "v0.11", f"{ABOVE}/v0.11",
                tuple(entry(f"{ABOVE}/v0.11/{n}") for n in dl1(18000, 0, 1)))  # fmt: skip
    old = Night("20241114", "v0.10", f"{ABOVE}/v0.10", (), empty=(f"{ABOVE}/v0.10",))
    assert census(newest_of_each_run([new, old], ABOVE)).verdict == COMPLETE


def test_a_file_that_is_not_described_is_neither_missing_nor_growing() -> None:
    found = night({"v1": dl1(7, 0, 1, 2) + check(7, 0, 1, 2)})
    odd = replace(found.entries[1], size_bytes=None, error="500 Internal Server Error")
    found = replace(found, entries=(found.entries[0], odd, *found.entries[2:]))
    told = census(found)
    assert (told.verdict, told.missing, told.growing) == (INCOMPLETE, (), ())
    assert told.unknown == (f"{odd.path}: 500 Internal Server Error",)


def test_all_files_of_a_run_come_from_the_version_of_its_dl1_files() -> None:
    old = dl1(7, 0, None) + check(7, 0) + other("muons", 7, 0) + dl1(8, 0)
    found = night({"v1": old, "v2": dl1(7, 0)})
    assert taken(found) == [f"v1/{n}" for n in dl1(8, 0)] + [f"v2/{n}" for n in dl1(7, 0)]
    # a version that has no datacheck is not blamed for that of another
    more = night({"v1": [*old, *check(8, 0)], "v2": dl1(7, 0)})
    assert census(more).verdict == COMPLETE


def test_a_run_of_which_there_are_no_dl1_files_is_not_forgotten() -> None:
    found = night({"v1": dl1(7, 0) + check(8, 0), "v2": dl1(7, 0)})
    assert taken(found) == [f"v1/{n}" for n in check(8, 0)] + [f"v2/{n}" for n in dl1(7, 0)]
    assert census(found).datacheck_without_data == ("Run00008.0000",)


def test_a_night_without_any_dl1_file_is_not_complete() -> None:
    for names in ([], ["README.md"], other("interleaved", 7, 0, 1), check(7, 0)):
        for found in (night({"v0.11": names}), Night("20241114", "v1", ABOVE, ())):
            told = census(found)
            assert (told.verdict, told.has_dl1) == (INCOMPLETE, False)
            assert "- any DL1 file" in census_digest(told)
    report = NightReport("20241114", "v1", ABOVE, "/here", "/m", gaps=gaps(found, Wanted(), NOW))
    assert "no DL1 file at the door" in digest(report)
    assert report.gaps.is_incomplete


def test_files_of_no_run_are_the_newest_of_the_versions_in_use() -> None:
    found = night(
        {
            "v1": [*dl1(7, 0), *dl1(8, 0), "a.txt", "b.txt"],
            "v2": [*dl1(7, 0), "a.txt"],
            "v3": ["a.txt", "c.txt"],
        }
    )
    assert [n for n in taken(found) if n.endswith("txt")] == ["v1/b.txt", "v2/a.txt"]
    assert [n.path[-8:] for n in found.superseded[0].entries] == ["v3/a.txt", "v3/c.txt"]


def test_runs_of_another_telescope_are_other_runs() -> None:
    found = night({"v1": dl1(7, 0), "v2": dl1(7, 0, telescope=2)})
    assert len(found.entries) == 2


def test_patterns_are_matched_below_each_version() -> None:
    found = night({"v1": dl1(7, 0), "v2": dl1(8, 0)})
    assert len(select(found, Wanted(include=("tailcut84/*",)))) == 2
    assert select(found, Wanted(exclude=("v1", "v2")))


def test_of_files_that_came_earlier_those_count_whose_run_was_not_made_anew() -> None:
    found = night({"v1": dl1(7, 0) + dl1(8, 0), "v2": dl1(8, 0)})
    came = [f"{ABOVE}/{n}" for n in ("v1/README", *(f"v1/{n}" for n in dl1(7, 0, 1) + dl1(9, 0)))]
    older = [f"{ABOVE}/{v}/{dl1(8, 0)[0]}" for v in ("v0", "v1")]
    newer = f"{ABOVE}/v2/{dl1(8, 0)[0]}"
    assert current(found, [*came, *older, newer]) == [*came, newer]


def test_the_report_and_the_assets_tell_of_each_run_s_version() -> None:
    found = night({"v1": dl1(7, 0) + dl1(8, 0), "v2": dl1(8, 0)})
    report = NightReport(
        "20241114", found.version, found.path, "/here", "/m", versions=found.versions
    )
    report = report.having(
        Transfer(e.path, f"/here/{e.name}", size_bytes=1, moved_bytes=1) for e in found.entries
    )
    assert report.name == "20241114 v1, v2"
    assert "| Versions | v1 of run 7; v2 of run 8 |" in digest(report)
    assert report.to_dict()["versions_used"] == ["v1", "v2"]
    runs = fetched_runs(report, "https://door:2880")
    assert [(r.origin, r.metadata["version"]) for r in runs] == [
        (f"dcache://door{ABOVE}/v1/Run00007", "v1"),
        (f"dcache://door{ABOVE}/v2/Run00008", "v2"),
    ]


VERSIONS = st.dictionaries(
    st.sampled_from(["v0.9", "v0.10", "v0.10.4", "v0.11rc1"]),
    st.sets(
        st.tuples(
            st.sampled_from(["dl1", "muons"]), st.integers(1, 3), st.none() | st.integers(0, 3)
        )
    ),
    min_size=1,
)
ORDER = ["v0.9", "v0.10", "v0.10.4", "v0.11rc1"]


@given(VERSIONS)
def test_any_versions(versions: dict[str, set[tuple[str, int, int | None]]]) -> None:
    found = night(
        {v: [f"{k}_LST-1.{number(r, s)}.h5" for k, r, s in files] for v, files in versions.items()}
    )
    for run in (1, 2, 3):
        having = [v for v in ORDER if any(f[:2] == ("dl1", run) for f in versions.get(v, ()))]
        having = having or [v for v in ORDER if any(f[1] == run for f in versions.get(v, ()))]
        mine = [e for e in found.entries if (n := parse_name(e.name)) and n.run == run]
        assert len(mine) == (sum(f[1] == run for f in versions[having[-1]]) if having else 0)
        assert {found.home(e.path)[0] for e in mine} == set(having[-1:])
    both = [*found.entries, *(e for n in found.superseded for e in n.entries)]
    assert len({e.path for e in both}) == len(both) == sum(map(len, versions.values()))
