"""The lies: what each does to the answers of a door that is otherwise honest."""

from __future__ import annotations

import functools
import gzip
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from benchmarks.trust.door import (
    AFTER,
    BEFORE,
    EVIL,
    Ask,
    File,
    Reply,
    Row,
    digest,
    evil,
    listing,
    moved,
    served,
    truth,
)

Answer = Callable[[Ask], Reply]

LARGE_BYTES = 64 << 20
#: How long the door stays silent.
SILENT_S = 5
_EXTRA_BYTES = 1000
PAGE = b"<html><head><title>Login</title></head><body>Please log in</body></html>\n" * 20


@dataclass(frozen=True, slots=True)
class Lie:
    """What a door does otherwise than it should.

    Attributes
    ----------
    name, sentence : str
        How it is called and described.
    answers : dict of str to callable
        By method, what is answered in place of the truth.
    has_sums : bool
        Whether the door has checksums.
    sum_is_wrong : bool
        Whether they are those of another file.
    least_bytes : int
        Told only of files of this size and more.
    also_right : dict of str to bytes
        Files that may be there too.
    """

    name: str
    sentence: str
    answers: Mapping[str, Answer] = field(default_factory=dict)
    has_sums: bool = True
    sum_is_wrong: bool = False
    least_bytes: int = 0
    also_right: Mapping[str, bytes] = field(default_factory=dict)


# -- one file --------------------------------------------------------------------------------------


def _once(lie: Answer, n: int = 1) -> Answer:
    """Lie the first n times."""
    return lambda ask: lie(ask) if ask.n <= n else truth(ask)


def _at(n: int, lie: Answer) -> Answer:
    """Lie the nth time."""
    return lambda ask: lie(ask) if ask.n == n else truth(ask)


