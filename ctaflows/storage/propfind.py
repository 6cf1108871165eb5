"""An incremental parser of PROPFIND answers (207 Multi-Status, RFC 4918). Pure: no I/O.

With dCache 12.1 only propstats of status 200 count: unknown properties are in a second one, of
status 404 (WorkaroundsResponseHandler.java); hrefs are percent-encoded, and compared decoded; a
file that is being uploaded has no length (DcacheFileResource.java).

A response describes a child by its properties; or it has a status of its own in place of them
(such as 403, 423, 500 or 507; RFC 4918 §9.1 and §14.24), and becomes an entry with an ``error``.
Children with status 404 or 410 do not exist, and are left out.
"""

from __future__ import annotations

import functools
import re
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple
from xml.parsers import expat

from ctaflows.errors import ListingUnreadable, ProtocolSurprise
from ctaflows.model import Checksum, Entry
from ctaflows.storage import paths
from ctaflows.storage.checksum import parse_digests

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Body of the PROPFIND request. It names the properties (no allprop), since dCache sends Checksums
#: and FileLocality only if they are named (DcacheFileResource.java, dCache 12.1), and StoRM WebDAV
#: 1.8.1 its Checksum, an adler32.
BODY = (
    b'<?xml version="1.0" encoding="utf-8"?>'
    b'<D:propfind xmlns:D="DAV:" xmlns:d="http://www.dcache.org/2013/webdav"'
    b' xmlns:s="http://srm.lbl.gov/StorageResourceManager"'
    b' xmlns:t="http://storm.italiangrid.org/2014/webdav"><D:prop>'
    b"<D:resourcetype/><D:getcontentlength/><D:getlastmodified/><D:getetag/>"
    b"<d:Checksums/><s:FileLocality/><t:Checksum/>"
    b"</D:prop></D:propfind>"
)

_DAV = "DAV: "
_KEYS = {
    "DAV: getcontentlength": "size",
    "DAV: getlastmodified": "mtime",
    "DAV: getetag": "etag",
    "http://www.dcache.org/2013/webdav Checksums": "checksums",
    "http://storm.italiangrid.org/2014/webdav Checksum": "checksums",
    "http://srm.lbl.gov/StorageResourceManager FileLocality": "locality",
}
_RESPONSE_ENDS = re.compile(rb"</(?:[^<>\s/:]{1,32}:)?response\s*>")
_MAX_TEXT = 1 << 16  # characters of a value
_MAX_DEPTH = 32  # nested elements
_MAX_TAGLESS = 1 << 20  # bytes without the start or end of an element
_MAX_HELD = 1 << 16  # bytes of an incomplete response
_GONE = ("404", "410")
_NOWHERE = -1  # in place of an offset


# -- response patterns -----------------------------------------------------------------------------
#
# A faster way to parse responses that differ from an earlier one in their values only.
#
# A listing repeats the same response with other values. An XML parser with a callback for each tag
# takes 20 µs for each; a regular expression made from a parsed response takes 3. It consists of
# all bytes of that response but its values, which must be bytes without a special meaning in XML.
# So text that it matches, at a place of the same document where a response may begin, has the same
# structure, and the XML parser would return the same values.

#: The values that an entry is made of, in the order of the groups of a `ResponsePattern`.
KEYS = ("href", "size", "mtime", "checksums", "locality", "etag")

#: Printable ASCII without ``&``, ``<`` and ``>``, and without outer spaces: it needs no decoding.
_PLAIN = "(?! )[ !-%'-;=?-~]{0,4096}+(?<! )"
_is_plain = re.compile(_PLAIN).fullmatch

_MAX_COMPILED = 64
_compiled: dict[tuple[str, bool], ResponsePattern] = {}


class Value(NamedTuple):
    """The text of an element in a response, and the offset of its end tag in bytes."""

    text: str
    end: int


class ResponsePattern:
    """A compiled pattern of responses that differ in their values only.

    Parameters
    ----------
    pattern : str
        Regular expression from `pattern_of`.
    is_dir : bool
        Do these responses describe directories?

    Attributes
    ----------
    match : Callable
        `re.Pattern.match` of the pattern.
    groups : tuple of int
        Numbers of the groups with the values of `KEYS`.
    """

    def __init__(self, pattern: str, *, is_dir: bool) -> None:
        compiled = re.compile(pattern)
        self.is_dir = is_dir
        self.match = compiled.match
        # the last group is always empty: that of values which these responses do not have
        empty = compiled.groups
        self.groups = tuple(compiled.groupindex.get(key, empty) for key in KEYS)


