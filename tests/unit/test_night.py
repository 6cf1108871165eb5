"""A night as a unit: its files, its gaps, and the report on it."""

import random
import tracemalloc
from datetime import timedelta

import pytest
from examples import settings
from hypothesis import given
from hypothesis import strategies as st
from nightfiles import DAY, NOW, PATH, check, dl1, night

from ctaflows.dl1.names import Numbers, parse_numbers
from ctaflows.dl1.night import Gaps, Night, Wanted, directories, gaps, latest, runs, select
from ctaflows.errors import UsageError


def wanted(run=None, subrun=None, include=(), exclude=()):
    return Wanted(parse_numbers(run), parse_numbers(subrun), tuple(include), tuple(exclude))


# versions and directories


@pytest.mark.parametrize(
    ("names", "highest"),
    [
        ([], None),
        (["v0.1"], "v0.1"),
        (["v0.9", "v0.10"], "v0.10"),
        (["v0.1", "v1", "v0.9.9"], "v1"),
        (["v1", "v1.0"], "v1.0"),
        (["v0.1", "v0.1.1"], "v0.1.1"),
        (["v2", "v10"], "v10"),
        (["v0.1rc1", "v0.1"], "v0.1"),
        (["v0.11rc2", "v0.11rc10", "v0.10"], "v0.11rc10"),
        (["v0.9", "v0.10", "v0.10.4"], "v0.10.4"),
        (["v0.6.3_v05", "v0.6.3_v06", "v0.6.3"], "v0.6.3_v06"),
        (["v0.6.3_v05", "v0.6.3.1"], "v0.6.3.1"),
        (["v0.11_test", "v0.10"], "v0.10"),
        (["v0.11_test", "v0.11-old", "v0.11.bak", "v0.11x", "v1_", "v1rc", "v\u0661"], None),
        (["tailcut84", "datacheck", "log"], None),
        (["version", "v", "0.1", "xv0.1", "v0.1/", "v0.1 old", "V0.2"], None),
        (["tailcut84", "v0.1"], "v0.1"),
    ],
)
def test_latest(names, highest):
    assert latest(names) == highest
    assert latest(iter(reversed(names))) == highest


@pytest.mark.parametrize(
    ("pattern", "version", "expected"),
    [
        ("cta/DL1/{date}/{version}", "v0.1", ("cta/DL1/20241114/v0.1", None)),
        ("cta/DL1/{date}/{version}", "latest", ("cta/DL1/20241114/", "")),
        ("cta/{date}/{version}/tailcut84", "latest", ("cta/20241114/", "tailcut84")),
        ("cta/{date}/{version}/tailcut84", "v2", ("cta/20241114/v2/tailcut84", None)),
        ("cta/{date}", "latest", ("cta/20241114", None)),
        ("cta/{date}", "v0.1", ("cta/20241114", None)),
        ("cta/{version}/{date}", "v0.1", ("cta/v0.1/20241114", None)),
        ("cta/{version}/DL1/{date}", "latest", ("cta/", "DL1/20241114")),
        ("fixed", "v0.1", ("fixed", None)),
        ("{date}/a{{b}}", "v0.1", ("20241114/a{b}", None)),
    ],
)
def test_directories(pattern, version, expected):
    assert directories(pattern, DAY, version) == expected


@pytest.mark.parametrize(
    "pattern",
    [
        "{",
        "}",
        "{}",
        "{0}",
        "{night}",
        "{date",
        "{date!x}",
        "{date:%Q}",
        "{date.year}",
        "{date[x]}",
    ],
)
@pytest.mark.parametrize("version", ["v0.1", "latest"])
def test_a_pattern_that_can_not_be_filled_in(pattern, version):
    with pytest.raises(UsageError, match="night_path") as caught:
        directories(pattern, DAY, version)
    assert "{date}" in caught.value.hint


@pytest.mark.parametrize(
    "pattern", ["{date}/{version}/x-{version}", "{date}/prod-{version}", "{date}/{version}x/y"]
)
def test_the_latest_version_must_be_one_whole_directory_s_name(pattern):
    # what is listed to find it is the directory above
    with pytest.raises(UsageError, match="night_path"):
        directories(pattern, DAY, "latest")
    assert directories(pattern, DAY, "v1")[1] is None


