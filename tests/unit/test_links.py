"""Symbolic links: told from files by the two descriptions of a path."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from ctaflows.errors import (
    DoorBusy,
    Nearline,
    NotFound,
    Refused,
    Stopped,
    StorageError,
    TokenExpired,
)
from ctaflows.model import Checksum, Entry
from ctaflows.storage.links import pnfsid, refuse_link, resolved

ID, OTHER_ID = "00001D4FF89D1A604F0FA6A0B7C6A1E2C3D4", "0000E5AC5B0E8D214C6D8F4E0B1A2C3D4E5F"
SUM = (Checksum("adler32", "0000000a"),)


def listed(**told: object) -> Entry:
    return Entry("/a", **{"size_bytes": 9, "locality": "ONLINE", **told})  # type: ignore[arg-type]


LIKE_A_LINK = listed(locality="UNAVAILABLE", etag=f'"{ID}_1"')
FILE = listed(size_bytes=20_480, checksums=SUM, etag=f'"{OTHER_ID}_1"')
DIRECTORY = Entry("/a", is_dir=True, etag=f'"{OTHER_ID}_1"')


def resolve(entry: Entry, itself: Entry | Exception) -> Entry:
    def describe(path: str) -> Entry:
        assert path == entry.path
        if isinstance(itself, Exception):
            raise itself
        return itself

    [found] = resolved([entry], describe, 2, threading.Event())
    return found


@pytest.mark.parametrize(
    "entry",
    [
        listed(),
        listed(locality=None),  # another server than dCache
        listed(locality="NEARLINE"),
        listed(size_bytes=None),  # being uploaded
        listed(locality="UNAVAILABLE", checksums=SUM),
        listed(locality="UNAVAILABLE", size_bytes=4097),  # longer than a link's text can be
        DIRECTORY,
        Entry("/a", error="403 Forbidden"),
    ],
)
def test_nothing_is_asked_about_what_is_not_listed_like_a_link(entry: Entry) -> None:
    assert resolve(entry, AssertionError("it was asked for")) == entry


@pytest.mark.parametrize(
    ("itself", "found"),
    [
        (FILE, replace(FILE, link="file")),
        (DIRECTORY, replace(DIRECTORY, is_dir=False, link="directory")),
        (NotFound("nothing"), Entry("/a", etag=LIKE_A_LINK.etag, link="nothing")),
        (listed(locality="UNAVAILABLE", etag=f'W/"{ID}_2"'), LIKE_A_LINK),  # the file is lost
        (listed(locality="UNAVAILABLE"), LIKE_A_LINK),
    ],
)
def test_what_is_listed_like_a_link_is_what_its_own_description_says(
    itself: Entry | Exception, found: Entry
) -> None:
    assert resolve(LIKE_A_LINK, itself) == found


@pytest.mark.parametrize("why", [Refused("not allowed", status=403), DoorBusy("busy")])
def test_what_can_t_be_described_is_unknown(why: Exception) -> None:
    found = resolve(LIKE_A_LINK, why)
    assert found.kind == "unknown"
    assert found.link is None
    assert "perhaps a symbolic link" in (found.error or "")


@pytest.mark.parametrize("why", [Refused("login", status=401), TokenExpired("over"), Stopped("")])
def test_a_token_that_is_not_accepted_ends_the_listing(why: Exception) -> None:
    with pytest.raises(type(why)):
        resolve(LIKE_A_LINK, why)


@pytest.mark.parametrize(
    ("etag", "own"),
    [(f'"{ID}_702061217"', ID), (f'W/"{ID}_1"', ID), ('"5f3-1_2"', None), ("", None), (None, None)],
)
def test_the_pnfsid_begins_the_etag_of_dcache(etag: str | None, own: str | None) -> None:
    assert pnfsid(Entry("/a", etag=etag)) == own


@pytest.mark.parametrize(
    "why", [Nearline("on tape", status=403), Refused("not allowed", status=403)]
)
def test_what_a_listing_does_not_tell_is_not_taken_for_a_directory(why: Exception) -> None:
    class Unlisted:
        def list(self, path: str) -> list[Entry]:
            raise why

    refuse_link(Unlisted(), "/a", itself=DIRECTORY)
    with pytest.raises(StorageError, match="can't be told"):
        refuse_link(Unlisted(), "/a", itself=DIRECTORY, must_be_known=True)
