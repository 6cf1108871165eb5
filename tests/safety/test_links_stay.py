"""Symbolic links at a door: nothing is deleted, moved or replaced through them.

The little door answers about them as dCache 11.2.5 was seen to, the sandbox at the end as StoRM
WebDAV 1.8.1.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from commands import ctaflows

from ctaflows import plan_removal, remove
from ctaflows.errors import PartialFailure
from ctaflows.sandbox import Quirks, Sandbox
from ctaflows.storage.links import NOT_BY_WEBDAV
from ctaflows.tasks.transfers import find_extraneous, upload_files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from littledoor import LittleDoor

PRECIOUS = {"/precious/a.h5": b"a", "/precious/sub/b.h5": b"b"}


@pytest.fixture
def linked(little: LittleDoor, at_little: Path) -> Path:
    """A directory with a file of its own and a link to one with precious files."""
    little.files.update({**PRECIOUS, "/user/own.h5": b"own"})
    little.folders |= {"/user"}
    little.links["/user/link"] = "/precious"
    return at_little


def asked(little: LittleDoor, *methods: str) -> list[tuple[str, str]]:
    """Give the requests that change something, but those about temporary names."""
    methods = methods or ("DELETE", "MOVE")
    return [(h.method, h.target) for h in little.heard if h.method in methods]


def test_rm_of_a_tree_leaves_what_a_link_in_it_leads_to(little: LittleDoor, linked: Path) -> None:
    done = ctaflows("rm", "-r", "-y", "user")
    assert done.code == 10
    assert done.err.splitlines()[:2] == [
        f"ctaflows: /user/link: {NOT_BY_WEBDAV}",
        "ctaflows: /user: The directory is not empty",
    ]
    assert little.files == PRECIOUS
    assert asked(little) == [("DELETE", "/user/own.h5")]


def test_the_task_remove_leaves_links_alone(little: LittleDoor, linked: Path) -> None:
    with pytest.raises(PartialFailure) as caught:
        remove("user", recursive=True)
    failed = {outcome.path: outcome.error for outcome in caught.value.report}
    assert sorted(failed) == ["/user", "/user/link"]
    assert little.files == PRECIOUS


@pytest.mark.parametrize("how", [["rm", "-r", "-y", "user/link"], ["mv", "user/link", "user/new"]])
def test_a_link_to_a_directory_that_is_named_itself_is_refused(
    little: LittleDoor, linked: Path, how: list[str]
) -> None:
    done = ctaflows(*how)
    assert done.code in (8, 10)
    assert "symbolic link" in done.err
    assert little.files.keys() == {*PRECIOUS, "/user/own.h5"}
    assert not asked(little)


def test_a_directory_that_its_parent_does_not_show_is_not_removed(
    little: LittleDoor, linked: Path
) -> None:
    little.links["/hidden"] = "/precious"
    little.statuses["/hidden"] = "403 Forbidden"
    done = ctaflows("rm", "-r", "-y", "hidden")
    assert done.code == 10
    assert "can't be told" in done.err
    assert little.files.keys() >= PRECIOUS.keys()


def test_a_file_that_is_only_unavailable_is_removed(little: LittleDoor, linked: Path) -> None:
    def unavailable(path: str) -> str:
        return real(path).replace(
            "<d:resourcetype/>", "<d:resourcetype/><s:FileLocality>UNAVAILABLE</s:FileLocality>"
        )

    real, little.child = little.child, unavailable  # type: ignore[method-assign]
    little.has_sums = False
    little.links.clear()
    done = ctaflows("rm", "-r", "-y", "user")
    assert done.code == 0, done.err
    assert little.files == PRECIOUS


def test_put_with_delete_leaves_links_at_the_door(little: LittleDoor, linked: Path) -> None:
    (linked / "user").mkdir()
    (linked / "user/new.h5").write_bytes(b"new")
    done = ctaflows("put", "-r", "user", "/", "--delete")
    assert done.code == 10
    assert "symbolic link" in done.err
    assert little.files == {**PRECIOUS, "/user/new.h5": b"new"}
    assert "1 remote files deleted" in done.err


@pytest.mark.parametrize(
    "command", [["get", "-r", "user", "."], ["run", "mirror", "--path", "user", "--dest", "."]]
)
def test_a_mirror_keeps_what_lies_where_the_door_has_a_link(
    little: LittleDoor, linked: Path, command: list[str]
) -> None:
    kept = linked / "user/link/a.h5"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"fetched when it was a directory")
    (linked / "user/gone.h5").write_bytes(b"not there any more")
    little.links["/user/link"] = "/precious"
    done = ctaflows(*command, "--include", "*.h5", "--delete")
    assert done.code == 0, done.err
    assert kept.exists()
    assert not (linked / "user/gone.h5").exists()


def test_an_upload_over_what_is_listed_as_a_link_is_refused(
    little: LittleDoor, linked: Path
) -> None:
    pairs = []
    for number in range(9):  # so many that their directory is listed
        local = linked / f"{number}.h5"
        local.write_bytes(b"x" * (number + 1))
        pairs.append((local, f"/user/{'link' if number == 5 else number}"))
    with pytest.raises(PartialFailure) as caught:
        upload_files(pairs, overwrite=True)
    [failed] = caught.value.report.failed
    assert failed.path == "/user/link"
    assert "symbolic link" in (failed.error or "")
    assert not any("/user/link" in target for _, target in asked(little, "DELETE"))
    assert little.files.keys() >= PRECIOUS.keys()


def test_put_with_delete_into_what_is_itself_a_link_deletes_nothing(
    little: LittleDoor, linked: Path
) -> None:
    (linked / "link").mkdir()
    (linked / "link/new.h5").write_bytes(b"new")
    done = ctaflows("put", "-r", "link", "user/", "--delete")
    assert done.code == 8
    assert "symbolic link" in done.err
    assert little.files.keys() >= PRECIOUS.keys()


@pytest.mark.parametrize("how", [["rm"], ["rm", "-r", "-y"]])
def test_rm_of_a_link_to_a_file_says_what_it_is(
    little: LittleDoor, linked: Path, how: list[str]
) -> None:
    little.links["/user/file-link"] = "/precious/a.h5"
    done = ctaflows(*how, "user/file-link")
    assert done.code in (8, 10)
    assert "symbolic link, which WebDAV can't safely remove" in done.err
    assert little.files.keys() >= PRECIOUS.keys()
    assert len(asked(little)) <= 1


def test_a_link_within_a_night_makes_it_incomplete(little: LittleDoor, at_little: Path) -> None:
    little.files.update(PRECIOUS)
    version = "/cta/DL1/20241114/v0.1"
    little.files[f"{version}/dl1_LST-1.Run00001.0000.h5"] = b"x"
    assert ctaflows("night", "20241114", "--no-state").code == 0
    little.links["/cta/DL1/20241114/latest"] = version  # no version of its own
    assert ctaflows("night", "20241114", "--no-state").code == 0
    for link, target, words in (
        (f"{version}/part2", "/precious", "a directory"),
        (f"{version}/dl1_LST-1.Run00001.0001.h5", "/gone", "nothing"),
        ("/cta/DL1/20241114/v0.2", "/gone", "nothing"),
    ):
        little.links[link] = target
        done = ctaflows("night", "20241114", "--no-state", "--json")
        assert done.code == 10
        assert json.loads(done.out)[0]["unknown"] == [f"{link}: a symbolic link to {words}"]
        del little.links[link]


# -- StoRM, which lists a link to a directory as a directory ---------------------------------------

UNREAD = "It may be, or lie behind, a symbolic link"


@pytest.fixture
def storm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Sandbox]:
    """A door like StoRM's: a tree of one's own, a link in it, and what that leads to."""
    with Sandbox(quirks=Quirks.storm()) as box:
        monkeypatch.setenv("CTAFLOWS_CONFIG_DIR", str(box.config_dir))
        monkeypatch.setenv("CTAFLOWS_BACKOFF_S", "0.01")
        monkeypatch.setenv("CTAFLOWS_ATTEMPTS", "5")
        monkeypatch.setenv("CTAFLOWS_BUSY_S", "0.05")
        monkeypatch.chdir(tmp_path)
        for path, data in PRECIOUS.items():
            box.put(path, data)
        box.put("/flat/user/own/a.h5", b"own")
        box.link("/flat/user/own/link", "/precious")
        yield box
        for path, data in PRECIOUS.items():
            assert (box.storage / path.lstrip("/")).read_bytes() == data


def removed(box: Sandbox) -> list[str]:
    return sorted(
        r.path.rstrip("/") for r in box.requests if r.method == "DELETE" and r.status == 204
    )


def test_rm_at_storm_leaves_what_a_link_leads_to(storm: Sandbox) -> None:
    (storm.storage / "flat/user/own/empty/too").mkdir(parents=True)
    done = ctaflows("rm", "-r", "-y", "flat/user")
    assert done.code == 10
    assert removed(storm) == [
        "/flat/user/own/a.h5",
        "/flat/user/own/empty",
        "/flat/user/own/empty/too",
    ]
    assert f"ctaflows: /flat/user/own/link: {UNREAD}" in done.err
    asked = [
        r.path for r in storm.requests if r.method == "GET" and r.path.startswith("/flat/user")
    ]
    links = [f"/flat/user/own/link/{p}" for p in ("a.h5", "sub/b.h5")]
    assert sorted(asked) == ["/flat/user/own/a.h5", *links], "one for each directory with files"


def test_what_is_replaced_at_storm_costs_no_listing(storm: Sandbox, tmp_path: Path) -> None:
    storm.put("/flat/user/own/b.h5", b"other")
    (tmp_path / "new.h5").write_bytes(b"new")
    storm.requests.clear()
    for done in (
        ctaflows("put", "new.h5", "/flat/user/own/a.h5", "--overwrite"),
        ctaflows("mv", "/flat/user/own/b.h5", "/flat/user/own/a.h5", "--overwrite"),
    ):
        assert done.code == 0, done.err
    assert (storm.storage / "flat/user/own/a.h5").read_bytes() == b"other"
    listed = [r.path.rstrip("/") for r in storm.requests if r.method == "PROPFIND"]
    assert "/flat/user/own" not in listed


def test_a_dry_run_at_storm_shows_what_stays(storm: Sandbox) -> None:
    done = ctaflows("rm", "-r", "-n", "flat/user", "--json")
    assert done.code == 10
    kept = {r["path"]: r["error"] for r in json.loads(done.out) if r["error"]}
    assert kept.keys() == {"/flat/user/own/link"}
    assert kept["/flat/user/own/link"].startswith(UNREAD)
    assert not removed(storm)


def test_the_size_of_what_stays_is_not_counted(storm: Sandbox) -> None:
    plan = plan_removal(["flat/user"])
    assert (plan.size_bytes, plan.n_empty) == (3, 0)
    assert (plan.files, plan.dirs) == (["/flat/user/own/a.h5"], ["/flat/user", "/flat/user/own"])


@pytest.mark.parametrize("path", ["flat/user/own/link", "flat/user/own/link/sub"])
def test_a_link_at_storm_that_is_named_itself_is_kept(storm: Sandbox, path: str) -> None:
    done = ctaflows("rm", "-r", "-y", path)
    assert done.code == 10
    assert UNREAD in done.err
    assert not removed(storm)


def test_a_tree_without_links_is_removed_at_storm(storm: Sandbox) -> None:
    storm.put("/flat/gone/odd name", b"1")  # can't be read; what is below can
    storm.put("/flat/gone/empty.h5", b"")
    storm.put("/flat/gone/sub/c.h5", b"1")
    storm.put("/flat/gone/odd/odd name", b"1")
    storm.put("/flat/gone/odd/sub/c.h5", b"1")
    storm.link("/flat/gone/sub/a.h5", "/precious/a.h5")  # asked for before c.h5
    (storm.storage / "flat/gone/none/at/all").mkdir(parents=True)
    done = ctaflows("rm", "-r", "-y", "flat/gone")
    assert done.code == 0, done.err
    assert not (storm.storage / "flat/gone").exists()


def test_a_directory_of_which_no_file_can_be_read_is_kept(storm: Sandbox) -> None:
    storm.put("/flat/odd/odd name", b"1")
    done = ctaflows("rm", "-r", "-y", "flat/odd")
    assert done.code == 10
    assert f"/flat/odd: {UNREAD}" in done.err
    assert (storm.storage / "flat/odd/odd name").exists()


@pytest.mark.parametrize("fault", ["403", "500", "503"])
def test_only_an_answer_with_bytes_lets_a_directory_go(storm: Sandbox, fault: str) -> None:
    storm.put("/flat/gone/a.h5", b"1")
    storm.faults.add(fault, method="GET", times=None)
    done = ctaflows("rm", "-r", "-y", "flat/gone", CTAFLOWS_ATTEMPTS="1")
    assert done.code != 0
    assert not removed(storm)


def test_put_with_delete_at_storm_leaves_what_a_link_leads_to(
    storm: Sandbox, tmp_path: Path
) -> None:
    (tmp_path / "user/own/link").mkdir(parents=True)
    (tmp_path / "user/own/b.h5").write_bytes(b"new")
    (tmp_path / "user/own/link/c.h5").write_bytes(b"new")
    (tmp_path / "user/own/link/sub").mkdir()
    (tmp_path / "user/own/link/sub/c.h5").write_bytes(b"new")
    plan, _ = find_extraneous(["user"], "/flat")
    assert plan.files == ["/flat/user/own/a.h5"]
    assert [result.path for result in plan.kept] == ["/flat/user/own/link"]