@pytest.mark.parametrize(
    ("version", "path", "base"),
    [
        ("v0.1", PATH, "/cta/DL1/20241114"),
        (None, "/cta/DL1/20241114", "/cta/DL1/20241114"),
        ("v0.1", f"{PATH}/tailcut84", f"{PATH}/tailcut84"),
    ],
)
def test_the_base_of_a_night_is_above_the_version(version, path, base):
    assert Night("20241114", version, path, ()).base == base


# selection

FILES = [
    dl1(11111, 0),
    dl1(11111, 1),
    dl1(11111, 10),
    dl1(11113, 0),
    dl1(18000),
    check(11111, 0),
    check(11111, extension="pdf"),
    "muons/muons_LST-1.Run11111.0000.fits",
    "interleaved/interleaved_LST-1.Run11111.0000.h5",
    "log/run.log",
    "README.md",
]
ALL_DL1 = FILES[:5]
SELECTIONS = [
    (wanted(), [*ALL_DL1, check(11111, extension="pdf"), check(11111, 0)]),
    (wanted(exclude=["datacheck"]), ALL_DL1),
    (wanted(exclude=["*.pdf"]), [*ALL_DL1, check(11111, 0)]),
    (wanted("11113"), [dl1(11113, 0)]),
    (wanted("11113,18000"), [dl1(11113, 0), dl1(18000)]),
    (wanted("11112-11120", exclude=["datacheck"]), [dl1(11113, 0)]),
    (wanted("11111", "0-1"), [dl1(11111, 0), dl1(11111, 1), check(11111, 0)]),
    (wanted(subrun="0"), [dl1(11111, 0), dl1(11113, 0), check(11111, 0)]),
    (wanted(subrun="10"), [dl1(11111, 10)]),
    (wanted("99999"), []),
    (wanted(include=["*.log"]), ["log/run.log"]),
    (wanted(include=["*.log", "README*"]), ["README.md", "log/run.log"]),
    (wanted("11111", include=["*.log"]), []),
    (wanted(subrun="0", include=["README*"]), []),
    (wanted(include=["muons"]), ["muons/muons_LST-1.Run11111.0000.fits"]),
    (wanted(include=["*.h5"], exclude=["tailcut*"]), [check(11111, 0), FILES[8]]),
    (wanted("11113", include=["muons"]), []),
    (wanted(include=["tailcut84/*"], exclude=["*Run11111*"]), [dl1(11113, 0), dl1(18000)]),
    (wanted(include=["nothing"]), []),
]


@pytest.mark.parametrize(("want", "names"), SELECTIONS)
def test_select(want, names):
    shuffled = list(FILES)
    random.Random(1).shuffle(shuffled)
    for order in (FILES, FILES[::-1], shuffled):
        chosen = select(night(*order), want)
        assert [e.path.removeprefix(PATH + "/") for e in chosen] == names


def test_patterns_are_matched_below_the_night_only():
    assert select(night(dl1(11111, 0)), wanted(exclude=["v0.1", "DL1", "cta"]))


@given(st.sets(st.tuples(st.integers(0, 99999), st.none() | st.integers(0, 9999)), max_size=12))
@settings(max_examples=50)
def test_runs_and_subruns_are_in_order(numbers):
    names = [f(run, subrun) for run, subrun in numbers for f in (dl1, check)]
    chosen = [e.path.removeprefix(PATH + "/") for e in select(night(*names), Wanted())]
    order = sorted(numbers, key=lambda n: (n[0], -1 if n[1] is None else n[1]))
    assert chosen == [dl1(*n) for n in order] + [check(*n) for n in order]


def test_runs():
    assert runs(night(*FILES).entries) == [11111, 11113, 18000]
    assert runs([]) == []


# gaps