def pattern_of(response: bytes, values: Mapping[str, Value]) -> str | None:
    """Return the pattern of all responses that differ from a given one in their values only.

    Parameters
    ----------
    response : bytes
        The response, from the first byte of its start tag to the last of its end tag.
    values : Mapping
        Its values, by `KEYS`; offsets count from its first byte. Empty values are ignored.

    Returns
    -------
    str or None
        A regular expression with a group for each value; None where a value is not plain text
        between two tags.
    """
    text = response.decode("latin-1")
    parts, done = [r"[ \t\r\n]*+"], 0
    for key, value in sorted(values.items(), key=lambda item: item[1].end):
        if not value.text:
            continue
        start = text.rfind(">", 0, value.end) + 1
        inner = text[start : value.end]
        between_tags = text.startswith("</", value.end) and text[start - 2 : start] != "/>"
        if not (between_tags and start > done and _is_plain(inner) and inner == value.text):
            return None
        parts += [re.escape(text[done:start]), f"(?P<{key}>{_PLAIN})"]
        done = value.end
    return "".join([*parts, re.escape(text[done:]), "()"])


class ResponsePatterns:
    """The patterns of responses that were learned from one document.

    Another document has patterns of its own: a namespace prefix may mean something else in it.

    Attributes
    ----------
    known : list of ResponsePattern
        Those to be matched, see `learn`.
    """

    #: Greatest number of patterns; further ones are left to the XML parser.
    most = 8

    def __init__(self) -> None:
        self.known: list[ResponsePattern] = []
        self._seen: set[tuple[str, bool]] = set()

    def learn(self, response: bytes, values: Mapping[str, Value], *, is_dir: bool) -> None:
        """Learn from a parsed response; the second with the same pattern makes it a known one.

        Parameters
        ----------
        response, values
            As for `pattern_of`.
        is_dir : bool
            Does it describe a directory?
        """
        if len(self._seen) >= self.most:
            return
        pattern = pattern_of(response, values)
        if pattern is None:
            return
        kind = (pattern, is_dir)
        compiled = _compiled.get(kind)
        if compiled is None and kind in self._seen:
            compiled = ResponsePattern(pattern, is_dir=is_dir)
            if len(_compiled) >= _MAX_COMPILED:
                _compiled.clear()
            _compiled[kind] = compiled
        self._seen.add(kind)
        if compiled is not None and compiled not in self.known:
            self.known.append(compiled)


# -- the multistatus -------------------------------------------------------------------------------

_NO_VALUE = Value("", _NOWHERE)


