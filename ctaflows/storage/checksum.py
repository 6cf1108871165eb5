"""Checksums of whole files: computed from a stream, and parsed from headers and properties.

Sources: RFC 3230 `Digest`, RFC 9530 `Repr-Digest`, and dCache's Checksums property (dCache 12.1,
Checksums.java): adler32 as hexadecimal digits, possibly without leading zeros; md5 and sha as
base64.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import TYPE_CHECKING, Protocol

from ctaflows.model import Checksum

try:  # five times as fast as zlib's, which takes a good part of a download's CPU time
    from zlib_ng.zlib_ng import adler32
except ImportError:  # there is no wheel for this platform
    from zlib import adler32

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = [
    "Hasher",
    "adler32",
    "best",
    "format_digest",
    "joined_adler32",
    "of_file",
    "parse_digests",
]

#: Value of the Want-Digest header of requests. Want-Repr-Digest is not sent: dCache prefers it to
#: Want-Digest, and it can't carry adler32, so that a file with adler32 alone would get no digest at
#: all (dCache commit b20368c27b; 11.2.5 ignores it).
WANT_DIGEST = "adler32;q=1,md5;q=0.5"

#: Algorithms, the strongest first.
PREFERENCE = ("sha512", "sha256", "md5", "adler32")
_BYTES = {"adler32": 4, "md5": 16, "sha256": 32, "sha512": 64}
_NAMES = {"adler32": "adler32", "md5": "md5", "sha-256": "sha256", "sha-512": "sha512"}
_READ_BYTES = 1 << 20
_ADLER_MODULUS = 65521


class _Hasher(Protocol):
    def update(self, data: bytes | memoryview, /) -> None: ...
    def hexdigest(self) -> str: ...


class _Adler32:
    def __init__(self) -> None:
        self._value = 1

    def update(self, data: bytes | memoryview, /) -> None:
        self._value = adler32(data, self._value)

    def hexdigest(self) -> str:
        return f"{self._value:08x}"


class Hasher:
    """Computes one checksum of bytes as they arrive.

    Parameters
    ----------
    algorithm : str
        ``adler32``, ``md5``, ``sha256`` or ``sha512``.
    """

    def __init__(self, algorithm: str) -> None:
        self.algorithm = algorithm
        self._inner: _Hasher = (
            _Adler32() if algorithm == "adler32" else hashlib.new(algorithm, usedforsecurity=False)
        )

    def update(self, data: bytes | memoryview) -> None:
        """Add the next bytes."""
        self._inner.update(data)

    def checksum(self) -> Checksum:
        """Return the checksum of all bytes so far."""
        return Checksum(self.algorithm, self._inner.hexdigest())


def joined_adler32(parts: Iterable[tuple[int, int]]) -> int:
    """Return the adler32 of a file, given those of its parts.

    With the two sums of RFC 1950 §8.2, modulo 65521: appending n bytes whose sums are a and b to
    data whose sums are A and B gives A + a - 1 and B + b + n (A - 1).

    Parameters
    ----------
    parts : iterable of (int, int)
        The adler32 of each part and its length in bytes, in the order of the file.
    """
    low, high = 1, 0
    for value, n_bytes in parts:
        high = (high + (value >> 16) + n_bytes * (low - 1)) % _ADLER_MODULUS
        low = (low + (value & 0xFFFF) - 1) % _ADLER_MODULUS
    return high << 16 | low


def of_file(path: Path, algorithm: str) -> Checksum:
    """Return the checksum of a local file.

    Parameters
    ----------
    path : Path
        A regular file.
    algorithm : str
        As for `Hasher`.

    Raises
    ------
    OSError
        The file can't be read.
    """
    hasher = Hasher(algorithm)
    with path.open("rb") as stream:
        while block := stream.read(_READ_BYTES):
            hasher.update(block)
    return hasher.checksum()


def best(checksums: Iterable[Checksum]) -> Checksum | None:
    """Return the strongest of some checksums that `Hasher` can compute, or None."""
    known = {c.algorithm: c for c in checksums}
    return next((known[a] for a in PREFERENCE if a in known), None) if known else None


def parse_digests(text: str | None) -> tuple[Checksum, ...]:
    """Return the checksums in a Digest or Repr-Digest header, or in dCache's Checksums property.

    Parameters
    ----------
    text : str or None
        Such as ``adler32=3da0195``, ``md5=<base64>,adler32=03da0195`` or ``sha-256=:<base64>:``.

    Returns
    -------
    tuple of Checksum
        The well-formed ones of known algorithms; others are ignored.
    """
    if not text:
        return ()
    found = []
    for item in text.split(","):
        name, _, value = item.strip().partition("=")
        algorithm = _NAMES.get(name.strip().lower())
        digits = _hex_digits(algorithm, value.strip()) if algorithm else None
        if algorithm and digits:
            found.append(Checksum(algorithm, digits))
    return tuple(found)


def format_digest(checksum: Checksum) -> str:
    """Return a checksum in the form of dCache's Digest header (RFC 3230)."""
    if checksum.algorithm == "adler32":
        return f"adler32={checksum.value}"
    name = {v: k for k, v in _NAMES.items()}[checksum.algorithm]
    return f"{name}={base64.b64encode(bytes.fromhex(checksum.value)).decode()}"


def _hex_digits(algorithm: str, value: str) -> str | None:
    n_bytes = _BYTES[algorithm]
    if algorithm == "adler32":
        if not value:
            return None
        digits = value.lower().rjust(8, "0")
        return digits if len(digits) == 8 and set(digits) <= set("0123456789abcdef") else None
    try:
        raw = base64.b64decode(value.strip(":"), validate=True)
    except (binascii.Error, ValueError):
        return None
    return raw.hex() if len(raw) == n_bytes else None
