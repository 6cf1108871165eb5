"""Symbolic links at a door: listed as what they lead to, entered when asked, never replaced."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import fsspec
import pytest
from commands import ctaflows

from ctaflows import fetch_dir, fetch_file, find, list_dir, move, open_remote, upload_file
from ctaflows.errors import NotFound, StorageError, UsageError
from ctaflows.flows.mirror import mirror
from ctaflows.storage.connect import connect
from ctaflows.tasks import disk_usage, list_night, list_tree, plan_uploads, prune_tree
from ctaflows.tasks.namespace import iter_dir

if TYPE_CHECKING:
    from pathlib import Path

    from ctaflows.sandbox import Sandbox

DATA = b"sixteen or so by"


@pytest.fixture
def linked(box: Sandbox, here: Path) -> Sandbox:
    """A directory with a file, and links to a file, to a directory and to nothing."""
    box.put("/cta/user/own.h5", DATA)
    box.put("/cta/far/a.h5", b"a")
    box.put("/cta/far/sub/b.h5", b"bb")
    box.link("/cta/user/one.h5", "/cta/far/a.h5")
    box.link("/cta/user/dir", "/cta/far")
    box.link("/cta/user/lost", "/cta/gone")
    return box


def sent(box: Sandbox, *methods: str) -> list[tuple[str, str]]:
    """Return the requests at the door since the log was cleared."""
    seen = [(one.method, one.path) for one in box.requests if one.server == "door"]
    return [one for one in seen if not methods or one[0] in methods]


# -- listings --------------------------------------------------------------------------------------


def test_a_listing_tells_what_links_lead_to(linked: Sandbox) -> None:
    found = {entry.name: entry for entry in list_dir("cta/user")}
    assert {name: (entry.link, entry.kind) for name, entry in found.items()} == {
        "own.h5": (None, "file"),
        "one.h5": ("file", "file"),
        "dir": ("directory", "link"),
        "lost": ("nothing", "link"),
    }
    [target] = list_dir("cta/far/a.h5")
    one = found["one.h5"]
    assert (one.size_bytes, one.checksums, one.locality) == (1, target.checksums, "ONLINE")
    assert one.etag == target.etag
    assert (found["dir"].size_bytes, found["dir"].is_dir) == (None, False)


def test_only_what_is_listed_like_a_link_costs_a_request(linked: Sandbox) -> None:
    linked.requests.clear()
    list_dir("cta/user")
    first, *others = sent(linked)
    assert first == ("PROPFIND", "/cta/user")
    assert sorted(others) == [("PROPFIND", f"/cta/user/{n}") for n in ("dir", "lost", "one.h5")]
    linked.requests.clear()
    assert len(find("cta/far", follow=True)) == 2
    assert sent(linked) == [("PROPFIND", "/cta/far"), ("PROPFIND", "/cta/far/sub")]


def test_a_file_that_is_lost_is_no_link(linked: Sandbox) -> None:
    linked.faults.add("no_digest", times=None)
    linked.locality("/cta/far/a.h5", "UNAVAILABLE")
    [entry] = [entry for entry in list_dir("cta/far") if not entry.is_dir]
    assert (entry.link, entry.kind, entry.locality) == (None, "file", "UNAVAILABLE")


def test_what_can_t_be_asked_for_by_itself_is_unknown(linked: Sandbox) -> None:
    linked.faults.add("403", path="/cta/user/dir")
    found = {entry.name: entry for entry in list_dir("cta/user")}
    assert found["dir"].kind == "unknown"
    assert "perhaps a symbolic link" in (found["dir"].error or "")
    assert found["one.h5"].link == "file"


@pytest.mark.parametrize("listings", [1, 3])
def test_many_links_are_asked_for_a_few_at_a_time(
    linked: Sandbox, monkeypatch: pytest.MonkeyPatch, listings: int
) -> None:
    for number in range(40):
        linked.link(f"/cta/many/{number:02}.h5", "/cta/far/a.h5")
    monkeypatch.setenv("CTAFLOWS_LISTINGS", str(listings))
    linked.requests.clear()
    found = list_dir("cta/many")
    assert [entry.link for entry in found] == ["file"] * 40
    assert len(sent(linked)) == 41


def test_ls_shows_links(linked: Sandbox) -> None:
    lines = ctaflows("ls", "-l", "cta/user").out.splitlines()
    assert [line.split("  ")[-1].strip() for line in lines] == [
        *("dir -> directory", "lost -> nothing", "one.h5 -> file", "own.h5"),
    ]
    assert lines[2].split()[0] == "1"
    assert ctaflows("ls", "cta/user").out.split() == ["dir", "lost", "one.h5", "own.h5"]
    records = json.loads(ctaflows("ls", "--json", "cta/user").out)
    assert [(r["type"], r.get("link")) for r in records] == [
        *(("link", "directory"), ("link", "nothing"), ("file", "file"), ("file", None)),
    ]


def test_directories_behind_links_are_listed_when_asked(linked: Sandbox) -> None:
    done = ctaflows("ls", "-r", "cta/user")
    assert done.out.split() == ["dir", "lost", "one.h5", "own.h5"]
    assert "/cta/user/dir is a symbolic link to a directory, which was not entered" in done.err
    assert "--follow" in done.err
    assert "/cta/user/lost is a symbolic link to nothing" in done.err
    done = ctaflows("ls", "-r", "--follow", "cta/user")
    assert done.out.split()[4:] == ["dir/a.h5", "dir/sub/", "dir/sub/b.h5"]
    assert "--follow" not in done.err
    assert not ctaflows("ls", "-r", "-q", "cta/user").err


def test_find_and_du(linked: Sandbox) -> None:
    assert [e.name for e in find("cta/user")] == ["one.h5", "own.h5"]
    assert [e.name for e in find("cta/user", kind="link")] == ["dir", "lost", "one.h5"]
    followed = find("cta/user", follow=True)
    assert [e.path for e in followed][2:] == ["/cta/user/dir/a.h5", "/cta/user/dir/sub/b.h5"]
    done = ctaflows("find", "cta/user", "--type", "l")
    assert done.out.split() == ["/cta/user/dir", "/cta/user/lost", "/cta/user/one.h5"]
    done = ctaflows("find", "cta/user", "--name", "b.h5", "--follow")
    assert done.out.split() == ["/cta/user/dir/sub/b.h5"]
    [whole] = disk_usage("cta/user", depth=0)
    assert (whole.size_bytes, whole.n_files, whole.n_unknown) == (len(DATA) + 1, 2, 0)
    [whole] = disk_usage("cta/user", depth=0, follow=True)
    assert (whole.size_bytes, whole.n_files) == (len(DATA) + 1 + 3, 4)
    assert "--follow" in ctaflows("du", "cta/user").err
    assert "4 files" in ctaflows("du", "-s", "--follow", "cta/user").out


def test_a_link_to_the_directory_above_ends(linked: Sandbox) -> None:
    linked.link("/cta/user/up", "/cta")
    linked.link("/cta/user/self", "/cta/user")
    found = [e.path for batch in iter_dir("cta/user", recursive=True, follow=True) for e in batch]
    assert len(found) == len(set(found))
    # the directory `far` is listed once: by which of the two links is not settled
    assert sum(path.endswith("/b.h5") for path in found) == 1
    assert not any("/user/self/" in path or "/up/user/" in path for path in found)


# -- fetching --------------------------------------------------------------------------------------


def test_get_of_a_tree_fetches_linked_files(linked: Sandbox, here: Path) -> None:
    done = ctaflows("get", "-r", "cta/user", ".")
    assert done.code == 0, done.err
    assert "/cta/user/dir is a symbolic link to a directory, which was not entered" in done.err
    assert "/cta/user/lost is a symbolic link to nothing" in done.err
    names = sorted(path.name for path in (here / "user").iterdir())
    assert names == ["manifest.jsonl", "one.h5", "own.h5"]
    assert (here / "user/one.h5").read_bytes() == b"a"
    records = map(json.loads, (here / "user/manifest.jsonl").read_text().splitlines())
    assert all(record["verified"] for record in records)
    again = ctaflows("get", "-r", "cta/user", ".", "--follow")
    assert again.code == 0, again.err
    assert (here / "user/dir/sub/b.h5").read_bytes() == b"bb"


def test_what_is_below_a_link_that_is_not_entered_is_kept(linked: Sandbox, here: Path) -> None:
    assert ctaflows("get", "-r", "--follow", "cta/user", ".").code == 0
    (here / "user/more.h5").write_bytes(b"not there")
    done = ctaflows("get", "-r", "--delete", "cta/user", ".")
    assert done.code == 0, done.err
    assert "behind a symbolic link" in done.err
    assert (here / "user/dir/sub/b.h5").exists()
    assert not (here / "user/more.h5").exists()
    (here / "user/dir/old.h5").write_bytes(b"not there")
    assert ctaflows("get", "-r", "--delete", "--follow", "cta/user", ".").code == 0
    assert not (here / "user/dir/old.h5").exists()
    assert (here / "user/dir/sub/b.h5").exists()


def test_a_directory_that_is_listed_by_another_link_is_told_and_kept(
    linked: Sandbox, here: Path
) -> None:
    assert ctaflows("get", "-r", "--follow", "cta/user", ".").code == 0
    linked.link("/cta/user/sub", "/cta/far/sub")
    said = "(/cta/user/dir/sub is listed by another path)"
    done = ctaflows("get", "-r", "--follow", "--delete", "cta/user", ".")
    assert done.code == 0, done.err
    assert said in done.err
    assert "1 files stay" in done.err
    assert (here / "user/dir/sub/b.h5").read_bytes() == (here / "user/sub/b.h5").read_bytes()
    for words in (["ls", "-r"], ["du"], ["find"]):
        assert said in ctaflows(*words, "--follow", "cta/user").err
    tree = list_tree("cta/user", follow=True)
    assert prune_tree(tree, here / "user") == ([], ["dir/sub/b.h5"])


def test_a_followed_tree_names_what_is_below_its_links(linked: Sandbox, here: Path) -> None:
    tree = list_tree("cta/user", follow=True)
    assert list(tree.names) == ["dir", "lost", "one.h5", "own.h5", "dir/a.h5", "dir/sub/b.h5"]
    assert [link.path for link in tree.links] == ["/cta/user/lost"]
    assert prune_tree(tree, here / "user") == ([], [])


def test_the_library_warns_of_links(
    linked: Sandbox, here: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        report = fetch_dir("cta/user", here)
    assert [done.path for done in report.transfers] == ["/cta/user/one.h5", "/cta/user/own.h5"]
    assert "/cta/user/dir is a symbolic link to a directory, not fetched" in caplog.text
    assert "/cta/user/lost is a symbolic link to nothing" in caplog.text
    assert len(fetch_dir("cta/user", here, follow=True).transfers) == 4


def test_mirror_follows_when_asked(
    linked: Sandbox, here: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CTAFLOWS_TRACK", "never")
    with caplog.at_level(logging.WARNING):
        assert len(mirror("cta/user", str(here), delete=True).transfers) == 2
    assert "/cta/user/dir is a symbolic link" in caplog.text
    assert len(mirror("cta/user", str(here), follow=True).transfers) == 4
    report = mirror("cta/user", str(here), delete=True)
    assert (report.deleted, report.kept) == ((), ("dir/a.h5", "dir/sub/b.h5"))


@pytest.mark.parametrize(("name", "error"), [("dir", UsageError), ("lost", NotFound)])
def test_a_listed_link_that_leads_to_no_file_is_not_fetched(
    linked: Sandbox, name: str, error: type[Exception]
) -> None:
    [entry] = [entry for entry in list_dir("cta/user") if entry.name == name]
    with pytest.raises(error):
        fetch_file(entry)
    with pytest.raises(error):
        open_remote(entry)


def test_a_link_to_a_file_is_read_as_its_target(linked: Sandbox) -> None:
    [entry] = [entry for entry in list_dir("cta/user") if entry.name == "one.h5"]
    for path in (entry, "cta/user/one.h5"):
        with open_remote(path) as file:
            assert file.read() == b"a"


def test_fsspec(linked: Sandbox) -> None:
    fs = fsspec.filesystem("cta", skip_instance_cache=True)
    about = {entry["name"].rpartition("/")[2]: entry for entry in fs.ls("cta://cta/user")}
    assert {name: (one["type"], one["islink"]) for name, one in about.items()} == {
        "own.h5": ("file", False),
        "one.h5": ("file", True),
        "dir": ("link", True),
        "lost": ("link", True),
    }
    assert about["one.h5"]["size"] == 1
    assert fs.info("cta/user/one.h5")["islink"] is None
    assert fs.cat_file("cta/user/one.h5") == b"a"
    assert not any("dir/" in path for path in fs.find("cta/user"))
    assert [dirs for _, dirs, _ in fs.walk("cta/user")] == [[]]


# -- changing --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["one.h5", "dir"])
def test_put_onto_a_link_is_refused_before_anything_is_sent(
    linked: Sandbox, here: Path, name: str
) -> None:
    (here / "new.h5").write_bytes(b"new")
    linked.requests.clear()
    done = ctaflows("put", "new.h5", f"/cta/user/{name}", "--overwrite")
    assert done.code in (4, 8)
    assert ("symbolic link" if name == "one.h5" else "directory") in done.err
    assert not sent(linked, "PUT", "MOVE", "DELETE")
    assert (linked.storage / "cta/far/a.h5").read_bytes() == b"a"


def test_put_of_what_a_link_leads_to_changes_nothing(linked: Sandbox, here: Path) -> None:
    (here / "same.h5").write_bytes(b"a")
    assert upload_file(here / "same.h5", "cta/user/one.h5", overwrite=True).skipped


def test_a_plan_says_that_a_link_is_not_replaced(linked: Sandbox, here: Path) -> None:
    pairs: list[tuple[Path, str]] = []
    for name in ("one.h5", "dir", "lost", *(f"{n}.h5" for n in range(9))):
        (here / name).write_bytes(b"other")
        pairs.append((here / name, f"cta/user/{name}"))
    notes = [one.note for one in plan_uploads(pairs, overwrite=True)]
    assert notes[:3] == [
        f"refuse: it is a symbolic link to {to}" for to in ("a file", "a directory", "nothing")
    ]


@pytest.mark.parametrize(
    ("source", "target"), [("one.h5", "new.h5"), ("own.h5", "one.h5"), ("dir", "new")]
)
def test_a_link_is_neither_moved_nor_replaced(linked: Sandbox, source: str, target: str) -> None:
    with pytest.raises(StorageError, match="symbolic link"):
        move(f"cta/user/{source}", f"cta/user/{target}", overwrite=True)
    assert (linked.storage / "cta/far/a.h5").read_bytes() == b"a"
    assert (linked.storage / "cta/user/own.h5").read_bytes() == DATA
    moves = [path for _, path in sent(linked, "MOVE")]
    assert moves == (["/cta/user/one.h5"] if source == "one.h5" else [])


def test_a_link_to_nothing_is_replaced_as_nothing_is_there(linked: Sandbox, here: Path) -> None:
    """Asked for by itself, it is not there; so real doors of dCache 12.0.1 do, too."""
    (here / "new.h5").write_bytes(b"new")
    assert ctaflows("put", "new.h5", "/cta/user/lost").code == 0
    assert (linked.storage / "cta/user/lost").read_bytes() == b"new"
    linked.link("/cta/user/lost2", "/cta/gone")
    move("cta/user/own.h5", "cta/user/lost2")
    assert not (linked.storage / "cta/user/lost2").is_symlink()


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("cta/far/a.h5", "cta/user/dir/a.h5"),
        ("cta/user/dir/a.h5", "cta/far/a.h5"),
        ("cta/far/a.h5", "cta/user/dir"),
        ("cta/far", "cta/user/dir"),
        ("cta/far/a.h5", "cta//far/./a.h5"),
    ],
)
def test_nothing_is_moved_onto_itself(linked: Sandbox, source: str, target: str) -> None:
    linked.requests.clear()
    with pytest.raises(UsageError, match="the same"):
        move(source, target, overwrite=True)
    assert not sent(linked, "MOVE", "DELETE")
    assert (linked.storage / "cta/far/a.h5").read_bytes() == b"a"


@pytest.mark.parametrize("target", ["/cta/far/a.h5", "cta//far/./a.h5", "{url}/cta/far/a%2eh5"])
def test_a_storage_sends_no_move_onto_itself(linked: Sandbox, target: str) -> None:
    door = connect(None)
    with pytest.raises(UsageError, match="the same"):
        door.move("cta/far/a.h5", target.format(url=door.url), overwrite=True)
    assert (linked.storage / "cta/far/a.h5").read_bytes() == b"a"


# -- nights ----------------------------------------------------------------------------------------

NIGHT = "/cta/DL1/20241114"
FILE = "tailcut84/dl1_LST-1.Run00001.{:04}.h5"


def night_files(**how: Any) -> list[str]:
    night = list_night("20241114", **how)
    assert not night.links
    return [entry.path.removeprefix(NIGHT) for entry in night.entries]


def test_a_night_s_directory_may_be_a_link(box: Sandbox, here: Path) -> None:
    box.put(f"/old/v0.1/{FILE.format(0)}", b"x")
    box.link(NIGHT, "/old")
    assert night_files() == [f"/v0.1/{FILE.format(0)}"]
    assert ctaflows("night", "20241114", "--no-state").code in (0, 11)


@pytest.mark.parametrize("version", ["v0.2", "latest"])
def test_a_version_may_be_a_link(box: Sandbox, here: Path, version: str) -> None:
    box.put(f"/elsewhere/{FILE.format(0)}", b"x")
    box.link(f"{NIGHT}/{version}", "/elsewhere")
    assert night_files() == [f"/{version}/{FILE.format(0)}"]


@pytest.mark.parametrize("link", ["latest", "v0.2", "v0.12"])
def test_no_run_counts_twice(box: Sandbox, here: Path, link: str) -> None:
    box.put(f"{NIGHT}/v0.11/{FILE.format(0)}", b"x")
    box.link(f"{NIGHT}/{link}", "v0.11")
    assert night_files() == [f"/v0.11/{FILE.format(0)}"]
    done = ctaflows("night", "20241114", "--no-state", "--json")
    [night] = json.loads(done.out)
    assert (len(night["runs"]), night["doubles"], night["unknown"]) == (1, [], [])
    if link != "latest":  # asked for by the link's own name
        assert night_files(version=link) == [f"/{link}/{FILE.format(0)}"]
        done = ctaflows("night", "20241114", "--version", link, "--no-state", "--json")
        assert json.loads(done.out)[0]["doubles"] == []


def test_links_within_a_version_are_followed_when_asked(box: Sandbox, here: Path) -> None:
    box.put(f"{NIGHT}/v0.1/{FILE.format(0)}", b"x")
    box.put("/more/dl1_LST-1.Run00001.0001.h5", b"y")
    box.link(f"{NIGHT}/v0.1/part2", "/more")
    box.link(f"{NIGHT}/v0.1/again", "tailcut84")
    done = ctaflows("night", "20241114", "--no-state", "--json")
    assert done.code in (10, 11)  # the files are new
    told = [f"{NIGHT}/v0.1/part2: a symbolic link to a directory"]
    assert json.loads(done.out)[0]["unknown"] == told
    done = ctaflows("night", "20241114", "--no-state", "--json", "--follow")
    [night] = json.loads(done.out)
    assert night["unknown"] == []
    assert [run["n_subruns"] for run in night["runs"]] == [2]
    assert len(night_files(follow=True)) == 2


def test_fetch_dl1_follows_when_asked(box: Sandbox, here: Path) -> None:
    box.put("/cta/DL1/20241114/v0.1/tailcut84/dl1_LST-1.Run00001.0000.h5", b"x")
    box.put("/more/dl1_LST-1.Run00001.0001.h5", b"y")
    box.link(f"{NIGHT}/v0.1/part2", "/more")
    words = ["run", "fetch-dl1", "--date", "20241114", "--no-inspect", "--dest", "."]
    assert "part2: a symbolic link to a directory" in ctaflows(*words).out
    assert not list(here.rglob("*.0001.h5"))
    ctaflows(*words, "--follow")
    [file] = here.rglob("*.0001.h5")
    assert file.read_bytes() == b"y"