class MultistatusParser:
    """Parses the answer to a PROPFIND of depth 0 or 1 into entries, as its bytes arrive.

    An XML parser reads the first responses, and `ResponsePatterns` those like an earlier one.

    Parameters
    ----------
    path : str
        Normalised path that was requested.
    root : str
        The door's root on its server, see `paths.root_of`.

    Attributes
    ----------
    itself : Entry or None
        The entry of `path` itself, once it has been parsed.
    n_responses : int
        Number of responses parsed so far.
    """

    def __init__(self, path: str, root: str = "") -> None:
        self.path = path
        self._root, self._n_root = root, len(root)
        self.itself: Entry | None = None
        self.n_responses = 0
        self._base = root + path.rstrip("/") + "/"
        self._n_base = len(self._base)
        self._ready: list[Entry] = []
        self._held = b""
        self._patterns = ResponsePatterns()
        self._depth = 0
        self._text: list[str] = []
        self._n_text = 0
        self._n_tagless = 0
        self._n_parsed = 0
        self._is_between = False
        self._is_ascii = True
        self._began_at = self._ended_at = _NOWHERE
        self._in_propstat = False
        self._is_described = False
        self._own_status = ""
        self._href = _NO_VALUE
        self._further_hrefs: list[str] = []
        self._values: dict[str, Value] = {}
        self._propstat: dict[str, Value] = {}
        self._status = ""
        self._parser = expat.ParserCreate(namespace_separator=" ")
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._data
        self._parser.StartDoctypeDeclHandler = self._doctype
        self._parser.XmlDeclHandler = self._declaration

    def feed(self, data: bytes, *, last: bool = False) -> list[Entry]:
        """Parse the next bytes, and return the children that are complete.

        Parameters
        ----------
        data : bytes
            The bytes, split anywhere.
        last : bool
            Is this the end of the body?

        Returns
        -------
        list of Entry
            The children since the last call, without `path` itself, see `itself`.

        Raises
        ------
        ListingUnreadable
            The body is not well-formed XML or ends too early, or the door can't list the path.
        ProtocolSurprise
            The body is XML that no WebDAV server has a reason to send.
        """
        data = self._held + data
        text = data.decode("latin-1")
        done = self._match_patterns(text, 0)
        while (end := _RESPONSE_ENDS.search(data, done)) is not None:
            self._parse(data[done : end.end()])
            done = self._match_patterns(text, end.end())
        self._held = data[done:]
        if last or len(self._held) > _MAX_HELD:
            self._parse(self._held, last=last)
            self._held = b""
        ready, self._ready = self._ready, []
        return ready

    def close(self) -> list[Entry]:
        """Return the last children, after the end of the body.

        Raises
        ------
        ListingUnreadable
            The body is incomplete, or has no response at all.
        ProtocolSurprise
            As for `feed`.
        """
        ready = self.feed(b"", last=True)
        if self.n_responses == 0:
            raise ListingUnreadable(
                "The door's listing is empty, without even the directory itself",
                where=self.path,
                hint="A door answers so for a directory it can't read: check your permissions.",
            )
        return ready

    def _match_patterns(self, text: str, start: int) -> int:
        """Read responses that match a known pattern; return the offset of the first other one."""
        if not self._is_between:
            return start
        done = -1
        while done != start:
            done = start
            for pattern in self._patterns.known:
                while (found := pattern.match(text, start)) is not None:
                    start = found.end()
                    self._finish(pattern.is_dir, *found.group(*pattern.groups))
        return done

    def _parse(self, data: bytes, *, last: bool = False) -> None:
        """Pass bytes, mostly one response, to the XML parser."""
        self._n_tagless += len(data)
        self._ended_at = -1
        try:
            self._parser.Parse(data, last)
        except (expat.ExpatError, LookupError, ValueError) as why:  # an unknown encoding, too
            raise ListingUnreadable(
                "The listing is not readable",
                where=self.path,
                said=str(why),
                hint="It may be incomplete: try again.",
            ) from None
        if self._n_tagless > _MAX_TAGLESS:
            raise ProtocolSurprise("An element of the listing is too long", where=self.path)
        self._learn_pattern(data)

    def _learn_pattern(self, data: bytes) -> None:
        """Learn the pattern of a response, if these bytes ended one, and set `_is_between`."""
        before, self._n_parsed = self._n_parsed, self._n_parsed + len(data)
        self._is_between = self._ended_at >= before and bool(
            _RESPONSE_ENDS.fullmatch(data, self._ended_at - before)
        )
        began = self._began_at
        is_plain = self._is_described and not self._own_status
        if self._is_between and self._is_ascii and is_plain and began >= before:
            values = {k: Value(v.text, v.end - began) for k, v in self._values.items()}
            is_dir = values.pop("collection", None) is not None
            values["href"] = Value(self._href.text, self._href.end - began)
            self._patterns.learn(data[began - before :], values, is_dir=is_dir)

    def _doctype(self, *_: Any) -> None:
        raise ProtocolSurprise("The listing has a document type declaration", where=self.path)

    def _declaration(self, _version: str, encoding: str | None, _standalone: int) -> None:
        self._is_ascii = encoding is None or encoding.lower() == "utf-8"

    def _start(self, name: str, _: Any) -> None:
        self._n_tagless = 0
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise ProtocolSurprise("The listing is nested too deeply", where=self.path)
        self._text, self._n_text = [], 0
        if name == _DAV + "response":
            self._began_at = self._parser.CurrentByteIndex if self._depth == 2 else _NOWHERE
            self._href, self._values, self._own_status = _NO_VALUE, {}, ""
            self._further_hrefs, self._status, self._is_described = [], "", False
        elif name == _DAV + "propstat":
            self._propstat, self._status, self._in_propstat = {}, "", True
        elif name == _DAV + "collection":
            self._propstat["collection"] = _NO_VALUE

    def _data(self, text: str) -> None:
        self._n_text += len(text)
        if self._n_text > _MAX_TEXT:
            raise ProtocolSurprise("A value in the listing is too long", where=self.path)
        self._text.append(text)

    def _end(self, name: str) -> None:
        self._n_tagless = 0
        self._depth -= 1
        if name in _KEYS:
            self._propstat[_KEYS[name]] = self._value()
        elif name == _DAV + "href":
            self._end_href()
        elif name == _DAV + "status":
            text = "".join(self._text)
            self._status, self._own_status = (
                (text, self._own_status) if self._in_propstat else (self._status, text)
            )
        elif name == _DAV + "propstat":
            self._in_propstat = False
            # dCache 11.2.5 has a file's resourcetype in the propstat of 404, too
            if " 200" in self._status:
                self._values |= self._propstat
                self._is_described = True
        elif name == _DAV + "response":
            self._ended_at = self._parser.CurrentByteIndex if self._depth == 1 else _NOWHERE
            self._end_response()

    def _value(self) -> Value:
        return Value("".join(self._text).strip(), self._parser.CurrentByteIndex)

    def _end_href(self) -> None:
        if not self._href.text:
            self._href = self._value()
        elif not self._in_propstat:  # a status may apply to several hrefs (RFC 4918 §14.24)
            self._further_hrefs.append(self._value().text)

    def _end_response(self) -> None:
        if self._is_described and " 2" in (self._own_status or " 2"):
            texts = [self._values.get(key, _NO_VALUE).text for key in KEYS[1:]]
            self._finish("collection" in self._values, self._href.text, *texts)
            return
        self.n_responses += 1
        said = " ".join((self._own_status or self._status).split()[1:]) or "no properties"
        for href in (self._href.text, *self._further_hrefs):
            path = paths.child(self.path, href, self._root)
            if path is None:
                raise ListingUnreadable(
                    "The door can't list the directory", where=self.path, said=said
                )
            if not self._own_status or said[:3] not in _GONE:
                self._ready.append(Entry(path, error=said))

    def _finish(
        self,
        is_dir: bool,
        href: str,
        size: str,
        mtime: str,
        checksums: str,
        locality: str,
        etag: str,
    ) -> None:
        """Add the entry of a response; speed counts: large directories have 50,000 entries."""
        self.n_responses += 1
        path: str | None = href[self._n_root :]
        if not (href.startswith(self._base) and _PLAIN_NAME(href, self._n_base)):
            path = paths.child(self.path, href, self._root)
        # XRootD 5.5 gives directories a length, too
        has_size = not is_dir and size.isdecimal() and size.isascii() and len(size) < 19
        entry = Entry(
            path or self.path,
            is_dir,
            int(size) if has_size else None,
            http_date(mtime) if mtime else None,
            () if is_dir or not checksums else _checksums(checksums),
            sys.intern(locality) if locality else None,
            etag or None,
        )
        if path is None:
            self.itself = entry
        else:
            self._ready.append(entry)


