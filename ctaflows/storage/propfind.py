"""The bytes of a multistatus (RFC 4918) become entries while they arrive. Pure: no I/O.

Rules learned from dCache 12.1: only propstats of status 200 count, since unknown properties stand
in a second one of 404 (WorkaroundsResponseHandler.java); names are percent-encoded and compared
decoded; a file that is being uploaded has no length (DcacheFileResource.java).
"""

from __future__ import annotations

import email.utils
from datetime import UTC, datetime
from typing import Any
from xml.parsers import expat

from ctaflows.errors import ListingUnreadable, ProtocolSurprise
from ctaflows.model import Entry
from ctaflows.storage import paths
from ctaflows.storage.checksum import parse_digests

#: The properties are named, so that a door need not send all it has, and because Checksums comes
#: only when it is asked for by name.
BODY = (
    b'<?xml version="1.0" encoding="utf-8"?>'
    b'<D:propfind xmlns:D="DAV:" xmlns:d="http://www.dcache.org/2013/webdav"'
    b' xmlns:s="http://srm.lbl.gov/StorageResourceManager"><D:prop>'
    b"<D:resourcetype/><D:getcontentlength/><D:getlastmodified/><D:getetag/>"
    b"<d:Checksums/><s:FileLocality/>"
    b"</D:prop></D:propfind>"
)

_DAV = "DAV: "
_KEYS = {
    "DAV: getcontentlength": "size",
    "DAV: getlastmodified": "mtime",
    "DAV: getetag": "etag",
    "http://www.dcache.org/2013/webdav Checksums": "checksums",
    "http://srm.lbl.gov/StorageResourceManager FileLocality": "locality",
}
_MAX_TEXT = 1 << 16
_MAX_DEPTH = 32
_MAX_IDLE = 1 << 20  # bytes without the begin or end of an element


class MultistatusParser:
    """Turns the body of a PROPFIND of depth 0 or 1 into entries.

    Parameters
    ----------
    path : str
        Normalised path that was asked for.

    Attributes
    ----------
    itself : Entry or None
        The entry of ``path`` itself, once it has been read.
    n_responses : int
        How many responses were read; none at all is no listing.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.itself: Entry | None = None
        self.n_responses = 0
        self._ready: list[Entry] = []
        self._depth = 0
        self._text: list[str] = []
        self._n_text = 0
        self._n_idle = 0
        self._in_propstat = False
        self._own_status = ""
        self._href = ""
        self._values: dict[str, str] = {}
        self._propstat: dict[str, str] = {}
        self._status = ""
        self._parser = expat.ParserCreate(namespace_separator=" ")
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._data
        self._parser.StartDoctypeDeclHandler = self._doctype

    def feed(self, data: bytes, *, last: bool = False) -> list[Entry]:
        """Take in the next bytes and give the children that are complete.

        Raises
        ------
        ListingUnreadable
            The body is no XML, or it ends too early.
        ProtocolSurprise
            The body is XML that no WebDAV server has a reason to send.
        """
        self._n_idle += len(data)
        try:
            self._parser.Parse(data, last)
        except (expat.ExpatError, LookupError, ValueError) as why:  # also unknown encodings
            raise ListingUnreadable(
                "The listing is not readable",
                where=self.path,
                said=str(why),
                hint="A listing that breaks off is not an empty one: try again.",
            ) from None
        if self._n_idle > _MAX_IDLE:
            raise ProtocolSurprise("The listing holds a thing without end", where=self.path)
        ready, self._ready = self._ready, []
        return ready

    def close(self) -> list[Entry]:
        """Say that the body has ended, and give the last children."""
        ready = self.feed(b"", last=True)
        if self.n_responses == 0:
            raise ListingUnreadable(
                "The door's listing is empty, without even the directory itself",
                where=self.path,
                hint="A door shows a directory that it can't read like this: check your rights.",
            )
        return ready

    def _doctype(self, *_: Any) -> None:
        raise ProtocolSurprise("The listing defines entities of its own", where=self.path)

    def _start(self, name: str, _: Any) -> None:
        self._n_idle = 0
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise ProtocolSurprise("The listing is nested too deep", where=self.path)
        self._text, self._n_text = [], 0
        if name == _DAV + "response":
            self._href, self._values, self._own_status = "", {}, ""
        elif name == _DAV + "propstat":
            self._propstat, self._status, self._in_propstat = {}, "", True
        elif name == _DAV + "collection":
            self._propstat["collection"] = "1"

    def _data(self, text: str) -> None:
        self._n_text += len(text)
        if self._n_text > _MAX_TEXT:
            raise ProtocolSurprise("The listing holds a value without end", where=self.path)
        self._text.append(text)

    def _end(self, name: str) -> None:
        self._n_idle = 0
        self._depth -= 1
        if name in _KEYS:
            self._propstat[_KEYS[name]] = "".join(self._text).strip()
        elif name == _DAV + "href" and not self._href:
            self._href = "".join(self._text).strip()
        elif name == _DAV + "status":
            text = "".join(self._text)
            self._status, self._own_status = (
                (text, self._own_status) if self._in_propstat else (self._status, text)
            )
        elif name == _DAV + "propstat":
            self._in_propstat = False
            if " 200" in self._status:
                self._values |= self._propstat
        elif name == _DAV + "response":
            self._finish()

    def _finish(self) -> None:
        self.n_responses += 1
        path = paths.child(self.path, self._href)
        if self._own_status and " 2" not in self._own_status:  # RFC 4918 §14.24: no properties
            if path is None:
                raise ListingUnreadable(
                    "The door can't list this", where=self.path, said=self._own_status
                )
            return
        entry = _entry(self.path if path is None else path, self._values)
        if path is None:
            self.itself = entry
        else:
            self._ready.append(entry)


def _entry(path: str, values: dict[str, str]) -> Entry:
    is_dir = "collection" in values
    size = values.get("size", "")
    return Entry(
        path=path,
        is_dir=is_dir,
        size_bytes=int(size) if _is_size(size) and not is_dir else None,
        mtime=http_date(values.get("mtime")),
        checksums=() if is_dir else parse_digests(values.get("checksums")),
        locality=values.get("locality") or None,
        etag=values.get("etag") or None,
    )


def _is_size(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 19


def http_date(text: str | None) -> datetime | None:
    """Read an HTTP date (RFC 9110 §5.6.7) as an aware time in UTC, or None."""
    try:
        moment = email.utils.parsedate_to_datetime(text or "")
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        return None
