"""A checksum that only a later answer tells is compared with the whole file."""

from __future__ import annotations

import threading
import zlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from ctaflows.transfer.copy import Copy
from ctaflows.transfer.part_file import Part

from ctaflows.errors import ChecksumMismatch
from ctaflows.model import Entry
from ctaflows.transport import Head

if TYPE_CHECKING:
    from pathlib import Path

FIRST, THEN = b"a" * 5000, b"b" * 3000
DIGEST = f"adler32={zlib.adler32(FIRST + THEN):08x}"
ENTRY = Entry("/n/x.h5", False, len(FIRST + THEN), datetime(2024, 11, 14, tzinfo=UTC))


def copied(part: Part, then: bytes, *, keeps_sum: bool) -> Copy:
    copy = Copy(part, ENTRY, threading.Event(), keeps_sum=keeps_sum)
    whole, rest = {"content-length": "8000"}, {"content-length": "3000", "digest": DIGEST}
    rest["content-range"] = "bytes 5000-7999/8000"
    copy.begin(Head(200, "https://door.example.org/n/x.h5", whole, 0))
    copy.take([FIRST])
    copy.begin(Head(206, "https://door.example.org/n/x.h5", rest, 0))
    copy.take([then])
    copy.ended()
    return copy


@pytest.mark.parametrize("keeps_sum", [True, False])
def test_it_is_compared(tmp_path: Path, keeps_sum: bool) -> None:
    with Part(tmp_path / "x.h5", ENTRY) as part:
        ours, is_verified = copied(part, THEN, keeps_sum=keeps_sum).proof()
    assert is_verified
    assert str(ours) == DIGEST.replace("=", ":")


@pytest.mark.parametrize("keeps_sum", [True, False])
def test_wrong_bytes_are_found(tmp_path: Path, keeps_sum: bool) -> None:
    with Part(tmp_path / "x.h5", ENTRY) as part:
        copy = copied(part, THEN[:-1] + b"c", keeps_sum=keeps_sum)
        with pytest.raises(ChecksumMismatch):
            copy.proof()
