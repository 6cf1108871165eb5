"""The sandbox as other releases of dCache and as StoRM, and what they ask of the product."""

from __future__ import annotations

import dataclasses
import zlib
from typing import TYPE_CHECKING

import pytest
from fetching import job
from sinkkit import fetch
from talk import ADLER, DATA, DCACHE, PATH, PROBE, SRM, WANT, Talker

from ctaflows.auth.renewal import TokenProvider
from ctaflows.errors import ProtocolSurprise, Refused, UsageError
from ctaflows.sandbox import Quirks, Sandbox
from ctaflows.storage.webdav import WebDAVStorage
from ctaflows.transfer.uploads import upload_alone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CHECKSUMS, LOCALITY = f"{DCACHE}Checksums", f"{SRM}FileLocality"
STORM = "{http://storm.italiangrid.org/2014/webdav}Checksum"


@pytest.fixture
def opened() -> Iterator[Callable[..., tuple[Talker, WebDAVStorage]]]:
    """Open a sandbox with quirks: a plain client of it, and the product's."""
    stack = []

    def make(quirks: Quirks) -> tuple[Talker, WebDAVStorage]:
        box = Sandbox(quirks=quirks)
        stack.append(box)
        box.put(PATH, DATA)
        settings = box.settings()
        door = WebDAVStorage(settings, TokenProvider(settings))
        stack.append(door)
        return Talker(box), door

    yield make
    for each in reversed(stack):
        each.close()


@dataclasses.dataclass
class Token:
    """A token that can't be renewed."""

    text: str

    def token(self) -> str:
        return self.text

    def renew(self, rejected: str) -> str | None:
        return None


def test_releases() -> None:
    assert Quirks.of() == Quirks(requests_per_s=250)
    assert Quirks.of("10.2", has_md5=True).has_md5
    with pytest.raises(UsageError, match=r"8\.2"):
        Quirks.of("8.2")


@pytest.mark.parametrize("release", ["9.2", "10.2", "11.2", "12.1"])
def test_a_file_goes_up_and_comes_back(opened, release: str, tmp_path: Path) -> None:
    quirks = Quirks.of(release, late_checksums_s=0.1 if release == "9.2" else 0.0)
    talk, door = opened(quirks)
    assert talk.door("HEAD", PATH).headers["server"] == f"{quirks.server} (sandbox)"
    assert (door.server_name() or "").startswith(f"dcache/{release}")
    (tmp_path / "a.h5").write_bytes(DATA)
    assert upload_alone(door, tmp_path / "a.h5", "/new/a.h5").verified
    assert fetch(door, job(door, "/new/a.h5", tmp_path / "here")).verified


def test_no_data_for_a_range_without_an_end(opened, tmp_path: Path) -> None:
    """`WebDAVStorage.receive` sends both ends, so that a fetch goes on after a part of a file."""
    quirks = Quirks(open_ranges_are_empty=True, redirect_reads=False)
    talk, door = opened(quirks)
    reply = talk.door("GET", PATH, headers={"Range": "bytes=10-"})
    assert (reply.status, reply.body) == (206, b"")
    talk.box.faults.add("truncate", server="door", method="GET")
    done = fetch(door, job(door, PATH, tmp_path))
    assert done.verified
    assert [r.headers.get("range", "")[-1:] for r in talk.box.requests if r.method == "GET"][1:]
    assert not any(r.headers.get("range", "").endswith("-") for r in list(talk.box.requests)[1:])


def test_checksums_come_late(opened, tmp_path: Path) -> None:
    talk, door = opened(Quirks(late_checksums_s=5.0))
    assert talk.put("/new", DATA).status == 201
    assert talk.list("/", names=[CHECKSUMS])["/new"]["200"] == {CHECKSUMS: None}
    assert "digest" not in talk.door("HEAD", "/new", headers=WANT).headers
    # `Transfer.verified` is False as long as nothing can be compared
    assert not fetch(door, job(door, "/new", tmp_path / "early")).verified
    talk.box.advance(5)
    assert fetch(door, job(door, "/new", tmp_path / "late")).verified


def test_posix_listings(opened, tmp_path: Path) -> None:
    """The Digest of the answer counts: `ctaflows.storage.webdav.digests`."""
    talk, door = opened(Quirks(posix_listings=True))
    assert set(talk.list("/lst", names=[CHECKSUMS, LOCALITY])[PATH]["404"]) == {CHECKSUMS, LOCALITY}
    assert fetch(door, job(door, PATH, tmp_path)).verified


def test_scopes(opened, tmp_path: Path) -> None:
    talk, door = opened(Quirks())
    reading = Token(talk.box.issue_token(scope="openid storage.read:/"))
    writing = talk.box.issue_token(scope="storage.create:/ storage.modify:/")
    with WebDAVStorage(door.settings, reading) as limited:
        assert fetch(limited, job(limited, PATH, tmp_path)).verified
        with pytest.raises(Refused):
            limited.remove(PATH)
        with pytest.raises(Refused):
            limited.move(PATH, "/other")
    assert talk.door("PUT", "/new", b"1", token=writing).status == 201
    reply = talk.door("GET", "/new", token=writing)
    assert (reply.status, reply.body) == (403, b"Permission denied for GET on path /new\n")


