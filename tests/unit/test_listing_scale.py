"""A hundred thousand entries pass, and the memory does not grow with them."""

from __future__ import annotations

import contextlib
import gc
import io
import json
import sys
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from ctaflows.model import Entry
from ctaflows.settings import Settings
from ctaflows.storage import listing
from ctaflows.storage.walk import walk
from ctaflows.tasks import namespace
from ctaflows.transport.ask import Session
from ctaflows.transport.wishes import Response

BLOCK = 50
HEAD = (
    '<?xml version="1.0" encoding="utf-8"?>\n<d:multistatus xmlns:d="DAV:" '
    'xmlns:n="http://www.dcache.org/2013/webdav" '
    'xmlns:s="http://srm.lbl.gov/StorageResourceManager">\n'
)


def directory(href):
    return (
        f"<d:response><d:href>{href}</d:href><d:propstat><d:prop><d:resourcetype><d:collection/>"
        "</d:resourcetype></d:prop><d:status>HTTP/1.1 200 OK</d:status></d:propstat></d:response>\n"
    )


def file(href, i):
    return (
        f"<d:response><d:href>{href}</d:href><d:propstat><d:prop>"
        f"<d:getcontentlength>{i}</d:getcontentlength>"
        f"<d:getlastmodified>Fri, 15 Nov 2024 12:{i // 60 % 60:02}:{i % 60:02} GMT"
        f"</d:getlastmodified><d:resourcetype/><d:getetag>{i:09X}</d:getetag>"
        f"<n:Checksums>adler32={i:08x}</n:Checksums><s:FileLocality>ONLINE</s:FileLocality>"
        "</d:prop><d:status>HTTP/1.1 200 OK</d:status></d:propstat></d:response>\n"
    )


class Door:
    """A door that makes its listings up while they are read: /t/N/ with so many files each."""

    def __init__(self, n_dirs, n_files):
        self.settings = Settings(listings=2)
        self.n_dirs, self.n_files = n_dirs, n_files
        self._lister = listing.Lister(Session(self.settings, "https://door:1"))

    def normalise(self, path):
        return "/" + path.strip("/")

    def batches(self, path, *, stop=None):
        return self._lister.batches(path, path, stop)

    def list(self, path):
        return (e for batch in self.batches(path) for e in batch)

    def chunks(self, path):
        yield (HEAD + directory(path + "/")).encode()
        if path == "/t":
            lines = (directory(f"{path}/{i}/") for i in range(self.n_dirs))
        else:
            lines = (file(f"{path}/f{i}", i) for i in range(self.n_files))
        block = []
        for line in lines:
            block.append(line)
            if len(block) == BLOCK:
                yield "".join(block).encode()
                block = []
        yield ("".join(block) + "</d:multistatus>").encode()

    def steps(self, journey, *_):
        """Play the driver's part."""
        hop = next(journey)
        sink, answer = hop.request.sink, Response(hop.url, [b"HTTP/1.1 207 X\r\n"])
        sink.begin(answer)
        for chunk in self.chunks(hop.url):
            sink.write(chunk)
            yield None
        sink.ended(answer)
        with pytest.raises(StopIteration):
            journey.send(answer)
        yield SimpleNamespace(error=None)


@pytest.fixture
def door(monkeypatch):
    """Make a door that is listed without a network."""

    def made(n_dirs, n_files):
        door = Door(n_dirs, n_files)
        monkeypatch.setattr(listing, "borrowed", lambda _session: contextlib.nullcontext(door))
        return door

    return made


def blocks_per_entry(entries, early, late):
    """How many more objects are alive after ``late`` entries than after ``early``, for each."""
    counted = {}
    for n, _ in enumerate(entries, 1):
        if n in (early, late):
            gc.collect()
            counted[n] = sys.getallocatedblocks()
    assert n >= late
    return (counted[late] - counted[early]) / (late - early)


MANY = pytest.mark.parametrize(
    "n",
    [
        5_000,
        pytest.param(20_000, marks=pytest.mark.slow),
        pytest.param(100_000, marks=pytest.mark.soak),
    ],
)


@MANY
def test_a_tree(monkeypatch, door, n):
    monkeypatch.setattr("ctaflows.storage.walk.HELD_ENTRIES", 500)
    assert blocks_per_entry(walk(door(n // 500, 500), "/t"), n // 5, n) < 0.2


@MANY
def test_one_directory(door, n):
    assert blocks_per_entry(walk(door(1, n), "/t/0"), n // 5, n) < 0.2


def test_what_a_listing_remembers_is_eight_bytes_a_name():
    given = listing._KnownPaths()
    for start in range(0, 100_000, 50):
        given.add([Entry(f"/t/f{i}") for i in range(start, start + 50)])
    assert sys.getsizeof(given._hashes) < 100_000 * 8 * 1.2
    given.end_attempt()
    assert sys.getsizeof(given._earlier) < 100_000 * 8 * 1.2
    again = [Entry(f"/t/f{i}") for i in range(99_990, 100_010)]
    assert [e.name for e in given.add(again)] == [f"f{i}" for i in range(100_000, 100_010)]
    assert len(given._earlier) + len(given._hashes) == 100_010


@pytest.mark.parametrize(
    "words", [["ls", "-r", "--json", "t"], ["find", "t", "--json"], ["du", "-s", "--json", "t"]]
)
def test_commands_over_twenty_thousand(words, door, monkeypatch):
    import importlib

    there = door(20, 1000)
    monkeypatch.setattr(namespace, "connect", lambda _profile: there)
    command = importlib.import_module(f"ctaflows.cli.{words[0]}").command
    done = CliRunner().invoke(command, words[1:], catch_exceptions=False)
    assert done.exit_code == 0
    records = json.load(io.StringIO(done.stdout))
    if words[0] == "du":
        assert records[0]["n_files"] == 20_000
    else:
        assert len(records) == 20_020