GAPS = [
    ([], wanted(), []),
    ([dl1(11111, 0)], wanted(), []),
    ([dl1(11111, 0), dl1(11111, 1), dl1(11111, 2)], wanted(), []),
    ([dl1(11111, 0), dl1(11111, 3)], wanted(), ["Run11111.0001", "Run11111.0002"]),
    ([dl1(11111, 1)], wanted(), ["Run11111.0000"]),
    (
        [dl1(11113, 1), dl1(11111, 1)],
        wanted(),
        ["Run11111.0000", "Run11113.0000"],
    ),
    # whole runs
    ([dl1(11111, 0)], wanted("11111,11115"), ["Run11115"]),
    ([dl1(11111, 0)], wanted("11110-11112"), ["Run11110", "Run11112"]),
    ([], wanted("7"), ["Run00007"]),
    ([dl1(11111, 1)], wanted("11111,11115"), ["Run11115", "Run11111.0000"]),
    ([dl1(11111, 0)], wanted("0-99999"), []),
    ([dl1(18000)], wanted(), []),
    ([dl1(18000)], wanted("18000"), []),
    ([dl1(18000), dl1(11111, 1)], wanted("18000"), []),
    # subruns asked for by number
    ([dl1(11111, 0)], wanted(subrun="0"), []),
    ([dl1(11111, 0)], wanted(subrun="0-2"), ["Run11111.0001", "Run11111.0002"]),
    ([dl1(11111, 0), dl1(11111, 5)], wanted(subrun="0,5"), []),
    ([dl1(11111, 0), dl1(11111, 5)], wanted(subrun="7"), ["Run11111.0007"]),
    (
        [dl1(11111, 0), dl1(11113, 1)],
        wanted(subrun="0-1"),
        ["Run11111.0001", "Run11113.0000"],
    ),
    ([dl1(11111, 1)], wanted(subrun="0-99999"), ["Run11111.0000"]),
    # other kinds of files fill no gap and make none
    ([dl1(11111, 0), check(11111, 1), check(11113, 5)], wanted(), []),
    ([dl1(11111, 1), check(11111, 0)], wanted(), ["Run11111.0000"]),
    ([check(11111, 0)], wanted("11111"), ["Run11111"]),
    (["README.md", "log/run.log"], wanted(), []),
]


@pytest.mark.parametrize(("names", "want", "missing"), GAPS)
def test_gaps(names, want, missing):
    found = gaps(night(*names), want, NOW)
    has_dl1 = any("/dl1_" in name for name in names)
    assert found == Gaps(tuple(missing), has_dl1=has_dl1)
    told = {"missing": missing, "growing": [], "only_older": {}, "has_dl1": has_dl1}
    assert found.to_dict() == {**told, "awaited": {}, "unknown": []}
    assert found.is_incomplete == bool(missing or not has_dl1)


def test_patterns_make_no_gaps():
    found = gaps(night(dl1(11111, 0), dl1(11111, 1)), wanted(exclude=["*0000*"]), NOW)
    assert found.missing == ()


def test_a_sparse_numbering_is_no_gap():
    found = gaps(night(dl1(11111, 0), dl1(11111, 20_000)), wanted(), NOW)
    assert found.missing == ()


def test_a_huge_subrun_number_does_not_fill_the_memory():
    odd = night("dl1_LST-1.Run11111.200000.h5")  # names may have up to nine digits
    tracemalloc.start()
    try:
        assert gaps(odd, wanted(), NOW).missing == ()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4_000_000


@pytest.mark.parametrize(
    ("size", "age_s", "growing"),
    [
        (10, 3600, False),
        (10, 600, False),
        (10, 599, True),
        (10, 0, True),
        (10, -60, True),
        (0, 3600, False),
        (None, 3600, True),
        (None, None, True),
        (10, None, False),
    ],
)
def test_growing(size, age_s, growing):
    mtime = None if age_s is None else NOW - timedelta(seconds=age_s)
    found = gaps(night(dl1(11111, 0), size=size, mtime=mtime), wanted(), NOW)
    assert found.growing == (("dl1_LST-1.Run11111.0000.h5",) if growing else ())
    assert found.missing == ()


@pytest.mark.parametrize(
    ("want", "n_growing"),
    [
        (wanted(), 3),
        (wanted("11111"), 2),
        (wanted("11113"), 1),
        (wanted("11111", "0"), 1),
        (wanted("11112"), 0),
    ],
)
def test_only_what_was_asked_for_is_said_to_grow(want, n_growing):
    young = night(dl1(11111, 0), dl1(11111, 1), dl1(11113, 0), check(11111, 0), mtime=NOW)
    assert len(gaps(young, want, NOW).growing) == n_growing


@given(st.sets(st.integers(0, 40), min_size=1))
def test_what_is_missing_and_what_is_there_make_a_whole(subruns):
    found = gaps(night(*(dl1(11111, s) for s in subruns)), Wanted(Numbers()), NOW)
    missing = {int(m.removeprefix("Run11111.")) for m in found.missing}
    assert not missing & subruns
    assert missing | subruns == set(range(max(subruns) + 1))
