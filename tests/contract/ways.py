"""What is known of a storage server's ways, found out with a few careful requests, as a table.

`Ways` is data: nothing here says what is right. The names of the fields and the order of the rows
are those of the table in docs/contract.md.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urljoin, urlsplit

from putkit import put
from sinkkit import receive

from ctaflows.errors import CtaflowsError, NetworkError
from ctaflows.model import Record
from ctaflows.retry import Retries
from ctaflows.storage.checksum import WANT_DIGEST
from ctaflows.storage.webdav import WebDAVStorage, digests
from ctaflows.transport import REDIRECTS, origin
from ctaflows.transport.ask import ask
from ctaflows.transport.driver import run_journey
from ctaflows.transport.wishes import Request

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from targets import Place

    from ctaflows.model import Checksum
    from ctaflows.transport.wishes import Response

#: Names that servers differ about, each with the word that the table has for it.
NAMES = {
    "a b": "space",
    " c ": "outer space",
    "d100%": "%",
    "f#g": "#",
    "j;k": ";",
    "l+m&n=o": "+ & =",
    "p\\q": "\\",
    "[r]<s>|'t'\"u\"": "brackets, quotes",
    "e%41": "%41",
    "h?i": "?",
    "é–ü星": "composed Unicode",
    "v\N{COMBINING ACUTE ACCENT}": "decomposed Unicode",
    ".w": "a dot first",
    ".(x)": ".( first",
}
#: Those which are about where a character stands; and XRootD 5.5 ends a name at a ``?``.
_ALONE = (" c ", "h?i", ".w", ".(x)")


def joined(names: Iterable[str]) -> list[str]:
    """Return fewer names in which some of `NAMES` stand: one for all that can stand in the middle.

    A server that takes this one takes each of them.
    """
    names = [*names]
    inner = "".join(name for name in names if name not in _ALONE)
    return [*([inner] if inner else []), *(name for name in names if name in _ALONE)]


#: Directories of the probe: four levels below the first.
_DEEP = "d/e/p/t/h"
_DATA, _OTHER = b"0123456789", b"9876543210"
_ANY = frozenset({*range(200, 300), *range(400, 600)})
_BODY = b'<?xml version="1.0"?><propfind xmlns="DAV:"><prop><resourcetype/></prop></propfind>'


def _row(label: str) -> Any:
    """Return the field of a row of the table; None where the storage has no such request."""
    return field(default=None, metadata={"label": label})


@dataclass(frozen=True)
class Ways(Record):
    """How a server answers, as far as servers differ. A number is the status of an answer.

    Attributes
    ----------
    server : str
        Its ``Server`` header.
    """

    server: str = field(default="unknown", metadata={"label": "Server"})
    dav: str | None = _row("compliance classes (DAV)")
    checksums: tuple[str, ...] = field(default=(), metadata={"label": "checksums"})
    checksums_in: tuple[str, ...] = field(default=(), metadata={"label": "checksums in answers to"})
    locality: bool = field(default=False, metadata={"label": "says where a file is (locality)"})
    etag: str | None = _row("ETag in listings, of a file just written")
    etag_changes: bool | None = _row("another ETag within the second, when written anew")
    read_redirect: str | None = _row("redirect of GET")
    write_redirect: str | None = _row("redirect of PUT")
    ranges: str | None = _row("a range")
    open_range: str | None = _row("range without an end")
    several_ranges: str | None = _row("several ranges")
    range_beyond: str | None = _row("range behind the end")
    length_of_empty: bool | None = _row("HEAD tells the length of an empty file")
    missing_list: str | None = _row("PROPFIND of what is missing")
    missing_read: str | None = _row("GET with Want-Digest of what is missing")
    missing_delete: str | None = _row("DELETE of what is missing")
    read_directory: str | None = _row("GET of a directory")
    depth_infinity: str | None = _row("Depth: infinity")
    put_into_missing: str | None = _row("PUT into a missing directory")
    put_onto_directory: str | None = _row("PUT onto a directory")
    put_below_file: str | None = _row("PUT below a file")
    mkcol_again: str | None = _row("MKCOL of a directory that is there")
    mkcol_onto_file: str | None = _row("MKCOL of a file")
    mkcol_into_missing: str | None = _row("MKCOL in a missing directory")
    move_onto: str | None = _row("MOVE onto a file, Overwrite: F")
    move_onto_unsaid: str | None = _row("MOVE onto a file, no Overwrite")
    move_into_missing: str | None = _row("MOVE into a missing directory")
    move_directory: str | None = _row("MOVE of a directory, no slash at the end")
    cannot_hold: tuple[str, ...] = field(
        default=(), metadata={"label": "names that PUT or GET does not take"}
    )
    cannot_move_to: tuple[str, ...] = field(
        default=(), metadata={"label": "names that it holds, and that a move does not give"}
    )
    unlisted: tuple[str, ...] = field(
        default=(), metadata={"label": "names that it holds, and lists otherwise or not at all"}
    )

    def summary(self) -> str:
        """Return the most important ways in a line."""
        moved = [
            what
            for what, how in (("read", self.read_redirect), ("write", self.write_redirect))
            if how not in (None, "none")
        ]
        parts = [
            "checksums " + (", ".join(self.checksums) or "none"),
            "redirects on " + " and ".join(moved) if moved else "no redirects",
            "ranges" if self.ranges == "206, these bytes" else "no ranges",
        ]
        if lacking := (*self.cannot_hold, *self.cannot_move_to):
            parts.append("does not take names with " + ", ".join(lacking))
        return f"{self.server}: " + "; ".join(parts)

    def can_upload(self, name: str) -> bool:
        """Return whether a name of `NAMES` can be written, read, and given by MOVE."""
        return NAMES[name] not in (*self.cannot_hold, *self.cannot_move_to)

    def cells(self) -> dict[str, str]:
        """Return the rows of the table: label and value; of the server its name and version."""
        rows = {f.metadata["label"]: _text(getattr(self, f.name)) for f in fields(self)}
        return rows | {"Server": self.server.partition(" ")[0]}


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple | list):
        return ", ".join(value) or "none"
    return "–" if value is None else str(value)


def table(columns: dict[str, dict[str, str]]) -> list[str]:
    """Return the ways of some servers side by side, from `Ways.cells`, as lines of Markdown."""
    labels = [f.metadata["label"] for f in fields(Ways)]
    rows = [["", *columns]]
    rows += [[label, *(cells.get(label, "") for cells in columns.values())] for label in labels]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    return [lines[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *lines[1:]]


def columns_of(lines: list[str]) -> dict[str, dict[str, str]]:
    """Return the columns of a table that `table` wrote."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    titles = rows[0][1:] if rows else []
    return {title: {row[0]: row[n] for row in rows[2:]} for n, title in enumerate(titles, start=1)}


