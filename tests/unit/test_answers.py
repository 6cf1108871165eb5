"""Which answers are of the file that was asked for."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ctaflows.errors import SourceChanged
from ctaflows.model import Checksum, Entry
from ctaflows.storage.answers import check_version
from ctaflows.storage.range_reader import compare
from ctaflows.transport import Head

FILE = Entry("/a", size_bytes=5)
MON, TUE = "Mon, 18 Nov 2024 12:00:00 GMT", "Tue, 19 Nov 2024 12:00:00 GMT"


def answer(etag: str | None = None, last_modified: str | None = None, port: int = 1) -> Head:
    told = {"etag": etag, "last-modified": last_modified}
    headers = {name: value for name, value in told.items() if value}
    return Head(206, f"http://localhost:{port}/a", headers)


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ([answer(), answer()], [None, None]),
        ([answer('"1"', MON), answer('"1"', MON)], [None, True]),
        # servers leave them out of some answers, as RFC 9110 §15.3.7 allows for ranges
        ([answer('"1"', MON), answer(None, MON)], [None, True]),
        ([answer(None, MON), answer('"1"', MON)], [None, True]),
        ([answer('"1"'), answer(), answer(None, MON), answer('"1"', MON)],
         [None, None, None, True]),
        # a door and its pools write ETags each in its own way
        ([answer('"1"'), answer('"2"', port=2)], [None, None]),
    ],
)  # fmt: skip
def test_answers_of_one_version(answers: list[Head], said: list[bool | None]) -> None:
    versions: dict[str, list[str | None]] = {}
    assert [check_version(head, FILE, versions) for head in answers] == said


@pytest.mark.parametrize(
    "answers",
    [
        [answer('"1"'), answer('"2"')],
        [answer(None, MON), answer(None, TUE)],
        [answer('"1"', MON), answer('"1"', TUE)],
        [answer('"1"'), answer(), answer('"2"')],
        [answer(None, MON), answer('"1"', MON), answer('"2"', MON)],
    ],
)
def test_answers_of_two_versions(answers: list[Head]) -> None:
    versions: dict[str, list[str | None]] = {}
    for head in answers[:-1]:
        check_version(head, FILE, versions)
    with pytest.raises(SourceChanged, match="replaced"):
        check_version(answers[-1], FILE, versions)


NOON = datetime(2024, 11, 15, 12, tzinfo=UTC)
ADLER, MD5 = Checksum("adler32", "0000000a"), Checksum("md5", "aa")


def test_a_file_that_is_asked_for_once_more() -> None:
    before = Entry("/a", size_bytes=5, mtime=NOON, etag='"1"', checksums=(ADLER,))
    for told in ({"etag": '"1"'}, {"mtime": NOON}, {"mtime": NOON, "checksums": (MD5,)}, {}):
        compare(before, Entry("/a", size_bytes=5, **told))  # type: ignore[arg-type]
    for told in ({"etag": '"2"'}, {"etag": '"1"', "checksums": (Checksum("adler32", "0000000b"),)}):
        with pytest.raises(SourceChanged):
            compare(before, Entry("/a", size_bytes=5, **told))  # type: ignore[arg-type]
