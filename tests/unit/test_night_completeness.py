"""Is a night whole: decided on listings alone."""

import dataclasses
import datetime as dt
import json
import random
from datetime import UTC, datetime, timedelta

import pytest
from examples import settings
from hypothesis import given
from hypothesis import strategies as st

from ctaflows.dl1.night import Night
from ctaflows.dl1.night_completeness import assess
from ctaflows.dl1.night_snapshots import (
    COMPLETE,
    GROWING,
    INCOMPLETE,
    NightSnapshot,
    read_snapshot,
    state_file,
    write_snapshot,
)
from ctaflows.dl1.run_summary import parse_run_summary, read_run_summary
from ctaflows.errors import UsageError
from ctaflows.model import Entry

NOW = datetime(2024, 11, 15, 12, tzinfo=UTC)
OLD = NOW - timedelta(hours=5)
PATH = "/cta/DL1/20241114/v0.1"
MB = 1_000_000


def look_at(night: Night, now: dt.datetime) -> NightSnapshot:
    """Look at a night, and return what is remembered of it."""
    census = assess(night, now)
    return NightSnapshot.of(night, census.looked_at, census.verdict)


def number(run, subrun):
    return f"Run{run:05d}" + ("" if subrun is None else f".{subrun:04d}")


def dl1(run, subrun=None, size=700 * MB, mtime=OLD, path=PATH, tailcut="tailcut84"):
    name = f"{path}/{tailcut}/dl1_LST-1.{number(run, subrun)}.h5"
    return Entry(name, size_bytes=size, mtime=mtime)


def check(run, subrun=None, size=MB, mtime=OLD, path=PATH):
    name = f"{path}/tailcut84/datacheck/datacheck_dl1_LST-1.{number(run, subrun)}.h5"
    return Entry(name, size_bytes=size, mtime=mtime)


def whole(run, n_subruns):
    return [f(run, s) for s in range(n_subruns) for f in (dl1, check)]


def night(*entries, version="v0.1"):
    return Night("20241114", version, PATH.replace("v0.1", version), tuple(entries))


def census(*entries, **more):
    return assess(night(*entries), NOW, **more)


def test_a_whole_night():
    found = census(*whole(11111, 4), *whole(11113, 3), dl1(11113), check(11113))
    assert found.verdict == COMPLETE
    assert [(r.run, r.n_subruns, r.n_datacheck, r.is_merged) for r in found.runs] == [
        (11111, 4, 4, False),
        (11113, 3, 3, True),
    ]
    assert (found.n_subruns, found.n_files) == (7, 16)
    assert found.size_bytes == 8 * 700 * MB + 8 * MB
    assert found.runs[0].last_change == OLD
    assert found.missing == found.growing == found.doubles == found.odd_sizes == ()
    assert found.changes is None
    assert found.versions == ("v0.1",)


def test_missing_subruns():
    found = census(*whole(11111, 2), dl1(11111, 4), check(11111, 4))
    assert found.verdict == INCOMPLETE
    assert found.missing == ("Run11111.0002", "Run11111.0003")
    assert found.runs[0].missing == (2, 3)


def test_growing():
    young = NOW - timedelta(seconds=30)
    for entry in (dl1(11111, 2, mtime=young), check(11111, 2, mtime=young), dl1(11111, 2, None)):
        found = census(*whole(11111, 2), entry)
        assert found.verdict == GROWING
        assert found.growing == (entry.name,)
    found = census(*whole(11111, 2), dl1(11111, 3, mtime=young))
    assert (found.verdict, found.missing) == (GROWING, ("Run11111.0002",))
    assert found.runs[0].growing == (3,)


def test_an_empty_file_is_no_data():
    found = census(*whole(11111, 2), dl1(11111, 2, size=0), check(11111, 2))
    assert found.verdict == INCOMPLETE
    assert found.empty == (f"{PATH}/tailcut84/dl1_LST-1.Run11111.0002.h5",)


def test_an_empty_night():
    for entries in ((), (Entry(f"{PATH}/README.md", size_bytes=5, mtime=OLD),)):
        assert census(*entries).verdict == INCOMPLETE


