"""Stores checksums where XRootD looks for them, before they are requested.

XRootD up to 5.8.3 computes a checksum in another thread than the one that answers over HTTP, and
the two race: an answer is wrong (404 "Could not run read request") or never comes, or the server
crashes (xrootd #2503, #2534; seen with 5.5.3, in one or two of a hundred GETs with Want-Digest).
A checksum that is stored is answered at once.
"""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

#: XrdCksData as XrdCksXAttr stores it (XRootD 5.5): name, mtime, age, reserved, length, value.
_LAYOUT = ">16sqiHBB64s"
_NAME = "user.XrdCks.adler32"
_BLOCK_BYTES = 1 << 20


def store(file: Path, adler32: int | None = None) -> None:
    """Store a file's adler32, or a given wrong one."""
    if adler32 is None:
        adler32 = 1
        with file.open("rb") as stream:
            while block := stream.read(_BLOCK_BYTES):
                adler32 = zlib.adler32(block, adler32)
    value = struct.pack(">I", adler32)
    age_s = 0  # a difference from mtime would make it stale
    mtime = int(file.stat().st_mtime)
    os.setxattr(
        file, _NAME, struct.pack(_LAYOUT, b"adler32", mtime, age_s, 0, 0, len(value), value)
    )


def store_all(folder: Path) -> None:
    """Store the adler32 of all files below a folder."""
    for where, _, names in os.walk(folder):
        for name in names:
            store(Path(where, name))
