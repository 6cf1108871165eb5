"""File names, dates and numbers as users and programs write them."""

import contextlib
import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctaflows.dl1.names import DL1Name, Numbers, parse_date, parse_name, parse_numbers
from ctaflows.errors import UsageError

NAMES = [
    ("dl1_LST-1.Run11111.0000.h5", DL1Name("dl1", 1, None, 11111, 0, "h5")),
    ("dl1_LST-1.Run18000.h5", DL1Name("dl1", 1, None, 18000, None, "h5")),
    ("dl2_LST-1.Run11111.0003.h5", DL1Name("dl2", 1, None, 11111, 3, "h5")),
    ("datacheck_dl1_LST-1.Run11111.0104.h5", DL1Name("datacheck", 1, None, 11111, 104, "h5")),
    ("datacheck_dl1_LST-1.Run11111.pdf", DL1Name("datacheck", 1, None, 11111, None, "pdf")),
    ("muons_LST-1.Run11111.0000.fits", DL1Name("muons", 1, None, 11111, 0, "fits")),
    ("muons_LST-1.Run11111.0000.fits.gz", DL1Name("muons", 1, None, 11111, 0, "fits.gz")),
    ("interleaved_LST-1.Run11111.0000.h5", DL1Name("interleaved", 1, None, 11111, 0, "h5")),
    ("ctapipe_LST-1.Run18000.0000.dl1.h5", DL1Name("dl1", 1, None, 18000, 0, "h5")),
    ("dl1_LST-1.1.Run01971.0023.fits.h5", DL1Name("dl1", 1, 1, 1971, 23, "h5")),
    ("LST-1.1.Run02008.0000.fits.fz", DL1Name("raw", 1, 1, 2008, 0, "fits.fz")),
    ("dl1_LST-4.Run123456.12345.hdf5", DL1Name("dl1", 4, None, 123456, 12345, "hdf5")),
    ("dl1_LST-1.Run11111.0000_cut.h5", DL1Name("dl1", 1, None, 11111, 0, "h5")),
]


@pytest.mark.parametrize(("name", "expected"), NAMES)
def test_known_names(name, expected):
    assert parse_name(name) == expected
    assert parse_name(f"/cta/DL1/20241114/v0.1/tailcut84/{name}") == expected


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/",
        "README.md",
        "DL1_datacheck_20241114.h5",
        "dl1_LST-1.Run11111.0000.h5.part",
        ".dl1_LST-1.Run11111.0000.h5.part",
        "dl1_LST-1.Run11111.0000.h5\n",
        "dl1_LST-1.Run11111.123.h5",
        "dl1_LST-1.Run180.h5",
        "dl1_LST-1.Run1111\u0661.0000.h5",
        "dl1_LST-1.Run11111.0000.h5/",
        "dl1_LST-1.Run" + "9" * 5000 + ".h5",
    ],
)
def test_other_names(name):
    assert parse_name(name) is None


@given(
    st.builds(
        DL1Name,
        kind=st.sampled_from(["dl1", "dl2", "datacheck", "muons", "interleaved", "raw"]),
        telescope=st.integers(1, 99),
        stream=st.none() | st.integers(1, 9),
        run=st.integers(0, 999_999_999),
        subrun=st.none() | st.integers(0, 99_999),
        extension=st.sampled_from(["h5", "hdf5", "fits", "fits.fz", "fits.gz", "pdf"]),
    )
)
def test_a_name_comes_back(name):
    assert parse_name(str(name)) == name
    assert parse_name(f"a/b/{name}") == name


@given(st.text() | st.from_regex(r"(dl1_)?LST-\d+(\.\d+)?\.Run\d+(\.\d+)?.*\.h5"))
def test_any_text_is_a_name_or_none(text):
    parsed = parse_name(text)
    assert parsed is None or parse_name(str(parsed)) == parsed


@pytest.mark.parametrize("text", ["20241114", "2024-11-14", " 20241114 "])
def test_dates(text):
    assert parse_date(text) == dt.date(2024, 11, 14)


@pytest.mark.parametrize("text", ["", "2024", "14.11.2024", "20241314", "2024-1114", "20240230"])
def test_no_dates(text):
    with pytest.raises(UsageError, match="is no date") as caught:
        parse_date(text)
    assert "20241114" in caught.value.hint


@given(st.text())
def test_any_text_is_a_date_or_a_usage_error(text):
    with contextlib.suppress(UsageError):
        assert isinstance(parse_date(text), dt.date)


@given(st.dates(min_value=dt.date(1000, 1, 1)))
def test_a_date_comes_back(date):
    assert parse_date(date.isoformat()) == date == parse_date(date.strftime("%Y%m%d"))


def test_numbers():
    numbers = parse_numbers("100-120, 130,131")
    assert str(numbers) == "100-120,130-131"
    assert 100 in numbers
    assert 120 in numbers
    assert 121 not in numbers
    assert 130 in numbers
    assert None not in numbers
    assert not numbers.is_all


def test_no_numbers_means_all():
    numbers = parse_numbers(None)
    assert numbers.is_all
    assert 0 in numbers
    assert None in numbers
    assert str(numbers) == "all"


def test_a_huge_range_costs_nothing():
    assert 10**15 in parse_numbers("0-999999999999999999")


@pytest.mark.parametrize(
    "text", ["", ",", "1,", "a", "-5", "5-", "1-2-3", "120-100", "1.5", "\u0661"]
)
def test_rubbish(text):
    with pytest.raises(UsageError) as caught:
        parse_numbers(text)
    assert caught.value.hint


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 9)), min_size=1))
def test_numbers_are_those_that_were_written(pairs):
    text = ",".join(f"{a}-{a + n}" if n else str(a) for a, n in pairs)
    expected = {i for a, n in pairs for i in range(a, a + n + 1)}
    numbers = parse_numbers(text)
    assert {i for i in range(70) if i in numbers} == expected
    assert parse_numbers(str(numbers)) == numbers


@given(st.text())
def test_any_text_is_numbers_or_a_usage_error(text):
    with contextlib.suppress(UsageError):
        assert isinstance(parse_numbers(text), Numbers)
