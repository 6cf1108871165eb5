"""A file read where it is, on real servers: never the bytes of two files."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

import pytest

from ctaflows.errors import SourceChanged
from ctaflows.storage.remote_file import RemoteFile

if TYPE_CHECKING:
    from serverplace import Place

    from ctaflows.storage.webdav import WebDAVStorage

DATA = random.Random(5).randbytes(2_000_000)


@pytest.mark.parametrize("grown", [0, 7])
def test_a_file_that_is_replaced_is_noticed(place: Place, door: WebDAVStorage, grown: int) -> None:
    path = place.put("a.h5", DATA)
    with RemoteFile(door, door.stat(path)) as file:
        file.read_at(0, 10)
        other = place.folder / "other"
        other.write_bytes(random.Random(7).randbytes(len(DATA) + grown))
        before = (place.folder / "a.h5").stat().st_mtime
        os.utime(other, (before + 2, before + 2))
        other.replace(place.folder / "a.h5")
        with pytest.raises(SourceChanged):
            file.read_at(1_000_000, 10)