def probe(place: Place) -> Ways:
    """Find out a server's ways, with some 100 requests within a directory, which it makes."""
    storage = place.storage
    path = place.put("file", _DATA)
    entry, head = storage.stat(path), receive(storage, path).head
    told = {
        "PROPFIND": entry.checksums,
        "HEAD": storage.checksums(path),
        "GET": digests(head),
        "PUT": put(storage, f"{place.to}/file", _DATA).checksums,
    }
    if not isinstance(storage, WebDAVStorage):
        told.pop("HEAD")  # there is none: it asks as `stat` does
    found: dict[str, Any] = {
        "server": head.headers.get("server", "unknown"),
        "checksums": _algorithms(told.values()),
        "checksums_in": tuple(name for name, sums in told.items() if sums),
        "locality": entry.locality is not None,
        "etag": _kind_of_etag(entry.etag),
    }
    if isinstance(storage, WebDAVStorage):
        found |= _Probe(storage, place).found(entry.etag)
    return Ways(**found)


def _algorithms(told: Iterable[Sequence[Checksum]]) -> tuple[str, ...]:
    return tuple(sorted({checksum.algorithm for some in told for checksum in some}))


def _kind_of_etag(etag: str | None) -> str:
    return "none" if etag is None else "weak" if etag.startswith("W/") else "strong"