def _after_break(lie: Answer, *, always: bool = False) -> Answer:
    """Break off the first time, in the middle; then lie to requests for the rest, or to all."""

    def answer(ask: Ask) -> Reply:
        if ask.start == 0 and ask.visit.first("break"):
            reply = served(ask)
            return replace(reply, keep=len(reply.body) // 2)
        if "break" in ask.visit.marks and (always or ask.start):
            return lie(ask)
        return truth(ask)

    return answer


def _text(status: int, body: bytes, kind: str = "text/plain", **headers: str) -> Answer:
    said = {"Content-Type": kind} | {k.replace("_", "-"): v for k, v in headers.items()}
    return lambda _: Reply(status, said, body)


_page = _text(200, PAGE, "text/html")
_staged = _text(202, b"being staged\n")
_busy = _text(503, b"busy\n", Retry_After="2")


@functools.lru_cache(maxsize=4)
def _flipped(data: bytes) -> bytes:
    middle = len(data) * 2 // 5
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def _flip(ask: Ask) -> Reply:
    return served(ask, _flipped(_of(ask).data))


def _cut(ask: Ask) -> Reply:
    reply = served(ask)
    return replace(reply, keep=max(len(_of(ask).data) // 2 - ask.start, 0))


def _half(ask: Ask) -> Reply:
    half = _of(ask).data[: len(_of(ask).data) // 2]
    return Reply(200, _of(ask).facts() | {"Digest": digest(half)}, half)


def _chunked(*, is_cut: bool) -> Answer:
    def answer(ask: Ask) -> Reply:
        half = _of(ask).data[: len(_of(ask).data) // 2]
        said = _of(ask).facts() | {"Transfer-Encoding": "chunked"}
        return Reply(200, said, half, keep=len(half) if is_cut else None)

    return answer


def _as(status: int, *, is_empty: bool = False) -> Answer:
    """Answer with the file's headers, and the whole or nothing, but another status."""
    return lambda ask: Reply(status, _of(ask).facts(), b"" if is_empty else _of(ask).data)


def _long(ask: Ask) -> Reply:
    data = _of(ask).data
    return Reply(200, _of(ask).facts(), data + b"Z" * _EXTRA_BYTES)


def _login(ask: Ask) -> Reply:
    return _page(ask) if "?" in ask.target else Reply(302, {"Location": f"{ask.target}?login"})


def _gzip(ask: Ask) -> Reply:
    said = _of(ask).facts() | {"Content-Encoding": "gzip"}
    return Reply(200, said, gzip.compress(_of(ask).data, 1))


def _range_off(ask: Ask) -> Reply:
    ask.start += 1
    return served(ask)


def _range_shifted(ask: Ask) -> Reply:
    reply = served(ask)
    return replace(reply, body=bytes(reply.body[1:]) + b"Z")


def _range_total(ask: Ask) -> Reply:
    reply = served(ask)
    total = len(_of(ask).data) + _EXTRA_BYTES
    said = {"Content-Range": f"bytes {ask.start}-{ask.end}/{total}"}
    return replace(reply, headers={**reply.headers, **said})


def _changed(modified: str) -> Answer:
    """Put another file in its place, and serve ranges of it whatever If-Range says."""

    def answer(ask: Ask) -> Reply:
        if ask.visit.first("change"):
            other = other_than(_of(ask).data)
            sum_of = other if ask.visit.lie.has_sums else None
            ask.file = File(other, tag='"v2"', modified=modified, sum_of=sum_of)
            ask.visit.files[ask.path] = ask.file
        return served(ask, heeds_if_range=False)

    return answer


def _lists_no_tag(ask: Ask) -> Reply:
    return listing([replace(row, has_tag=False) for row in ask.rows()])


def _elsewhere(base: str, status: int = 302) -> Answer:
    return lambda ask: Reply(status, {"Location": getattr(ask.door, base) + ask.target})


def _silent(ask: Ask) -> Reply:
    return replace(_cut(ask), pause_s=SILENT_S)


def _two_lengths(ask: Ask) -> Reply:
    size = len(_of(ask).data)
    two = {"Content-Length": str(size), "content-length": str(size // 2)}
    return Reply(200, _of(ask).facts() | two, _of(ask).data)


def _of(ask: Ask) -> File:
    if ask.file is None:
        raise LookupError(ask.path)
    return ask.file


@functools.lru_cache(maxsize=4)
def other_than(data: bytes) -> bytes:
    """Return other bytes of the same number: what a file is changed into."""
    return data[::-1]


def _get(name: str, sentence: str, answer: Answer, *, sums: bool = True, least: int = 0) -> Lie:
    return Lie(name, sentence, {"GET": answer}, has_sums=sums, least_bytes=least)


FILE_LIES = (
    Lie("honest", "no lie"),
    _get("break-once", "breaks off once in the middle; resumes as it should", _after_break(truth)),
    _get("flip", "one bit is wrong, each time", _flip),
    _get("flip-once", "one bit is wrong, the first time", _once(_flip)),
    Lie("other-digest", "right bytes, but the checksum of another file", sum_is_wrong=True),
    _get("cut", "breaks off in the middle, each time", _cut),
    _get("half", "half the body, with its own length and checksum", _half, sums=False),
    _get("half-once", "half the body, with its own length, the first time; no checksum",
         _once(lambda ask: replace(_half(ask), headers=_of(ask).facts())), sums=False),
    _get("chunked-cut", "half the body in chunks, breaks off", _chunked(is_cut=True)),
    _get("chunked-half", "half the body in chunks, ends as it should", _chunked(is_cut=False)),
    _get("empty", "200 with an empty body", _as(200, is_empty=True)),
    _get("204", "204 No Content", _as(204, is_empty=True)),
    _get("202", "202 and a note that the file is being staged, each time", _staged),
    _get("202-once", "202 and a note, the first time; no checksum", _once(_staged), sums=False),
    _get("long", "1,000 bytes too many; no checksum", _long, sums=False),
    _get("page", "200 and a page in HTML, each time; no checksum", _page, sums=False),
    _get("page-once", "200 and a page, the first time", _once(_page)),
    _get("page-once-bare", "200 and a page, the first time; no checksum", _once(_page), sums=False),
    _get("login", "302 to a login page with 200", _login),
    _get("gzip", "Content-Encoding: gzip, unasked", _gzip),
    _get("resume-200", "breaks off; 200 and the whole for the rest", _after_break(_as(200))),
    _get("resume-202", "breaks off; then 202 and a note, once",
         _after_break(lambda ask: _staged(ask) if ask.visit.first("note") else truth(ask))),
    _get("resume-202-bare", "breaks off; then 202 and a note, once; no checksum",
         _after_break(lambda ask: _staged(ask) if ask.visit.first("note") else truth(ask)),
         sums=False),
    _get("resume-203", "breaks off; then 203 and the whole; no checksum",
         _after_break(_as(203), always=True), sums=False),
    _get("range-off", "breaks off; then 206 that begins one byte late and says so; no checksum",
         _after_break(_range_off), sums=False),
    _get("range-shifted", "breaks off; then 206 with bytes from one place later",
         _after_break(_range_shifted)),
    _get("range-shifted-bare", "breaks off; then 206 with bytes from one place later; no checksum",
         _after_break(_range_shifted), sums=False),
    _get("range-total", "breaks off; then 206 of a file of 1,000 bytes more; no checksum",
         _after_break(_range_total), sums=False),
    _get("range-unsaid", "breaks off; then 206 without Content-Range, the whole; no checksum",
         _after_break(_as(206)), sums=False),
    _get("range-416", "breaks off; then 416 for every range",
         _after_break(lambda ask: Reply(416, {"Content-Range": f"bytes */{len(_of(ask).data)}"}))),
    _get("changed", "breaks off; then another file, with its ETag, whatever If-Range says",
         _after_break(_changed(AFTER), always=True)),
    _get("changed-bare", "breaks off; then another file, with its ETag; no checksum",
         _after_break(_changed(AFTER), always=True), sums=False),
    Lie("changed-quietly", "breaks off; then another file, and GET's ETag alone tells; no checksum",
        {"GET": _after_break(_changed(BEFORE), always=True), "PROPFIND": _lists_no_tag},
        has_sums=False),
    _get("503-twice", "503 with Retry-After: 2, twice", _once(_busy, 2)),
    _get("503", "503 with Retry-After: 2, each time", _busy),
    _get("429-once", "429 with Retry-After: 2, once", _once(_text(429, b"", Retry_After="2"))),
    _get("404-once", "404, once", _once(_text(404, b"not found\n"))),
    _get("reset-twice", "the connection is reset, twice",
         _once(lambda _: Reply(0, how="reset"), 2)),
    _get("redirect", "302 to another host, which has the file", _elsewhere("other_url")),
    _get("redirect-clear", "302 to http:// on another host, which has the file",
         _elsewhere("clear_url")),
    _get("redirect-loop", "302 to itself", _elsewhere("url")),
    _get("silent", f"half the body, then {SILENT_S} s of silence, then closes; each time", _silent),
    _get("silent-once", f"half the body, then {SILENT_S} s of silence, the first time",
         _once(_silent)),
    _get("two-lengths", "two Content-Length that differ", _two_lengths),
    _get("range-page", "the fourth GET: 200 and a page; no checksum", _at(4, _page),
         sums=False, least=LARGE_BYTES),
    _get("range-202", "the fourth GET: 202 and a note; no checksum", _at(4, _staged),
         sums=False, least=LARGE_BYTES),
    _get("range-200", "the fourth GET: 200 and the whole; no checksum", _at(4, _as(200)),
         sums=False, least=LARGE_BYTES),
)  # fmt: skip


# -- a listing -------------------------------------------------------------------------------------


def _also(href: Callable[[Ask], str]) -> Answer:
    """List one more file in the directory."""

    def answer(ask: Ask) -> Reply:
        more = Row(href(ask), File(evil("door")))
        return listing([*ask.rows(), more] if _is_top(ask) else ask.rows())

    return answer


def _is_top(ask: Ask) -> bool:
    return ask.path == "" and ask.headers["Depth"] != "0"


def _cut_listing(ask: Ask, *, breaks: bool) -> Reply:
    reply = listing(ask.rows())
    if not _is_top(ask):
        return reply
    keep = bytes(reply.body).index(b"</d:response>", bytes(reply.body).index(b"a.bin")) + 40
    return replace(reply, keep=keep) if breaks else replace(reply, body=reply.body[:keep])


def _of_sub(reply: Reply) -> Answer:
    return lambda ask: reply if ask.path == "sub" else truth(ask)


def _altered(name: str, change: Callable[[Row], list[Row]]) -> Answer:
    """List one name in another way."""

    def answer(ask: Ask) -> Reply:
        rows = ask.rows()
        return listing([r for row in rows for r in (change(row) if name in row.href else [row])])

    return answer


def _listed(name: str, sentence: str, answer: Answer, **more: Mapping[str, bytes]) -> Lie:
    return Lie(name, sentence, {"PROPFIND": answer}, has_sums=False, **more)


_EMPTY = replace(listing([Row("/")]), body=b'<d:multistatus xmlns:d="DAV:"></d:multistatus>')

TREE_LIES = (
    Lie("tree-honest", "no lie", has_sums=False),
    _listed("tree-dotdot", "names a file by /../../",
            _also(lambda ask: f"/{ask.visit.key}/../../{EVIL}")),
    _listed("tree-dotdot-encoded", "names a file by ..%2F..%2F",
            _also(lambda ask: f"/{ask.visit.key}/..%2F..%2F{EVIL}")),
    _listed("tree-elsewhere", "names a file that is not in the directory",
            _also(lambda _: f"/elsewhere/{EVIL}")),
    _listed("tree-other-host", "names a file on another host",
            _also(lambda ask: f"{ask.door.other_url}/{ask.visit.key}/{EVIL}"),
            also_right={EVIL: evil("door")}),
    _listed("tree-cut", "the XML ends in the middle, as Content-Length says",
            functools.partial(_cut_listing, breaks=False)),
    _listed("tree-break", "the XML breaks off in the middle, each time",
            functools.partial(_cut_listing, breaks=True)),
    _listed("tree-500", "500 for a subdirectory", _of_sub(Reply(500))),
    _listed("tree-403", "403 for a subdirectory", _of_sub(Reply(403))),
    _listed("tree-hidden", "nothing at all in the multistatus of a subdirectory", _of_sub(_EMPTY)),
    _listed("tree-page", "200 and a page for the directory",
            lambda ask: _page(ask) if ask.path == "" else truth(ask)),
    _listed("tree-size-less", "says 10 bytes of a file of 20,000",
            _altered("a.bin", lambda row: [replace(row, size_bytes=10)])),
    _listed("tree-size-more", "says 30,000 bytes of a file of 20,000",
            _altered("a.bin", lambda row: [replace(row, size_bytes=30_000)])),
    _listed("tree-twice", "names a file twice", _altered("a.bin", lambda row: [row, row])),
    _listed("tree-404", "all properties of a file have the status 404",
            _altered("b.bin", lambda row: [replace(row, status="404 Not Found")])),
)  # fmt: skip


# -- an upload -------------------------------------------------------------------------------------


def _stored(change: Callable[[bytes], bytes], **told: Callable[[bytes], int]) -> Answer:
    """Store something else than was sent."""

    def answer(ask: Ask) -> Reply:
        data = ask.read()
        return ask.store(change(data), **{k: f(data) for k, f in told.items()})

    return answer


def _first_half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _received(reply: Reply, keeps: Callable[[bytes], bytes] | None = None) -> Answer:
    """Read the content, store all, a part or nothing of it, and answer so."""

    def answer(ask: Ask) -> Reply:
        data = ask.read()
        if keeps is not None:
            ask.store(keeps(data))
        return reply

    return answer


def _cut_upload(ask: Ask) -> Reply:
    ask.store(ask.read(int(ask.headers["Content-Length"]) // 2))
    return Reply(0, how="closed")


def _told_another_sum(ask: Ask) -> Reply:
    data = ask.read()
    reply = ask.store(data)
    return replace(reply, headers={**reply.headers, "Digest": digest(other_than(data))})


def _moved(reply: Reply) -> Answer:
    """Rename, and answer so all the same."""

    def answer(ask: Ask) -> Reply:
        moved(ask)
        return reply

    return answer


_CLOSED = Reply(0, how="closed")


def _put(name: str, sentence: str, answer: Answer, *, sums: bool = True, once: bool = False) -> Lie:
    """Lie to a PUT with content: one without may only ask where to upload."""

    def lie(ask: Ask) -> Reply:
        is_empty = ask.headers["Content-Length"] == "0"
        return truth(ask) if is_empty or (once and not ask.visit.first("put")) else answer(ask)

    return Lie(name, sentence, {"PUT": lie}, has_sums=sums)


PUT_LIES = (
    Lie("put-honest", "no lie"),
    Lie("put-honest-bare", "no lie; no checksum", has_sums=False),
    _put("put-short", "stores half, 201", _stored(_first_half)),
    _put("put-short-bare", "stores half, 201; no checksum", _stored(_first_half), sums=False),
    _put("put-short-hidden", "stores half, 201, and tells the size that was sent",
         _stored(_first_half, told_bytes=len)),
    _put("put-flip", "stores one bit wrong, 201", _stored(_flipped)),
    _put("put-flip-once", "stores one bit wrong, 201, the first time",
         _stored(_flipped), once=True),
    _put("put-flip-bare", "stores one bit wrong, 201; no checksum", _stored(_flipped), sums=False),
    _put("put-nothing", "stores nothing, 201", _received(Reply(201))),
    _put("put-202", "stores nothing, 202", _received(Reply(202))),
    _put("put-page", "stores nothing, 200 and a page",
         _received(Reply(200, {"Content-Type": "text/html"}, PAGE))),
    _put("put-close", "stores all, closes without an answer, each time",
         _received(_CLOSED, lambda data: data)),
    _put("put-close-once", "stores nothing, closes without an answer, the first time",
         _received(_CLOSED), once=True),
    _put("put-close-empty", "stores nothing, closes without an answer, each time",
         _received(_CLOSED)),
    _put("put-cut-once", "breaks off after half, which it stores, the first time",
         _cut_upload, once=True),
    _put("put-cut", "breaks off after half, which it stores, each time", _cut_upload),
    _put("put-500-stored", "stores all, 500", _received(Reply(500), lambda data: data)),
    _put("put-503-once", "stores nothing, 503 with Retry-After: 2, the first time",
         _received(Reply(503, {"Retry-After": "2"})), once=True),
    _put("put-507", "stores nothing, 507 after the last byte", _received(Reply(507))),
    _put("put-507-short", "stores half, 507 after the last byte",
         _received(Reply(507), _first_half)),
    _put("put-other-digest", "stores all, 201 with the checksum of other bytes",
         _told_another_sum),
    _put("put-silent", f"stores all, {SILENT_S} s of silence, then closes, each time",
         _received(replace(_CLOSED, pause_s=SILENT_S), lambda data: data)),
    Lie("put-redirect", "307 to another host, which stores it",
        {"PUT": _elsewhere("other_url", 307)}),
    Lie("put-redirect-clear", "307 to http:// on another host, which stores it",
        {"PUT": _elsewhere("clear_url", 307)}),
    Lie("put-move-500", "MOVE is done, 500", {"MOVE": _moved(Reply(500))}),
    Lie("put-move-close", "MOVE is done, closes without an answer", {"MOVE": _moved(_CLOSED)}),
    Lie("put-move-undone", "MOVE is not done, 201", {"MOVE": lambda _: Reply(201)}),
)  # fmt: skip