def test_data_and_datacheck_belong_together():
    found = census(dl1(11111, 0), dl1(11111, 1), check(11111, 1), check(11111, 2), check(11112))
    assert found.verdict == INCOMPLETE
    assert found.data_without_datacheck == ("Run11111.0000",)
    assert found.datacheck_without_data == ("Run11111.0002", "Run11112")


def test_a_datacheck_of_the_whole_run_will_do():
    found = census(dl1(11111, 0), dl1(11111, 1), check(11111))
    assert (found.verdict, found.runs[0].n_datacheck) == (COMPLETE, 2)
    merged = census(dl1(11111), check(11111, 0), check(11111, 1))
    assert merged.verdict == COMPLETE


def test_a_night_without_any_datacheck():
    found = census(dl1(11111, 0), dl1(11111, 1))
    assert (found.verdict, found.has_datacheck) == (COMPLETE, False)
    assert found.data_without_datacheck == ()


def test_what_is_there_twice():
    other_path = PATH.replace("v0.1", "v0.2")
    other = night(dl1(11111, 0, path=other_path), dl1(11111, 1, path=other_path), version="v0.2")
    found = census(
        *whole(11111, 2), *whole(11112, 1), dl1(11112, 0, tailcut="tailcut1005"), others=[other]
    )
    assert [(d.kind, d.run, d.n_files, d.places) for d in found.doubles] == [
        ("dl1", 11111, 2, ("v0.1/tailcut84", "v0.2/tailcut84")),
        ("dl1", 11112, 1, ("v0.1/tailcut1005", "v0.1/tailcut84")),
    ]
    assert found.versions == ("v0.1", "v0.2")
    assert found.verdict == COMPLETE


# sizes


def subruns(sizes, run=11111):
    return [dl1(run, i, size=size) for i, size in enumerate(sizes)]


def odd(*entries):
    return [(o.path[-7:-3], o.size_bytes) for o in census(*entries).odd_sizes]


def test_sizes_out_of_line():
    chance = random.Random(1)
    sizes = [round(chance.gauss(700, 7)) * MB for _ in range(20)]
    sizes[5], sizes[9] = 200 * MB, 1400 * MB
    assert odd(*subruns(sizes)) == [("0005", 200 * MB), ("0009", 1400 * MB)]


def test_the_last_subrun_may_be_small_but_not_large():
    sizes = [700 * MB] * 10
    assert odd(*subruns([*sizes, 20 * MB])) == []
    assert odd(*subruns([*sizes, 2000 * MB])) == [("0010", 2000 * MB)]
    # and only the last one of its run
    assert odd(*subruns([*sizes, 20 * MB, 700 * MB])) == [("0010", 20 * MB)]


def test_equal_sizes_differ_by_a_tenth_at_least():
    assert odd(*subruns([700 * MB] * 10 + [650 * MB, 700 * MB])) == []


def test_few_subruns_are_compared_with_those_of_the_night():
    full = subruns([700 * MB] * 10)
    assert odd(*full, *subruns([300 * MB, 700 * MB], run=11112)) == [("0000", 300 * MB)]
    assert odd(*subruns([300 * MB, 700 * MB, 700 * MB])) == []


def test_runs_with_their_own_rate_are_not_odd():
    assert odd(*subruns([700 * MB] * 20), *subruns([300 * MB] * 10, run=11112)) == []


def test_what_grows_is_not_odd():
    young = dl1(11111, 10, size=20 * MB, mtime=NOW)
    assert odd(*subruns([700 * MB] * 10), young, dl1(11111, 11)) == []


# the run summary

ECSV = """\
# %ECSV 1.0
# ---
# datatype:
# - {name: run_id, datatype: int64}
# delimiter: ','
# schema: astropy-2.0
run_id,n_subruns,run_type,run_start
11110,12,PEDCALIB,1
11111,3,DATA,1
11112,2,DATA,1
"""