class _Probe:
    """Sends WebDAV requests by the storage's transport, and takes any answer.

    There is a file of 10 bytes in the directory already.
    """

    def __init__(self, storage: WebDAVStorage, place: Place) -> None:
        self._storage, self._place, self._folder = storage, place, place.at

    def found(self, etag: str | None) -> dict[str, Any]:
        """Return the ways that only WebDAV has, by the names of the fields.

        The ETag is that of the file as it was first written.
        """
        return {
            "dav": self._ask("OPTIONS", "").headers.get("dav", "none"),
            **self._redirects(),
            **self._ranges(),
            **self._etags(etag),
            **self._missing(),
            **self._directories(),
            **self._moves(),
            **self._names(),
        }

    def _url(self, name: str) -> str:
        return self._storage._url(f"{self._folder}/{name}".rstrip("/")) + "/" * name.endswith("/")

    def _ask(
        self,
        method: str,
        name: str,
        *,
        content: bytes | None = None,
        redirects: bool = True,
        headers: dict[str, str] | None = None,
    ) -> Response:
        """Return the answer of whatever status, with the start of its body."""
        lines = tuple(f"{name}: {value}".encode() for name, value in (headers or {}).items())
        request = Request(
            method,
            self._url(name),
            lines,
            body=content,
            good=_ANY if redirects else _ANY | REDIRECTS,
            leads_on=redirects,
        )
        session = self._storage.session
        return run_journey(ask(request, session, Retries(session.settings)), session)

    def _status(self, method: str, name: str, **how: Any) -> str:
        return str(self._ask(method, name, **how).status)

    def _read(self, method: str, name: str, headers: dict[str, str], body: bytes = b"") -> Response:
        """Return the answer of whatever status, with its body."""
        return self._ask(method, name, headers=headers, content=body or None)

    def _redirects(self) -> dict[str, Any]:
        server = (
            self._storage.server_name()
        )  # XRootD waits for ever for an empty body after its 100
        asked = {} if "xrootd" in server else {"Expect": "100-continue"}
        written = self._ask("PUT", "empty", content=b"", redirects=False, headers=asked)
        if written.status in REDIRECTS:  # an entry may be there that waits for its bytes
            self._ask("DELETE", "empty")
            self._place.put("empty", b"")
        found = self._storage.stat(f"{self._folder}/empty")
        told = self._ask("HEAD", "empty").headers.get("content-length")
        assert found.size_bytes == 0
        return {
            "read_redirect": _redirect(self._ask("GET", "file", redirects=False)),
            "write_redirect": _redirect(written),
            "length_of_empty": told == "0",
        }

    def _ranges(self) -> dict[str, Any]:
        def part(which: str, wanted: bytes | None = None) -> str:
            try:
                answer = self._read("GET", "file", {"Range": f"bytes={which}"})
            except NetworkError:
                return "the connection breaks"
            if answer.status >= 300:
                has_range = "content-range" in answer.headers
                return f"{answer.status} {'with' if has_range else 'without'} Content-Range"
            kind = answer.headers.get("content-type", "").partition(";")[0]
            whats = {_DATA: "the whole", wanted: "these bytes", b"": "no bytes"}
            return f"{answer.status}, {whats.get(answer.body, kind)}"

        return {
            "ranges": part("2-4", _DATA[2:5]),
            "open_range": part("5-", _DATA[5:]),
            "several_ranges": part("0-1,4-5"),
            "range_beyond": part("100-110"),
        }

    def _etags(self, first: str | None) -> dict[str, Any]:
        """Write a file anew twice: an ETag of size and whole seconds stays the same once."""
        tags = [first]
        for content in (_OTHER, _DATA) if first is not None else ():
            self._place.put("file", content)
            tags.append(self._storage.stat(f"{self._folder}/file").etag)
        return {"etag_changes": None if first is None else len(set(tags)) == len(tags)}

    def _missing(self) -> dict[str, Any]:
        return {
            "missing_list": self._status("PROPFIND", "gone", headers={"Depth": "1"}),
            "missing_read": self._status("GET", "gone", headers={"Want-Digest": WANT_DIGEST}),
            "missing_delete": self._status("DELETE", "gone"),
        }

    def _directories(self) -> dict[str, Any]:
        for end in range(1, len(_DEEP) + 1, 2):
            self._storage.mkdir(f"{self._folder}/{_DEEP[:end]}")
        body = self._read("PROPFIND", "d/", {"Depth": "infinity"}, _BODY)
        return {
            "read_directory": self._status("GET", "d/", redirects=False),
            "depth_infinity": f"{body.status}{self._levels(body)}",
            "put_into_missing": self._status("PUT", "new/x", content=b"x"),
            "put_onto_directory": self._status("PUT", "d", content=b"x"),
            "put_below_file": self._status("PUT", "file/x", content=b"x"),
            "mkcol_again": self._status("MKCOL", "d/"),
            "mkcol_onto_file": self._status("MKCOL", "file/"),
            "mkcol_into_missing": self._status("MKCOL", "no/x/"),
        }

    def _levels(self, answer: Response) -> str:
        if answer.status != 207:
            return ""
        hrefs = re.findall(r"href>([^<]*)<", answer.body.decode("utf-8", "replace"))
        paths = {unquote(urlsplit(href).path).rstrip("/") for href in hrefs}
        n_levels = sum(f"{self._folder}/d/" in path for path in paths)
        return ", all levels" if n_levels == 4 else f", {n_levels} levels below"

    def _moves(self) -> dict[str, Any]:
        small, found, is_there = b"small", {}, False
        for name, target, overwrite in (
            ("move_onto", "file", {"Overwrite": "F"}),
            ("move_onto_unsaid", "file", {}),
            ("move_into_missing", "none/such", {"Overwrite": "F"}),
        ):
            if not is_there:
                self._place.put("one", small)
            headers = {"Destination": self._url(target), **overwrite}
            status = self._status("MOVE", "one", headers=headers)
            there = self._storage.exists(f"{self._folder}/{target}")
            is_there = there is None or there.size_bytes != len(small)
            found[name] = f"{status}, {'refused' if is_there else 'done'}"
            if target == "file" and not is_there:
                self._place.put("file", _DATA)
        headers = {"Destination": self._url(f"{_DEEP}s"), "Overwrite": "F"}
        return found | {"move_directory": self._status("MOVE", _DEEP, headers=headers)}

    def _names(self) -> dict[str, Any]:
        """Write files of odd names, look whether they are there, and move them to the like names.

        Several names are tried as one, and by halves where a server does not take it as it is.
        """
        held, listed, moved = set(NAMES), set(NAMES), set(NAMES)
        groups = [[name for name in NAMES if name not in _ALONE], *([name] for name in _ALONE)]
        while groups:
            tried = {"".join(group): group for group in groups}
            groups = []
            there = {name for name in tried if self._holds(name)}
            shown = {entry.name for entry in self._storage.list(f"{self._folder}/d")}
            for name, group in tried.items():
                if len(group) == 1:
                    held -= set(group) - there
                    listed -= set(group) - shown
                    if name in there and not self._moves_to(name):
                        moved.discard(name)
                elif name not in there & shown or not self._moves_to(name):
                    half = len(group) // 2
                    groups += [group[:half], group[half:]]
        return {
            "cannot_hold": tuple(NAMES[n] for n in NAMES if n not in held),
            "cannot_move_to": tuple(NAMES[n] for n in NAMES if n in held and n not in moved),
            "unlisted": tuple(NAMES[n] for n in NAMES if n in held and n not in listed),
        }

    def _holds(self, name: str) -> bool:
        """Return whether a file can be written under a name, and is read by it."""
        try:
            self._place.put(f"d/{name}", name.encode())
            # without Want-Digest, which is not for what a `?` is followed by (XRootD 5.5 crashes)
            return self._read("GET", f"d/{name}", {}).body == name.encode()
        except CtaflowsError:
            return False

    def _moves_to(self, name: str) -> bool:
        source, target = f"{self._folder}/d/{name}", f"{self._folder}/d/e/{name}"
        with contextlib.suppress(CtaflowsError):
            self._storage.move(source, target)
            if self._storage.exists(target) is not None:
                self._place.made -= {source}
                self._place.made |= {target}
                return True
        return False


def _redirect(answer: Response) -> str:
    """Return the status of a redirect and where it leads; ``none`` for another answer."""
    if answer.status not in REDIRECTS:
        return "none"
    target = urljoin(answer.url, answer.headers.get("location", ""))
    where = "here" if origin(target) == origin(answer.url) else "to another server"
    return f"{answer.status} {where}, {urlsplit(target).scheme}"
