"""Children that a listing names with a status of their own: there, and nothing else is known."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import fsspec
import pytest
from commands import ctaflows

from ctaflows import disk_usage, fetch_files, find, list_dir, remove
from ctaflows.ctadata import direct
from ctaflows.errors import CtaflowsError, PartialFailure, StorageError
from ctaflows.model import Entry

if TYPE_CHECKING:
    from pathlib import Path

    from littledoor import LittleDoor

STATUSES = ["403 Forbidden", "423 Locked", "500 Internal Server Error", "507 Insufficient Storage"]
FILES = {"/n/a.h5": b"a" * 900, "/n/b.h5": b"b" * 900, "/n/sub/c.h5": b"c" * 900}


@pytest.fixture
def night(little: LittleDoor, at_little: Path) -> Path:
    """All of it is here already; gives the folder."""
    little.files.update(FILES)
    little.folders |= {"/n", "/n/sub"}
    assert ctaflows("get", "-r", "n", ".").code == 0
    return at_little / "n"


@pytest.fixture(params=["/n/b.h5", "/n/sub"])
def unknown(little: LittleDoor, night: Path, request: pytest.FixtureRequest) -> str:
    """A file, or a directory, that the door names without describing it."""
    little.statuses[request.param] = STATUSES[0]
    return str(request.param)


@pytest.mark.parametrize("status", STATUSES)
def test_ls_shows_it_and_does_not_end_well(little: LittleDoor, night: Path, status: str) -> None:
    little.statuses["/n/b.h5"] = status
    done = ctaflows("ls", "-l", "n")
    assert done.code == 10
    assert f"({status})  b.h5" in done.out
    assert f"can't describe or list it: /n/b.h5: {status}" in done.err
    shown = json.loads(ctaflows("ls", "--json", "n").out)
    assert [e for e in shown if e["path"] == "/n/b.h5"] == [
        {**Entry("/n/b.h5").to_dict(), "type": "unknown", "error": status}
    ]


@pytest.mark.parametrize("words", [["find", "n"], ["find", "n", "--name", "c*"], ["du", "n"]])
def test_searching_does_not_end_well(unknown: str, words: list[str]) -> None:
    done = ctaflows(*words)
    assert done.code == 10
    assert unknown in done.err


def test_what_is_excluded_is_not_missed(unknown: str) -> None:
    name = unknown.rpartition("/")[2]
    assert ctaflows("find", "n", "--exclude", name).code == 0
    assert ctaflows("get", "-r", "n", "again", "--exclude", name).code == 0


def test_a_child_that_is_gone_is_no_error(little: LittleDoor, night: Path) -> None:
    for path, status in (("/n/b.h5", "404 Not Found"), ("/n/sub", "410 Gone")):
        little.statuses[path] = status
    assert ctaflows("ls", "n").out == "a.h5\n"


@pytest.mark.parametrize("patterns", [[], ["--include", "*.h5"]])
def test_get_of_the_tree_fails_for_it_alone(unknown: str, night: Path, patterns: list[str]) -> None:
    done = ctaflows("get", "-r", "n", "again", *patterns)
    assert done.code == 10
    assert f"the first: {unknown}: StorageError" in done.err
    assert (night.parent / "again/n/a.h5").exists()


def test_the_local_copy_is_kept_when_a_mirror_is_pruned(unknown: str, night: Path) -> None:
    (night / "old.h5").write_bytes(b"not at the door")
    assert ctaflows("get", "-r", "n", ".", "--delete").code == 10
    assert ctaflows("run", "mirror", "--path", "n", "--dest", ".", "--delete").code == 10
    assert sorted(p.name for p in night.rglob("*.h5")) in (
        ["a.h5", "b.h5", "c.h5"], ["a.h5", "b.h5", "c.h5", "old.h5"],
    )  # fmt: skip


def test_rm_removes_nothing_that_was_not_shown(
    little: LittleDoor, unknown: str, night: Path
) -> None:
    done = ctaflows("rm", "-r", "-y", "n")
    assert done.code == 10
    assert f"{unknown}: it can't be described: 403 Forbidden" in done.err
    assert {path for path in little.files if path.startswith(unknown)}
    assert "/n" in little.folders
    assert "/n/a.h5" not in little.files


def test_put_with_delete_leaves_it_at_the_door(
    little: LittleDoor, unknown: str, night: Path
) -> None:
    for name in ("b.h5", "sub/c.h5", "manifest.jsonl"):
        (night / name).unlink()
    (night / "sub").rmdir()
    done = ctaflows("put", "-r", "n", "/", "--delete")
    assert done.code == 10
    assert {path for path in little.files if path.startswith(unknown)}
    assert len(little.files) == 2


def test_the_library_says_so(little: LittleDoor, unknown: str, night: Path) -> None:
    assert [e.path for e in list_dir("n") if e.error] == [unknown]
    found = find("n", include=["*.h5"])
    assert unknown in [e.path for e in found]
    with pytest.raises(PartialFailure, match=unknown):
        fetch_files(found, "again")
    with pytest.raises(PartialFailure, match=unknown):
        remove("n", recursive=True)


def test_one_status_may_be_that_of_several_children(little: LittleDoor, at_little: Path) -> None:
    little.files.update(FILES)
    real = little.child

    def together(path: str) -> str:
        if path == "/n/a.h5":
            return (
                "<d:response><d:href>/n/a.h5</d:href><d:href>/n/b.h5</d:href>"
                "<d:status>HTTP/1.1 423 Locked</d:status></d:response>"
            )
        return "" if path == "/n/b.h5" else real(path)

    little.child = together  # type: ignore[method-assign]
    assert [e.path for e in list_dir("n") if e.error == "423 Locked"] == ["/n/a.h5", "/n/b.h5"]


def test_a_night_is_not_complete(little: LittleDoor, at_little: Path) -> None:
    version = "/cta/DL1/20241114/v0.1"
    little.files[f"{version}/dl1_LST-1.Run00001.0000.h5"] = b"x"
    little.statuses[f"{version}/interleaved"] = "403 Forbidden"
    assert ctaflows("night", "20241114", "--no-state").code == 10
    assert ctaflows("night", "20241114", "--no-state", "--version", "v0.1").code == 10
    for _ in range(2):
        done = ctaflows("run", "watch-night", "--date", "20241114", "--no-inspect", "--polls", "1")
    assert "is complete" not in done.out + done.err
    wanted = ["--date", "20241114", "--no-inspect", "--dry-run"]
    assert "interleaved: 403" in ctaflows("run", "fetch-dl1", *wanted).out
    excluded = ctaflows("run", "fetch-dl1", *wanted, "--exclude", "interleaved")
    assert "403" not in excluded.out


@pytest.mark.parametrize("hidden", ["v0.1/tailcut84", "v0.2"])
def test_a_night_with_a_directory_that_shows_nothing_is_not_complete(
    little: LittleDoor, at_little: Path, hidden: str
) -> None:
    little.files["/cta/DL1/20241114/v0.1/dl1_LST-1.Run00001.0000.h5"] = b"x"
    little.folders.add("/cta/DL1/20241114/v0.1/log")  # no place of DL1 files
    assert ctaflows("night", "20241114", "--no-state").code == 0
    little.folders.add(f"/cta/DL1/20241114/{hidden}")  # and known to be empty
    assert ctaflows("night", "20241114", "--no-state").code == 0
    little.secret.add(f"/cta/DL1/20241114/{hidden}")
    done = ctaflows("night", "20241114", "--no-state", "--json")
    assert done.code == 10
    assert json.loads(done.out)[0]["unknown"] == [
        f"/cta/DL1/20241114/{hidden}: shown as empty, but not known to be so"
    ]
    for _ in range(2):
        done = ctaflows("run", "watch-night", "--date", "20241114", "--no-inspect", "--polls", "1")
    assert "is complete" not in done.out + done.err


def test_a_dry_run_of_an_upload_says_what_can_not_be_described(
    little: LittleDoor, at_little: Path
) -> None:
    (at_little / "n").mkdir()
    for number in range(9):  # so many that their directory is listed
        (at_little / f"n/{number}.h5").write_bytes(b"x")
    little.folders.add("/n")
    little.statuses["/n/3.h5"] = "403 Forbidden"
    done = ctaflows("put", "-r", "n", "/", "-n")
    assert "n/3.h5 -> /n/3.h5  (look again: it can't be described: 403 Forbidden)" in done.out
    assert done.out.count("upload: not there") == 8


def test_a_night_whose_only_version_is_not_described_is_not_absent(
    little: LittleDoor, at_little: Path
) -> None:
    little.files["/cta/DL1/20241114/README"] = b"x"
    little.statuses["/cta/DL1/20241114/v0.1"] = "403 Forbidden"
    assert ctaflows("night", "20241114", "--no-state").code == 10
    assert ctaflows("run", "fetch-dl1", "--date", "20241114", "--no-inspect").code == 10


@pytest.mark.parametrize("more", [["-n"], ["--tables", "parameters"], ["-n", "--drop", "images"]])
def test_get_in_other_ways_does_not_end_well(unknown: str, more: list[str]) -> None:
    done = ctaflows("get", "-r", "n", "again", *more)
    assert done.code == 10
    assert unknown in done.err


def test_cta_urls_and_the_other_ways_to_list_raise(
    little: LittleDoor, unknown: str, night: Path
) -> None:
    cta = fsspec.filesystem("cta")
    for call in (cta.ls, cta.find, cta.du, lambda path: cta.glob(f"{path}/**/*.h5")):
        with pytest.raises(StorageError, match="403"):
            call("/n")
    with pytest.raises(PartialFailure, match=unknown):
        disk_usage("n")
    with pytest.raises(CtaflowsError, match=unknown):
        direct.list_dir("n", recursive=True)
