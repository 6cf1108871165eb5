"""What an entry is: a file, a directory, a link, or unknown."""

from __future__ import annotations

import pytest

from ctaflows.model import Checksum, Entry
from ctaflows.storage.links import Kind, kind_of, kind_of_both

ID, OTHER_ID = "00001D4FF89D1A604F0FA6A0B7C6A1E2C3D4", "0000E5AC5B0E8D214C6D8F4E0B1A2C3D4E5F"


def listed(**told: object) -> Entry:
    return Entry("/a", **{"size_bytes": 9, "locality": "ONLINE", **told})  # type: ignore[arg-type]


LOOKS_LIKE_A_LINK = listed(locality="UNAVAILABLE", etag=f'"{ID}_1"')
UNAVAILABLE = listed(locality="UNAVAILABLE", checksums=(Checksum("adler32", "0000000a"),))
DIRECTORY = Entry("/a", is_dir=True, etag=f'"{OTHER_ID}_1"')
UNDESCRIBED = Entry("/a", error="403 Forbidden")


@pytest.mark.parametrize(
    ("entry", "kind"),
    [
        (listed(), Kind.FILE),
        (listed(locality=None), Kind.FILE),  # another server than dCache
        (listed(locality="NEARLINE"), Kind.FILE),
        (listed(size_bytes=None), Kind.FILE),  # being uploaded
        (UNAVAILABLE, Kind.FILE),
        (DIRECTORY, Kind.DIRECTORY),
        (LOOKS_LIKE_A_LINK, Kind.UNKNOWN),
        (UNDESCRIBED, Kind.UNKNOWN),
    ],
)
def test_what_a_listing_tells(entry: Entry, kind: Kind) -> None:
    assert kind_of(entry) is kind


@pytest.mark.parametrize(
    ("shown", "itself", "kind"),
    [
        (LOOKS_LIKE_A_LINK, DIRECTORY, Kind.LINK),
        (LOOKS_LIKE_A_LINK, listed(etag=f'"{OTHER_ID}_1"'), Kind.LINK),
        (LOOKS_LIKE_A_LINK, None, Kind.LINK),  # to what is not there
        (LOOKS_LIKE_A_LINK, listed(locality="UNAVAILABLE", etag=f'"{ID}_2"'), Kind.FILE),
        (listed(etag=f'"{ID}_1"'), listed(etag=f'W/"{ID}_1"'), Kind.FILE),
        (listed(locality=None, etag='"1_1"'), listed(locality=None, etag='"2_1"'), Kind.FILE),
        (DIRECTORY, DIRECTORY, Kind.DIRECTORY),
        (UNDESCRIBED, DIRECTORY, Kind.UNKNOWN),
        (None, DIRECTORY, Kind.UNKNOWN),
    ],
)
def test_what_both_descriptions_tell(shown: Entry | None, itself: Entry | None, kind: Kind) -> None:
    assert kind_of_both(shown, itself) is kind
