"""Symbolic links at the sandbox, as dCache 11.2.5 showed them."""

from __future__ import annotations

import pytest
from talk import ADLER, DATA, DCACHE, PATH, SRM, WANT

CHECKSUMS, LOCALITY = f"{DCACHE}Checksums", f"{SRM}FileLocality"
ETAG, LENGTH, KIND = "{DAV:}getetag", "{DAV:}getcontentlength", "{DAV:}resourcetype"
NAMES = (CHECKSUMS, LOCALITY, ETAG, LENGTH, KIND)
LINK_GONE = b"Internal problem: PNFSID does not correspond to provided file.\n"


@pytest.fixture
def linked(make):
    """Return a client of a door with links to a directory, to a file and to nothing."""
    talk = make()
    talk.box.put("/cta/precious/sub/f1", DATA)
    talk.box.put("/cta/precious/f2", b"2")
    talk.box.link("/cta/user/dir", "/cta/precious")
    talk.box.link("/cta/user/file", "../../lst/dl1.h5")
    talk.box.link("/cta/user/nowhere", "/gone")
    return talk


def pnfsid(etag: str | None) -> str:
    return (etag or "").strip('"').partition("_")[0]


def test_a_listing_shows_links_as_files(linked):
    found = linked.list("/cta/user", names=NAMES)
    assert set(found) == {"/cta/user/", *(f"/cta/user/{n}" for n in ("dir", "file", "nowhere"))}
    for name, length in (("dir", 13), ("file", 16), ("nowhere", 5)):
        entry = found[f"/cta/user/{name}"]
        assert entry["200"][LENGTH] == str(length)
        assert entry["200"][CHECKSUMS] is None
        assert entry["200"][LOCALITY] == "UNAVAILABLE"
        assert KIND not in entry["200"]
    tag = found["/cta/user/file"]["200"][ETAG]
    assert pnfsid(tag) != pnfsid(linked.door("HEAD", PATH).headers["etag"])


@pytest.mark.parametrize("depth", ["0", "1"])
def test_a_link_itself_is_its_target(linked, depth):
    entry = linked.list("/cta/user/file", depth, NAMES)["/cta/user/file"]["200"]
    assert entry[ETAG] == linked.door("HEAD", PATH).headers["etag"]
    assert (entry[LENGTH], entry[CHECKSUMS]) == (str(len(DATA)), ADLER)
    assert entry[LOCALITY] == "ONLINE"
    linked.box.locality(PATH, "NEARLINE")
    found = linked.list("/cta/user/file", depth, NAMES)
    assert found["/cta/user/file"]["200"][LOCALITY] == "NEARLINE"


def test_a_link_to_a_directory_itself_is_the_directory(linked):
    assert set(linked.list("/cta/user/dir", "0", NAMES)) == {"/cta/user/dir/"}
    found = linked.list("/cta/user/dir", "1", NAMES)
    assert set(found) == {f"/cta/user/dir/{n}" for n in ("", "f2", "sub/")}
    reply = linked.door("GET", "/cta/user/dir")
    assert (reply.status, reply.location) == (302, f"{linked.box.door_url}/cta/user/dir/")


def test_paths_through_links_resolve(linked):
    assert linked.get("/cta/user/file", headers=WANT).body == DATA
    assert linked.get("/cta/user/dir/sub/f1", headers=WANT).headers["digest"] == ADLER
    assert linked.put("/cta/user/dir/new", b"new").status == 201
    assert linked.get("/cta/precious/new").body == b"new"
    linked.box.deny("/cta/precious")
    assert linked.door("GET", "/cta/user/dir/f2").status == 403
    assert set(linked.list("/cta/user/dir")) == {"/cta/user/dir/"}


def test_delete_of_a_link_to_a_directory_empties_its_target(linked):
    reply = linked.door("DELETE", "/cta/user/dir")
    assert (reply.status, reply.body) == (500, LINK_GONE)
    assert set(linked.list("/cta/precious")) == {"/cta/precious/"}
    assert "/cta/user/dir" in linked.list("/cta/user")


def test_delete_of_a_link_to_a_file_loses_nothing(linked):
    reply = linked.door("DELETE", "/cta/user/file")
    assert (reply.status, reply.body) == (500, LINK_GONE)
    assert linked.get("/cta/user/file").body == DATA


def test_delete_of_a_tree_removes_the_links_in_it(linked):
    # as a child a link is removed by its own pnfsid: DcacheResourceFactory.java, deleteFile
    assert linked.door("DELETE", "/cta/user").status == 204
    assert linked.get("/cta/precious/sub/f1").body == DATA


@pytest.mark.parametrize(("name", "target"), [("file", PATH), ("dir", "/cta/precious")])
def test_a_link_can_t_be_moved(linked, name, target):
    to = {"Destination": f"{linked.box.door_url}/cta/moved", "Overwrite": "T"}
    reply = linked.door("MOVE", f"/cta/user/{name}", headers=to)
    etags = [linked.list(p, "0", (ETAG,)) for p in (target, f"/cta/user/{name}")]
    if name == "file":
        tag = pnfsid(etags[0][target]["200"][ETAG])
        assert reply.body == f"Internal problem: No such file or directory: {tag}\n".encode()
    assert reply.status == 500
    assert linked.door("HEAD", "/cta/moved").status == 404
    assert linked.get("/cta/user/dir/sub/f1").body == DATA


def test_a_move_onto_itself_destroys_the_file(linked):
    tag = pnfsid(linked.door("HEAD", PATH).headers["etag"])
    to = {"Destination": linked.box.door_url + PATH}
    assert linked.door("MOVE", PATH, headers=to).status == 412
    reply = linked.door("MOVE", PATH, headers=to | {"Overwrite": "T"})
    text = f"Internal problem: No such file or directory: {tag}\n"
    assert (reply.status, reply.body) == (500, text.encode())
    assert linked.door("GET", PATH).status == 404


@pytest.mark.parametrize("method", ["GET", "HEAD", "PROPFIND", "DELETE"])
def test_a_dangling_link_is_not_found_by_itself(linked, method):
    assert linked.door(method, "/cta/user/nowhere", headers={"Depth": "0"}).status == 404
    linked.box.link("/cta/user/round", "round")
    assert linked.door(method, "/cta/user/round", headers={"Depth": "0"}).status == 404


def test_a_link_leads_nowhere_outside_of_the_storage(linked):
    linked.box.link("/cta/out", "../../config/client_secret")
    for method in ("GET", "PROPFIND", "DELETE"):
        assert linked.door(method, "/cta/out").status >= 400
    assert (linked.box.config_dir / "client_secret").read_text() == linked.box.client_secret
