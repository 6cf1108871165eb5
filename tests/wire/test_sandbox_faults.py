"""Faults on demand at the sandbox: one test for each."""

from __future__ import annotations

import http.client
import os
import time
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor

import pytest
from talk import (
    ADLER,
    BROKEN,
    BROKEN_FILE,
    DATA,
    DCACHE,
    PATH,
    PROBE,
    WANT,
    Talker,
    eventually,
)

from ctaflows.errors import UsageError
from ctaflows.sandbox import Fault, parse


def test_faults_are_parsed():
    assert parse("503") == Fault("503")
    assert parse("503:2@*.h5") == Fault("503", times=2, path="*.h5")
    assert parse("slow:*") == Fault("slow", times=None)
    assert str(parse("503:2@*.h5")) == "503:2@*.h5"
    for wrong in ("418", "503:x", "503:0", ""):
        with pytest.raises(UsageError):
            parse(wrong)
    with pytest.raises(UsageError):
        Fault("503", server="cellar")


def test_faults_are_counted_and_matched(make):
    talk = make()
    talk.box.faults.add("503", times=2, method="GET", path="*.h5", server="door")
    assert talk.door("HEAD", PATH).status == 200
    assert talk.door("GET", "/lst/").status == 200
    assert [talk.door("GET", PATH).status for _ in range(3)] == [503, 503, 302]
    talk.box.faults.add("503", times=None)
    assert [talk.door("GET", PATH).status for _ in range(4)] == [503] * 4
    talk.box.faults.clear()
    assert talk.door("GET", PATH).status == 302


def test_faults_are_counted_across_threads(make):
    box = make("503:20").box
    with ThreadPoolExecutor(16) as pool:
        statuses = list(pool.map(lambda _: Talker(box).door("HEAD", PATH).status, range(40)))
    assert sorted(statuses) == [200] * 20 + [503] * 20


@pytest.mark.parametrize("server", ["door", "pool"])
@pytest.mark.parametrize("status", ["503", "500", "502", "429", "401", "403", "507"])
def test_fault_status(make, status, server):
    talk = make(Fault(status, server=server))
    reply = talk.get()
    assert reply.status == int(status)
    assert "retry-after" not in reply.headers  # as dCache 11.2.5
    assert [s.server for s in talk.box.requests][-1] == server
    assert talk.get().body == DATA


def test_fault_retry_after(make):
    talk = make(Fault("429", retry_after_s=7), Fault("503", retry_after_s=3))
    assert talk.door("GET", PATH).headers["retry-after"] == "7"
    assert talk.door("GET", PATH).headers["retry-after"] == "3"


def test_fault_401_counts_for_the_block(make):
    talk = make("401:3")
    assert [talk.door("GET", PATH).status for _ in range(4)] == [401, 401, 401, 429]


def test_fault_reset_of_a_download(make):
    # Over TLS, Python before 3.11.9 shows a reset as an end of file (cpython gh-115627).
    for plain, error in (
        (True, ConnectionResetError),
        (False, BROKEN),
    ):
        talk = make("reset", pool_uses_http=plain)
        with pytest.raises(error):
            talk.get()
        assert talk.box.requests[-1].server == "pool"


def test_fault_reset_of_an_upload(make):
    talk = make()
    url = talk.door("PUT", "/n", headers=PROBE).location
    talk.box.faults.add("reset", method="PUT")
    with pytest.raises(BROKEN):
        talk.ask("PUT", url, os.urandom(20 << 20))
    eventually(lambda: talk.door("GET", "/n").body == BROKEN_FILE)
    assert 0 < (talk.box.storage / "n").stat().st_size < 20 << 20
    assert not len(talk.box.faults)


@pytest.mark.parametrize("method", ["MKCOL", "HEAD"])
def test_fault_reset_at_the_door(make, method):
    talk = make(Fault("reset", server="door"))
    with pytest.raises(ConnectionResetError):
        talk.door(method, "/new")
    assert not (talk.box.storage / "new").exists()


def test_fault_reset_of_a_redirect(make):
    talk = make(Fault("reset", server="door"))
    with pytest.raises(ConnectionResetError):
        talk.door("GET", PATH)


def test_fault_lost(make):
    talk = make("lost")
    with pytest.raises(ConnectionResetError):
        talk.door("MKCOL", "/new")
    assert (talk.box.storage / "new").is_dir()