def test_the_run_summary_tells_what_there_should_be():
    expected = parse_run_summary(ECSV)
    assert expected == {11111: 3, 11112: 2}
    assert parse_run_summary(ECSV.replace("# delimiter: ','\n", "").replace(",", " ")) == expected
    found = census(*whole(11111, 2), expected=expected)
    assert found.verdict == INCOMPLETE
    assert found.missing == ("Run11111.0002", "Run11112")
    assert [(r.run, r.n_subruns, r.n_expected) for r in found.runs] == [
        (11111, 2, 3),
        (11112, 0, 2),
    ]
    assert census(*whole(11111, 3), *whole(11112, 2), expected=expected).verdict == COMPLETE
    assert census(*whole(11111, 3), dl1(11112), check(11112), expected=expected).missing == ()


def test_a_run_summary_that_claims_absurd_numbers():
    found = census(*whole(11111, 1), expected={11111: 10**12, 11112: 10**12})
    assert len(found.missing) < 10_001


@pytest.mark.parametrize(
    "text", ["", "# only a head", "a,b\n1,2", ECSV.replace("3,DATA", "x,DATA"), "run_id\n1"]
)
def test_run_summaries_that_are_none(tmp_path, text):
    file = tmp_path / "RunSummary.ecsv"
    file.write_text(text)
    with pytest.raises(UsageError, match="run summary") as caught:
        read_run_summary(file)
    assert caught.value.where == str(file)
    with pytest.raises(UsageError):
        read_run_summary(tmp_path / "none.ecsv")


# the last look


def test_what_has_changed(tmp_path):
    first = night(*whole(11111, 2))
    look = look_at(first, OLD)
    later = census(*whole(11111, 1), dl1(11111, 1, size=5), dl1(11111, 2), before=look)
    changes = later.changes
    assert (changes.since, changes.verdict) == (OLD, look.verdict)
    assert changes.new == ("tailcut84/dl1_LST-1.Run11111.0002.h5",)
    assert changes.changed == ("tailcut84/dl1_LST-1.Run11111.0001.h5",)
    assert changes.gone == ("tailcut84/datacheck/datacheck_dl1_LST-1.Run11111.0001.h5",)
    assert not changes.is_none
    assert census(*whole(11111, 2), before=look).changes.is_none


def test_growth_is_seen_where_the_door_tells_no_time():
    before = night(dl1(11111, 0, mtime=None), dl1(11111, 1, size=5, mtime=None))
    look = look_at(before, OLD)
    found = census(dl1(11111, 0, mtime=None), dl1(11111, 1, size=9, mtime=None), before=look)
    assert (found.verdict, found.growing) == (GROWING, ("dl1_LST-1.Run11111.0001.h5",))


def test_a_look_is_kept(tmp_path):
    seen = night(*whole(11111, 2), Entry(f"{PATH}/\udcff.txt", size_bytes=None))
    look = look_at(seen, NOW)
    file = state_file(tmp_path, "https://localhost:1", seen)
    assert read_snapshot(file) is None
    write_snapshot(file, look)
    assert read_snapshot(file) == look
    assert read_snapshot(file).compare(seen).is_none
    assert [p.name for p in file.parent.iterdir()] == [file.name]
    assert file != state_file(tmp_path, "https://localhost:2", seen)


@pytest.mark.parametrize("told", [{"etag": None}, {"mtime": None}, {"error": "403 Forbidden"}])
def test_what_is_told_at_one_look_only_is_no_change(tmp_path, told):
    full = Entry(f"{PATH}/a.h5", size_bytes=5, mtime=OLD, etag="a")
    less = Entry(full.path, error="403") if "error" in told else dataclasses.replace(full, **told)
    for before, now in ((full, less), (less, full)):
        write_snapshot(tmp_path / "look.json", look_at(night(before), NOW))
        look = read_snapshot(tmp_path / "look.json")
        assert look is not None
        assert look.compare(night(now)).is_none
    other = night(dataclasses.replace(full, etag="b"))
    assert look_at(night(full), NOW).compare(other).changed == ("a.h5",)