#: Names that need no decoding and no checks by `paths.child`.
_PLAIN_NAME = re.compile(r"(?!\.\.?\Z)[ !-$&-.0-~]{1,255}").fullmatch
_ADLER32 = re.compile("(?:adler32=)?[0-9a-f]{8}").fullmatch


def _checksums(text: str) -> tuple[Checksum, ...]:
    """Return what `parse_digests` does, faster for a single adler32, dCache's usual value.

    StoRM WebDAV 1.8.1 writes the digits alone.
    """
    return (Checksum("adler32", text[-8:]),) if _ADLER32(text) else parse_digests(text)


_MONTHS = {
    "Jan": "-01-", "Feb": "-02-", "Mar": "-03-", "Apr": "-04-", "May": "-05-", "Jun": "-06-",
    "Jul": "-07-", "Aug": "-08-", "Sep": "-09-", "Oct": "-10-", "Nov": "-11-", "Dec": "-12-",
}  # fmt: skip
_FIXDATE = re.compile(
    "[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [1-9][0-9]{3} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT"
).fullmatch


@functools.lru_cache(maxsize=1024)
def http_date(text: str | None) -> datetime | None:
    """Return an HTTP date (RFC 9110 §5.6.7) as an aware time in UTC; None where it is not one."""
    text = text or ""
    try:
        if _FIXDATE(text) and text[8:11] in _MONTHS:
            day = f"{text[12:16]}{_MONTHS[text[8:11]]}{text[5:7]}"
            return datetime.fromisoformat(f"{day}T{text[17:25]}+00:00")
        import email.utils  # with what it needs it takes 10 ms

        moment = email.utils.parsedate_to_datetime(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        return None
