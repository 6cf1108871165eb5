"""Operations of the product at the sandbox, where dCache 11.2.5 is less kind than other doors.

Each test names the function that deals with it; without that function the operation goes wrong.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import pytest
from fetching import DATA, job
from sinkkit import fetch
from talk import DCACHE, PROBE, SRM, Talker

from ctaflows.auth.renewal import TokenProvider
from ctaflows.errors import AlreadyExists, CtaflowsError, SourceChanged, UsageError
from ctaflows.model import Entry
from ctaflows.sandbox import Quirks, Sandbox
from ctaflows.storage.answers import check_answer
from ctaflows.storage.namespace import check_target, new_path, plan_removal, remove_all
from ctaflows.storage.walk import walk
from ctaflows.storage.webdav import WebDAVStorage
from ctaflows.transfer.uploads import upload_alone
from ctaflows.transport.wishes import READ, Request

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    file = tmp_path / "source"
    file.write_bytes(DATA)
    return file


def break_upload(box: Sandbox, path: str) -> None:
    """Leave a broken file under a name: its size, ONLINE, a checksum."""
    wrong = {"Content-MD5": "AAAAAAAAAAAAAAAAAAAAAA=="}
    assert Talker(box).put(path, DATA, wrong).status == 400


def test_files_are_files_without_a_resourcetype(box: Sandbox, door: WebDAVStorage) -> None:
    """`ctaflows.storage.propfind.MultistatusParser` heeds the propstats of 200 alone."""
    box.put("/n/file", DATA)
    box.put("/n/sub/x", b"")
    kinds = {e.path: e.is_dir for e in door.list("/n")}
    assert kinds == {"/n/file": False, "/n/sub": True}


def test_no_checksum_is_no_empty_checksum(box: Sandbox, door: WebDAVStorage) -> None:
    """`ctaflows.storage.checksum.parse_digests` finds nothing in an empty element."""
    box.put("/n/file", DATA)
    box.uploading("/n/file")
    entry = next(iter(door.list("/n")))
    assert (entry.checksums, entry.size_bytes, entry.locality) == ((), None, "NONE")


def test_a_walk_gives_all_whatever_their_order(box: Sandbox, door: WebDAVStorage) -> None:
    """`ctaflows.storage.walk.walk` needs no order of the children."""
    paths = {f"/n/{i}/{j}" for i in range(4) for j in range(4)}
    for path in paths:
        box.put(path, b"")
    assert {e.path for e in walk(door, "/n") if not e.is_dir} == paths


def test_a_broken_file_is_not_fetched(box: Sandbox, door: WebDAVStorage, tmp_path: Path) -> None:
    """What a listing says proves nothing: `ctaflows.transfer.download.download` needs the bytes."""
    break_upload(box, "/broken")
    entry = door.stat("/broken")
    assert (entry.size_bytes, entry.locality, len(entry.checksums)) == (len(DATA), "ONLINE", 1)
    with pytest.raises(CtaflowsError, match="File is broken"):
        fetch(door, job(door, "/broken", tmp_path))
    assert not (tmp_path / "broken").exists()


def test_a_broken_file_is_replaced(box: Sandbox, door: WebDAVStorage, source: Path) -> None:
    """A broken upload of another client is no reason to take its bytes for ours."""
    break_upload(box, "/broken")
    with pytest.raises(AlreadyExists):
        upload_alone(door, source, "/broken")
    assert upload_alone(door, source, "/broken", overwrite=True).verified
    assert Talker(box).get("/broken").body == DATA


def test_an_upload_that_breaks_off_leaves_no_part(
    box: Sandbox, door: WebDAVStorage, source: Path
) -> None:
    """`ctaflows.transfer.upload.clean` removes the part that the pool keeps."""
    box.faults.add("reset", method="PUT", server="pool")
    assert upload_alone(door, source, "/r.h5").verified
    box.faults.add("reset", method="PUT", server="pool", times=None)
    with pytest.raises(CtaflowsError):
        upload_alone(door, source, "/other.h5")
    assert [e.path for e in door.list("/")] == ["/r.h5"]
    assert (box.storage / "r.h5").read_bytes() == DATA


def test_an_old_file_survives_an_upload_that_breaks_off(
    box: Sandbox, door: WebDAVStorage, source: Path
) -> None:
    """A PUT to the name itself would have deleted it: `ctaflows.transfer.upload.upload`."""
    box.put("/r.h5", b"old")
    box.faults.add("reset", method="PUT", server="pool", times=None)
    with pytest.raises(CtaflowsError):
        upload_alone(door, source, "/r.h5", overwrite=True)
    assert Talker(box).get("/r.h5").body == b"old"


def test_a_name_that_begins_with_a_bracket(
    box: Sandbox, door: WebDAVStorage, source: Path, tmp_path: Path
) -> None:
    """`ctaflows.transfer.upload_journal.Journal.begin` begins no temporary name with ``.(``."""
    assert Talker(box).door("PUT", "/.(par).part", headers=PROBE).status == 500
    assert upload_alone(door, source, "/(par)").verified
    assert fetch(door, job(door, "/(par)", tmp_path / "here")).verified


def test_a_file_that_became_shorter(box: Sandbox, door: WebDAVStorage) -> None:
    """416 has no Content-Range: `ctaflows.transport.policy.error_for` needs none."""
    box.put("/a", b"short")
    with pytest.raises(SourceChanged):
        door._run(door._asking(range_of(box)))


def range_of(box: Sandbox) -> Request:
    return Request("GET", f"{box.door_url}/a", (b"Range: bytes=100-199",), good=READ)


def test_a_file_that_became_shorter_behind_a_door_that_does_not_redirect() -> None:
    """206 without bytes: `ctaflows.storage.answers.check_answer` compares the size it tells."""
    with Sandbox(quirks=Quirks(redirect_reads=False)) as box:
        box.put("/a", b"short")
        settings = box.settings()
        with WebDAVStorage(settings, TokenProvider(settings)) as door:
            got = door._run(door._asking(range_of(box)))
            assert (got.status, got.body) == (206, b"")
            with pytest.raises(SourceChanged, match="5 bytes now"):
                check_answer(got, Entry("/a", size_bytes=1000), 100, 200)


def test_a_tree_with_a_link_is_removed_without_the_target(
    box: Sandbox, door: WebDAVStorage
) -> None:
    """`ctaflows.storage.links.refuse_link` keeps `remove_all` from a DELETE of the link."""
    box.put("/precious/sub/f", DATA)
    box.put("/user/own", DATA)
    box.link("/user/link", "/precious")
    list(remove_all(door, plan_removal(door, [door.stat("/user")])))
    assert (box.storage / "precious/sub/f").read_bytes() == DATA
    assert not (box.storage / "user/own").exists()
    assert [r.path for r in box.requests if r.method == "DELETE"] == ["/user/own"]


def test_a_file_is_not_moved_onto_itself(box: Sandbox, door: WebDAVStorage) -> None:
    """The door would destroy the file: `test_sandbox_links` shows it."""
    box.put("/a", DATA)
    with pytest.raises(UsageError):
        new_path("/a", "/a", into=False)
    with pytest.raises(UsageError):
        door.move("/a", "/a", overwrite=True)
    assert (box.storage / "a").read_bytes() == DATA


def test_a_directory_is_no_target_of_a_move(box: Sandbox, door: WebDAVStorage) -> None:
    """`ctaflows.storage.namespace.check_target` refuses it; the door removes all that is in it."""
    box.put("/a", DATA)
    box.put("/full/x", DATA)
    with pytest.raises(AlreadyExists):
        check_target(door.stat("/a"), door.stat("/full"), overwrite=True)
    door.move("/a", "/full", overwrite=True)
    assert (box.storage / "full").read_bytes() == DATA


def test_a_stale_upload_of_another_is_told(box: Sandbox) -> None:
    """Two uploads under one name: each of ours has its own (`Journal.begin`)."""
    talk = Talker(box)
    names = [f"{DCACHE}Checksums", f"{SRM}FileLocality"]
    url = talk.door("PUT", "/n", headers=PROBE).location
    assert talk.door("DELETE", "/n").status == 204
    assert talk.ask("PUT", url, DATA).status == 500
    assert talk.put("/n", DATA).status == 201
    found = talk.list("/", names=names)["/n"]["200"]
    assert found == {names[0]: f"adler32={zlib.adler32(DATA):08x}", names[1]: "ONLINE"}