def test_a_move_that_is_denied_is_500_in_10_2(opened) -> None:
    talk, door = opened(Quirks(move_denied_is_500=True))
    token = talk.box.issue_token(scope="storage.read:/")
    reply = talk.door("MOVE", PATH, headers={"Destination": "/x"}, token=token)
    assert (reply.status, b"denied activity MANAGE" in reply.body) == (500, True)
    with (
        WebDAVStorage(door.settings, Token(token)) as limited,
        pytest.raises(Refused, match="denied activity MANAGE"),
    ):
        limited.move(PATH, "/other")


# -- StoRM -----------------------------------------------------------------------------------------


def test_storm_takes_and_gives_files(opened, tmp_path: Path) -> None:
    talk, door = opened(Quirks.storm())
    (tmp_path / "a.h5").write_bytes(DATA)
    assert upload_alone(door, tmp_path / "a.h5", "/new/a.h5").verified  # by HEAD with Want-Digest
    assert fetch(door, job(door, "/new/a.h5", tmp_path / "here")).verified
    assert {r.server for r in talk.box.requests} <= {"door", "issuer"}, "it never redirects"
    assert (door.server_name() or "").startswith("storm")


def test_checksum_property_and_hrefs_of_storm(opened) -> None:
    quirks = Quirks(checksum_property=STORM, has_locality=False, absolute_hrefs=True)
    talk, door = opened(quirks)
    found = talk.list("/lst", names=[STORM, CHECKSUMS, LOCALITY])[talk.box.door_url + PATH]
    assert found["200"] == {STORM: f"{zlib.adler32(DATA):08x}"}
    assert set(found["404"]) == {CHECKSUMS, LOCALITY}
    assert talk.door("HEAD", PATH, headers=WANT).headers["digest"] == ADLER
    assert [e.path for e in door.list("/lst")] == [PATH]


def test_the_root_of_storm_is_a_page(opened) -> None:
    _, door = opened(Quirks(root_is_page=True))
    with pytest.raises(ProtocolSurprise, match="200"):
        list(door.list("/"))
    assert [e.path for e in door.list("/lst")] == [PATH]


@pytest.mark.parametrize("name", ["%2541", "a%3Bb", "a%5Cb"])
def test_names_that_storm_refuses(opened, name: str) -> None:
    talk, _ = opened(Quirks(refused_in_names="%;\\"))
    assert talk.door("PUT", f"/{name}", b"1").status == 400
    assert talk.door("PROPFIND", f"/{name}").status == 400


def test_an_empty_put_over_a_file_fails_at_storm(opened, tmp_path: Path) -> None:
    """A killed upload leaves its temporary file: it is removed, and sent again."""
    quirks = Quirks.storm(empty_put_over_file_fails=True)
    talk, door = opened(quirks)
    assert talk.door("PUT", "/new", b"").status == 201
    assert talk.door("PUT", "/new", b"").status == 500
    (tmp_path / "a.h5").write_bytes(DATA)
    done = upload_alone(door, tmp_path / "a.h5", PATH + ".other")
    assert done.verified
    assert talk.door("PUT", PATH, headers=PROBE).status == 500


def test_links_of_storm_look_like_what_they_lead_to(opened) -> None:
    talk, door = opened(Quirks(links_look_like_targets=True, redirect_reads=False))
    talk.box.put("/precious/f", DATA)
    talk.box.put("/precious/sub/g", DATA)
    talk.box.link("/user/dir", "/precious")
    talk.box.link("/user/file", "/precious/f")
    found = {e.path: (e.is_dir, e.link) for e in door.list("/user")}
    assert found == {"/user/dir": (True, None), "/user/file": (False, None)}
    for path in ("/user/file", "/user/dir/f", "/user/dir/sub/g"):
        assert talk.door("GET", path).status == 404
        assert talk.door("HEAD", path).status == 200
        assert talk.door("PROPFIND", path).status == 207
    assert talk.door("GET", "/precious/f").body == DATA


def test_storm_deletes_and_moves_a_link_itself(opened) -> None:
    talk, _ = opened(
        Quirks(links_look_like_targets=True, delete_needs_empty=True, redirect_reads=False)
    )
    talk.box.put("/precious/f", DATA)
    dir_link = talk.box.link("/user/dir", "/precious")
    file_link = talk.box.link("/user/file", "/precious/f")
    assert talk.door("DELETE", "/precious").status == 412
    assert talk.door("DELETE", "/user/dir").status == 412
    assert dir_link.is_symlink()
    assert talk.door("DELETE", "/user/file").status == 204
    assert not file_link.is_symlink()
    to = {"Destination": f"{talk.box.door_url}/user/new"}
    assert talk.door("MOVE", "/user/dir", headers=to).status == 201
    assert dir_link.with_name("new").is_symlink()
    assert talk.door("GET", "/precious/f").body == DATA


@pytest.mark.parametrize("name", ["a%20b", "a%23b", "a%3Fb", "%5Ba%5D"])
def test_names_that_storm_can_t_read(opened, name: str) -> None:
    talk, _ = opened(Quirks(unread_in_names=Quirks.storm().unread_in_names, redirect_writes=False))
    assert talk.door("PUT", f"/{name}", b"1").status == 201
    assert talk.door("PROPFIND", f"/{name}").status == 207
    assert talk.door("GET", f"/{name}").status == 404
    assert talk.door("HEAD", f"/{name}").status == 404