def test_fault_truncate(make):
    talk = make("truncate")
    with pytest.raises(http.client.IncompleteRead) as caught:
        talk.get()
    assert caught.value.partial == DATA[: len(DATA) // 2]


def test_fault_flip(make):
    reply = make("flip").get(headers=WANT)
    differ = [i for i, (a, b) in enumerate(zip(reply.body, DATA, strict=True)) if a != b]
    assert len(differ) == 1
    assert reply.headers["digest"] == ADLER


def test_fault_wrong_length(make):
    reply = make("wrong_length").get()
    assert reply.headers["content-length"] == str(len(DATA) // 2)
    assert reply.body == DATA[: len(DATA) // 2]


def test_fault_slow(make):
    talk = make(Fault("slow", rate_bytes_s=len(DATA) * 4))
    start = time.monotonic()
    assert talk.get().body == DATA
    assert time.monotonic() - start > 0.2


def test_fault_hang(make):
    talk = make(Fault("hang", hang_s=0.2, server="pool"))
    url = talk.door("GET", PATH).location
    start = time.monotonic()
    with pytest.raises(http.client.RemoteDisconnected):
        talk.ask("GET", url)
    assert time.monotonic() - start >= 0.2


@pytest.mark.parametrize(
    ("name", "where"),
    [("redirect_elsewhere", "https://localhost:1/"), ("redirect_http", "http://localhost:")],
)
def test_fault_redirect(make, name, where):
    talk = make(f"{name}:2")
    assert talk.door("GET", PATH).location.startswith(where)
    reply = talk.door("PUT", "/n", headers=PROBE)
    assert (reply.status, reply.location[: len(where)]) == (307, where)
    assert talk.get().body == DATA


def test_fault_redirect_loop(make):
    assert make("redirect_loop").door("GET", PATH).location.endswith(PATH)


def test_fault_bad_digest(make):
    talk = make(Fault("bad_digest", method="GET"), Fault("bad_digest", method="PROPFIND"))
    reply = talk.get(headers=WANT)
    assert reply.body == DATA
    assert reply.headers["digest"] != ADLER
    assert len(reply.headers["digest"]) == len(ADLER)
    names = [f"{DCACHE}Checksums"]
    assert talk.list("/lst", names=names)[PATH]["200"][names[0]] not in (ADLER, None)
    assert talk.list("/lst", names=names)[PATH]["200"][names[0]] == ADLER


def test_fault_no_digest(make):
    talk = make(Fault("no_digest", method="GET"), Fault("no_digest", method="PROPFIND"))
    assert "digest" not in talk.get(headers=WANT).headers
    names = [f"{DCACHE}Checksums"]
    assert names[0] not in talk.list("/lst", names=names)[PATH]["200"]
    assert talk.get(headers=WANT).headers["digest"] == ADLER


def test_fault_ignore_range(make):
    talk = make("ignore_range")
    part = {"Range": "bytes=5-9"}
    reply = talk.get(headers=part)
    assert (reply.status, reply.body) == (200, DATA)
    assert "content-range" not in reply.headers
    assert talk.get(headers=part).body == DATA[5:10]


def test_fault_empty207(make):
    talk = make("empty207")
    assert set(talk.list("/lst")) == {"/lst/"}
    assert PATH in talk.list("/lst")


def test_fault_garbage_xml(make):
    reply = make("garbage_xml").door("PROPFIND", "/lst", headers={"Depth": "1"})
    assert reply.status == 207
    with pytest.raises(ET.ParseError):
        ET.fromstring(reply.body)


def test_fault_xml_bomb(make):
    from defusedxml import ElementTree as Safe
    from defusedxml import EntitiesForbidden

    reply = make("xml_bomb").door("PROPFIND", "/lst", headers={"Depth": "1"})
    with pytest.raises(EntitiesForbidden):
        Safe.fromstring(reply.body)


def test_fault_hostile_names(make):
    reply = make("hostile_names").door("PROPFIND", "/lst", headers={"Depth": "1"})
    hrefs = [e.text for e in ET.fromstring(reply.body).iter("{DAV:}href")]
    assert "/lst/../../etc/passwd" in hrefs
    assert any("%00" in h for h in hrefs)
    assert any(h.startswith("https://elsewhere") for h in hrefs)
    assert any("%2e%2e" in h for h in hrefs)