@pytest.mark.parametrize(
    "now",
    [
        Night("20241114", "v0.1", PATH, (), empty=(PATH,)),
        Night("20241114", "v0.1", PATH, (), empty=(f"{PATH}/tailcut84",)),
        night(Entry(f"{PATH}/tailcut84", error="403 Forbidden")),
        Night("20241114", "v0.1", PATH, (), links=(Entry(f"{PATH}/tailcut84", link="directory"),)),
    ],
)
def test_what_lies_where_nothing_can_be_seen_is_not_gone(now):
    look = look_at(night(dl1(11111, 0), dl1(11111, 1)), OLD)
    assert look.compare(now).gone == ()
    assert len(look.compare(night()).gone) == 2


@given(st.binary(max_size=200))
@settings(max_examples=30, deadline=None)
def test_a_damaged_look_is_none(tmp_path_factory, content):
    file = tmp_path_factory.mktemp("look") / "look.json"
    file.write_bytes(content)
    assert read_snapshot(file) is None


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"looked_at": None},
        {"looked_at": "yesterday"},
        {"verdict": "fine"},
        {"files": []},
        {"files": {"a": None}},
        {"files": {"a": [1]}},
        {"files": {"a": [1, "noon", None]}},
        {"files": {"a": [1, None, 2]}},
    ],
)
def test_a_look_of_another_shape_is_none(tmp_path, change):
    file = tmp_path / "look.json"
    write_snapshot(file, NightSnapshot(NOW, COMPLETE, {"a": [1, None, None]}))
    good = json.loads(file.read_text())
    assert read_snapshot(file) is not None
    file.write_text(json.dumps({**good, **change}))
    assert read_snapshot(file) is None


def test_a_look_that_is_cut_is_none(tmp_path):
    file = tmp_path / "look.json"
    write_snapshot(file, NightSnapshot(NOW, COMPLETE, {"a": [1, None, None]}))
    content = file.read_bytes()
    for n in range(len(content)):
        file.write_bytes(content[:n])
        assert read_snapshot(file) is None


def test_where_a_look_can_not_be_kept(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="can't be kept"):
        write_snapshot(tmp_path / "file" / "look.json", NightSnapshot(NOW, COMPLETE))


# as a whole


def test_json():
    look = NightSnapshot(OLD, GROWING, {})
    found = census(*whole(11111, 2), dl1(11111, 4), before=look, expected={11111: 6})
    values = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert values["missing"] == ["Run11111.0002", "Run11111.0003", "Run11111.0005"]
    assert values["runs"][0]["n_expected"] == 6
    assert values["runs"][0]["last_change"] == "2024-11-15T07:00:00Z"
    assert values["changes"]["verdict"] == GROWING
    assert set(values) >= {
        "date", "version", "path", "looked_at", "verdict", "versions", "n_files", "n_subruns",
        "size_bytes", "runs", "missing", "growing", "empty", "data_without_datacheck",
        "datacheck_without_data", "doubles", "odd_sizes", "changes",
    }  # fmt: skip


@given(st.sets(st.tuples(st.sampled_from([1, 2]), st.integers(0, 12), st.booleans())))
@settings(max_examples=60, deadline=None)
def test_complete_means_that_nothing_is_missing(files):
    entries = [(check if is_check else dl1)(run, subrun) for run, subrun, is_check in files]
    found = census(*entries)
    data = {(run, subrun) for run, subrun, is_check in files if not is_check}
    checked = {(run, subrun) for run, subrun, is_check in files if is_check}
    top = {run: max(s for r, s in data if r == run) for run in {r for r, _ in data}}
    is_whole = all((run, s) in data for run in top for s in range(top[run] + 1))
    is_paired = not checked or checked == data
    assert (found.verdict == COMPLETE) == bool(files and is_whole and is_paired)


def test_a_large_night_is_quick():
    import time

    entries = [e for run in range(20) for e in whole(11111 + run, 300)]
    start = time.perf_counter()
    found = census(*entries)
    assert time.perf_counter() - start < 5  # 0.2 s on an idle machine
    assert (found.verdict, found.n_subruns) == (COMPLETE, 6000)
