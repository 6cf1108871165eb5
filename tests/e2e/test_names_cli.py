"""Listing, searching, making, moving and removing at the door, as a person or a script does it."""

from __future__ import annotations

import functools
import json
import os
import pty
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
import shell
from commands import fails, ok, run

from ctaflows.errors import Nearline, NetworkError, Refused
from ctaflows.tasks import namespace

if TYPE_CHECKING:
    from pathlib import Path

    from ctaflows.errors import CtaflowsError
    from ctaflows.sandbox import Sandbox


@pytest.fixture
def tree(box: Sandbox, here: Path) -> Path:
    """A few files; gives their folder at the door's back."""
    for path, n_bytes in {
        "/t/b.h5": 2000, "/t/a.h5": 1, "/t/v1/dl1.h5": 30_000, "/t/v1/datacheck/d.h5": 5,
    }.items():  # fmt: skip
        box.put(path, b"x" * n_bytes)
    (box.storage / "t/empty").mkdir()
    os.utime(box.storage / "t/b.h5", (1_600_000_000, 1_600_000_000))
    return box.storage / "t"


def talk(answer: str, *words: str) -> tuple[int, str]:
    """Run ctaflows on a terminal and give this answer to what it asks."""
    parent, child = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "ctaflows", *words], stdin=child, stdout=child, stderr=child,
        close_fds=True,
    )  # fmt: skip
    os.close(child)
    os.write(parent, answer.encode())
    said = b""
    while True:
        try:
            data = os.read(parent, 4096)
        except OSError:
            break
        if not data:
            break
        said += data
    os.close(parent)
    return process.wait(240), said.decode()


@pytest.mark.parametrize("command", ["find", "du", "mkdir", "rm", "mv", "ls", "stat"])
def test_help_has_an_example(command: str) -> None:
    said = ok(command, "--help")
    assert f"Example: ctaflows {command} " in said
    for option in ("--json", "--profile", "--verbose", "--quiet"):
        assert option in said


# ls


def test_ls_sorts_and_shows_all_below(tree: Path) -> None:
    assert ok("ls", "t").split() == ["a.h5", "b.h5", "empty/", "v1/"]
    done = run("ls", "-r", "t")
    assert done.stdout.split() == [
        "a.h5", "b.h5", "empty/", "v1/", "v1/datacheck/", "v1/dl1.h5", "v1/datacheck/d.h5",
    ]  # fmt: skip
    assert done.stderr == "(/t/empty is empty)\n"
    assert run("ls", "-r", "-q", "t").stderr == ""
    assert sorted(ok("ls", "-U", "t").split()) == ["a.h5", "b.h5", "empty/", "v1/"]
    assert ok("ls", "t/a.h5").split() == ["a.h5"]
    long = ok("ls", "-l", "t/v1")
    assert "30,000" in long
    assert "adler32:" in long
    records = json.loads(ok("ls", "-r", "--json", "t"))
    assert [r["path"] for r in records][-1] == "/t/v1/datacheck/d.h5"


@pytest.mark.parametrize("n", [250, pytest.param(10_050, marks=pytest.mark.soak)])
def test_ls_of_many_streams_in_the_door_s_order(
    tree: Path, box: Sandbox, monkeypatch: pytest.MonkeyPatch, n: int
) -> None:
    if n < namespace.SORT_UP_TO:
        monkeypatch.setattr(namespace, "SORT_UP_TO", 200)
    many = box.storage / "many"
    many.mkdir()
    for i in range(n):
        (many / f"{i:05}").touch()
    found = ok("ls", "many").split()
    assert len(found) == n
    assert sorted(found) == [f"{i:05}" for i in range(n)]
    assert len(json.loads(ok("ls", "--json", "many"))) == n


def test_json_is_json_on_any_terminal(tree: Path, box: Sandbox) -> None:
    box.put("/u/né.h5", b"x")
    env = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    for told in (ok, functools.partial(shell.ok, **env)):
        for words in (["ls", "u"], ["find", "u"], ["du", "u"], ["stat", "u/né.h5"]):
            records = json.loads(told(*words, "--json"))
            assert "/u" in records[0]["path"]
        assert "/u/né.h5" in [r["path"] for r in json.loads(told("ls", "--json", "u"))]


def test_names_do_not_steer_the_terminal(tree: Path, box: Sandbox) -> None:
    box.put("/w/a\u009b31m.h5", b"x")
    code, said = talk("", "ls", "w")
    assert code == 0
    assert "\u009b" not in said
    assert "\u009b" in ok("ls", "w")


# find


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ([], "a.h5 b.h5 empty v1 v1/datacheck v1/dl1.h5 v1/datacheck/d.h5"),
        (["--type", "d"], "empty v1 v1/datacheck"),
        (["--type", "f", "--exclude", "datacheck"], "a.h5 b.h5 v1/dl1.h5"),
        (["--name", "d*.h5"], "v1/dl1.h5 v1/datacheck/d.h5"),
        (["--name", "v1/*"], ""),
        (["--include", "v1/*", "--type", "f"], "v1/dl1.h5 v1/datacheck/d.h5"),
        (["--min-size", "2kB"], "b.h5 v1/dl1.h5"),
        (["--max-size", "5"], "a.h5 v1/datacheck/d.h5"),
        (["--older-than", "2021-01-01"], "b.h5"),
        (["--newer-than", "2021-01-01", "--type", "f", "--name", "?.h5"], "a.h5 v1/datacheck/d.h5"),
        (["--older-than", "1000w", "--type", "f"], ""),
        (["--newer-than", "1d", "--type", "f", "--min-size", "10k"], "v1/dl1.h5"),
    ],
)
def test_find(tree: Path, words: list[str], found: str) -> None:
    assert ok("find", "t", *words).split() == [f"/t/{name}" for name in found.split()]
    records = json.loads(ok("find", "t", "--json", *words))
    assert [r["path"] for r in records] == [f"/t/{name}" for name in found.split()]


def test_find_refuses_what_it_can_not_read(tree: Path) -> None:
    assert "--newer-than" in fails(2, "find", "t", "--newer-than", "soon")
    assert "--max-size" in fails(2, "find", "t", "--max-size", "big")
    fails(2, "find", "t", "--type", "x")
    fails(2, "find")
    fails(3, "find", "nowhere")


# du


def test_du(tree: Path) -> None:
    lines = [line.split() for line in ok("du", "t").splitlines()]
    assert [(line[0] + line[1], line[2], line[-1]) for line in lines] == [
        ("0B", "0", "/t/empty"),
        ("5B", "1", "/t/v1/datacheck"),
        ("30kB", "2", "/t/v1"),
        ("32kB", "4", "/t"),
    ]
    assert ok("du", "-s", "t").split()[-1] == "/t"
    assert [r["path"] for r in json.loads(ok("du", "--depth", "1", "--json", "t"))] == [
        "/t/empty", "/t/v1", "/t",
    ]  # fmt: skip
    (record,) = json.loads(ok("du", "-s", "--json", "t"))
    assert record == {"path": "/t", "size_bytes": 32_006, "n_files": 4, "n_dirs": 3, "n_unknown": 0}
    assert run("du", "t").stderr == "(/t/empty is empty)\n"
    fails(2, "du", "--depth", "-1", "t")


def test_du_of_a_file_that_is_still_coming(tree: Path, box: Sandbox) -> None:
    box.uploading("/t/a.h5")
    assert "1 of unknown size" in ok("du", "-s", "t")
    assert ok("du", "t/b.h5").split()[:2] == ["2", "kB"]


# mkdir


def test_mkdir(tree: Path) -> None:
    ok("mkdir", "t/new")
    assert (tree / "new").is_dir()
    fails(4, "mkdir", "t/new")
    fails(3, "mkdir", "t/x/y")
    ok("mkdir", "-p", "t/x/y/z", "t/new")
    assert (tree / "x/y/z").is_dir()
    fails(4, "mkdir", "-p", "t/a.h5")
    done = run("mkdir", "--json", "t/new", "t/more", "t/q/r")
    assert done.returncode == 10
    records = json.loads(done.stdout)
    assert [r["error"] is None for r in records] == [False, True, False]
    assert done.stderr.count("t/new: It exists already\n") == 2, "its own line, and the sum's"
    assert (tree / "more").is_dir()


# mv


def test_mv(tree: Path) -> None:
    ok("mv", "t/a.h5", "t/c.h5")
    assert not (tree / "a.h5").exists()
    ok("mv", "t/c.h5", "t/v1")
    assert (tree / "v1/c.h5").exists()
    ok("mv", "t/v1/c.h5", "t/b.h5", "t/empty/")
    assert sorted(p.name for p in (tree / "empty").iterdir()) == ["b.h5", "c.h5"]
    ok("mv", "t/empty", "t/full")
    (record,) = json.loads(ok("mv", "--json", "t/full", "t/v1/"))
    assert record == {"path": "/t/full", "type": "directory", "target": "/t/v1/full", "error": None}
    assert (tree / "v1/full/b.h5").exists()


def test_mv_refuses(tree: Path) -> None:
    assert "--overwrite" in fails(4, "mv", "t/a.h5", "t/b.h5")
    assert len((tree / "b.h5").read_bytes()) == 2000
    ok("mv", "--overwrite", "t/a.h5", "t/b.h5")
    assert (tree / "b.h5").read_bytes() == b"x"
    fails(2, "mv", "t/v1", "t/v1")
    fails(2, "mv", "t/v1", "t/v1/datacheck/sub")
    fails(2, "mv", "t/b.h5", "t/b.h5")
    fails(2, "mv", "t/b.h5")
    fails(2, "mv", "/", "t")
    fails(3, "mv", "t/gone", "t/x")
    assert "mkdir" in fails(3, "mv", "t/b.h5", "t/nowhere/")
    fails(3, "mv", "t/b.h5", "t/no/where")
    fails(2, "mv", "t/empty", "t/b.h5/")
    (tree / "v1/empty").mkdir()
    fails(4, "mv", "--overwrite", "t/empty", "t/v1")
    fails(4, "mv", "--overwrite", "t/empty", "t/b.h5")
    done = run("mv", "--json", "t/gone", "t/b.h5", "t/v1/")
    assert done.returncode == 10
    assert [r["error"] is None for r in json.loads(done.stdout)] == [False, True]
    assert (tree / "v1/b.h5").exists()
    assert (tree / "v1/datacheck/d.h5").exists()


def test_mv_whose_answer_is_lost_is_looked_at_not_repeated(tree: Path, box: Sandbox) -> None:
    box.faults.add("lost", times=1, method="MOVE")
    ok("mv", "t/a.h5", "t/c.h5")
    assert (tree / "c.h5").exists()
    assert [r.method for r in box.requests].count("MOVE") == 1
    box.faults.add("reset", times=1, method="MOVE")
    fails(9, "mv", "t/c.h5", "t/d.h5")
    assert (tree / "c.h5").exists()


# rm


def test_rm_files(tree: Path) -> None:
    ok("rm", "t/a.h5")
    assert not (tree / "a.h5").exists()
    fails(3, "rm", "t/a.h5")
    ok("rm", "-f", "t/a.h5")
    assert "-r" in fails(2, "rm", "t/v1")
    assert ok("rm", "-n", "t/b.h5").split() == ["/t/b.h5"]
    done = run("rm", "t/gone", "t/v1", "t/b.h5")
    assert done.returncode == 10
    assert "gone" in done.stderr
    assert not (tree / "b.h5").exists()
    assert (tree / "v1/dl1.h5").exists()


def test_rm_a_tree_asks(tree: Path) -> None:
    code, said = talk("n\n", "rm", "-r", "t/v1")
    assert code == 0
    assert "2 files (30 kB) and 2 directories" in said
    assert "/t/v1/dl1.h5" in said
    assert "Nothing was removed" in said
    assert (tree / "v1/dl1.h5").exists()
    code, said = talk("y\n", "rm", "-r", "t/v1")
    assert code == 0
    assert "4 of 4 removed" in said
    assert not (tree / "v1").exists()
    assert (tree / "a.h5").exists()


def test_rm_a_tree_without_a_terminal(tree: Path) -> None:
    assert "--yes" in run("rm", "-r", "t").stderr
    assert run("rm", "-r", "t").returncode == 2
    assert (tree / "v1/dl1.h5").exists()
    listed = ok("rm", "-r", "-n", "t").split()
    assert listed[-1] == "/t/"
    assert len(listed) == 8
    records = json.loads(ok("rm", "-r", "-n", "--json", "t"))
    assert len(records) == 8
    assert (tree / "v1/dl1.h5").exists()
    records = json.loads(ok("rm", "-r", "-y", "--json", "t", "t/v1", "t/v1/dl1.h5"))
    assert len(records) == 8, "each once"
    assert not tree.exists()


def test_rm_dry_names_only_what_would_go(tree: Path) -> None:
    assert ok("rm", "-f", "-n", "gone", "t/a.h5").split() == ["/t/a.h5"]
    records = json.loads(ok("rm", "-f", "--json", "gone", "t/a.h5"))
    assert [record["path"] for record in records] == ["/gone", "/t/a.h5"]
    done = run("rm", "-r", "-n", "t/v1", "gone")
    assert done.returncode == 10
    assert "gone" not in done.stdout
    assert "  gone" not in done.stderr


def test_rm_never_the_root(tree: Path) -> None:
    for words in (["/"], ["-r", "/"], ["-r", "-y", "/"], ["-r", "-y", "t", "/"], ["-r", "-y", "."]):
        fails(2, "rm", *words)
    assert (tree / "v1/dl1.h5").exists()


def test_rm_goes_on_past_what_fails(tree: Path, box: Sandbox) -> None:
    box.faults.add("403", times=None, method="DELETE", path="/t/v1/dl1.h5")
    done = run("rm", "-r", "-y", "--json", "t")
    assert done.returncode == 10
    failed = {r["path"]: r["error"] for r in json.loads(done.stdout) if r["error"]}
    assert failed.keys() == {"/t/v1/dl1.h5", "/t/v1", "/t"}
    assert failed["/t/v1/dl1.h5"].startswith("Refused")
    assert "not empty" in failed["/t"]
    assert "3 of 8 were not removed" in done.stderr
    assert sorted(p.name for p in tree.rglob("*")) == ["dl1.h5", "v1"]


def test_rm_leaves_what_came_after_the_listing(tree: Path, box: Sandbox) -> None:
    """A directory in which something appears meanwhile is not removed with it."""
    from ctaflows.storage.connect import connect
    from ctaflows.storage.namespace import plan_removal, remove_all

    door = connect()
    doomed = plan_removal(door, [door.stat("t")])
    box.put("/t/v1/late.h5", b"late")
    outcomes = {o.path: o.error for batch in remove_all(door, doomed) for o in batch}
    assert (tree / "v1/late.h5").read_bytes() == b"late"
    assert {path for path, error in outcomes.items() if error} == {"/t", "/t/v1"}


def test_rm_leaves_a_directory_that_can_t_be_read(tree: Path, box: Sandbox) -> None:
    """dCache lists it as empty; a DELETE of it might remove all that is in it."""
    box.put("/t/secret/a.h5", b"x")
    box.deny("/t/secret")
    planned = run("rm", "-r", "-n", "t")
    assert planned.returncode == 10
    assert "/t/secret: The directory is shown as empty, but can't be read" in planned.stderr
    done = run("rm", "-r", "-y", "t")
    assert done.returncode == 10
    assert (tree / "secret/a.h5").read_bytes() == b"x"
    assert not (tree / "v1").exists()
    removed = [r.path.rstrip("/") for r in box.requests if r.method == "DELETE"]
    assert "/t/v1" in removed
    assert not {"/t/secret", "/t"} & set(removed)


def test_rm_does_not_believe_an_empty_listing(
    tree: Path, box: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As dCache gives one of any directory when its name space does not answer in time."""
    from ctaflows.storage.connect import connect
    from ctaflows.storage.namespace import plan_removal, remove_all

    door = connect()
    doomed = plan_removal(door, [door.stat("t/v1")])
    box.put("/t/v1/late.h5", b"late")
    monkeypatch.setattr(door, "list", lambda _path: iter(()))
    outcomes = {o.path: o.error for batch in remove_all(door, doomed) for o in batch}
    assert (tree / "v1/late.h5").read_bytes() == b"late"
    assert "not empty, though the server lists nothing" in (outcomes["/t/v1"] or "")


@pytest.mark.parametrize("n_files", [1, 20])
def test_rm_of_a_file_that_became_a_directory(tree: Path, box: Sandbox, n_files: int) -> None:
    """DELETE of it would remove all that is in it, which nobody saw."""
    from ctaflows.storage.connect import connect
    from ctaflows.storage.namespace import plan_removal, remove_all

    for number in range(n_files):
        box.put(f"/u/{number}.h5", b"x")
    door = connect()
    doomed = plan_removal(door, list(door.list("u")))
    (box.storage / "u/0.h5").unlink()
    box.put("/u/0.h5/precious.h5", b"precious")
    n_before = len(box.requests)
    outcomes = {o.path: o.error for batch in remove_all(door, doomed) for o in batch}
    assert {path for path, error in outcomes.items() if error} == {"/u/0.h5"}
    assert "directory now" in (outcomes["/u/0.h5"] or "")
    assert [p.name for p in (box.storage / "u").rglob("*")] == ["0.h5", "precious.h5"]
    looks = [r for r in box.requests[n_before:] if r.method == "PROPFIND"]
    assert len(looks) <= 2, "many are looked at by one listing"


@pytest.mark.parametrize("n_files", [1, 20])
@pytest.mark.parametrize("is_described", [True, False])
def test_rm_of_a_file_that_became_a_link(
    tree: Path, box: Sandbox, n_files: int, is_described: bool
) -> None:
    """DELETE of it would remove all that is in the directory to which it leads."""
    from ctaflows.storage.connect import connect
    from ctaflows.storage.namespace import plan_removal, remove_all

    for number in range(n_files):
        box.put(f"/u/{number}.h5", b"x")
    door = connect()
    doomed = plan_removal(door, list(door.list("u")))
    (box.storage / "u/0.h5").unlink()
    box.link("/u/0.h5", "/t")
    if not is_described:
        box.faults.add("403", times=None, method="PROPFIND", path="/u/0.h5")
    before = sorted(tree.rglob("*"))
    outcomes = {o.path: o.error for batch in remove_all(door, doomed) for o in batch}
    assert {path for path, error in outcomes.items() if error} == {"/u/0.h5"}
    assert ("directory now" if is_described else "403") in (outcomes["/u/0.h5"] or "")
    assert sorted(tree.rglob("*")) == before


@pytest.mark.parametrize(
    "why", [NetworkError("it broke"), Nearline("on tape"), Refused("", status=401)]
)
def test_rm_goes_on_where_a_directory_is_not_listed_again(
    tree: Path, box: Sandbox, monkeypatch: pytest.MonkeyPatch, why: CtaflowsError
) -> None:
    from ctaflows.storage.connect import connect
    from ctaflows.storage.namespace import plan_removal, remove_all

    def broken(_path: str) -> None:
        raise why

    for number in range(20):
        box.put(f"/u/{number}.h5", b"x")
    door = connect()
    doomed = plan_removal(door, list(door.list("u")))
    monkeypatch.setattr(door, "list", broken)
    if why.status == 401:  # it would be said of each file
        with pytest.raises(Refused):
            list(remove_all(door, doomed))
        return
    outcomes = [outcome for batch in remove_all(door, doomed) for outcome in batch]
    assert [outcome.error for outcome in outcomes] == [None] * 20
    assert not list((box.storage / "u").iterdir())


@pytest.mark.parametrize("fault", ["503", "lost", "reset"])
def test_rm_survives_faults_that_pass(tree: Path, box: Sandbox, fault: str) -> None:
    box.faults.add(fault, times=3, method="DELETE")
    ok("rm", "-r", "-y", "t")
    assert not tree.exists()


def test_rm_many_in_pieces(tree: Path, box: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    from ctaflows import remove
    from ctaflows.storage import namespace

    monkeypatch.setattr(namespace, "_AT_A_TIME", 3)
    for i in range(10):
        box.put(f"/t/many/{i}", b"x")
    outcomes = remove("t", recursive=True)
    assert len(outcomes) == 8 + 11
    assert not tree.exists()


# the library


def test_the_same_from_python(tree: Path, box: Sandbox) -> None:
    from ctaflows import disk_usage, make_dir, move, remove
    from ctaflows.errors import AlreadyExists, NotFound, PartialFailure, UsageError

    assert disk_usage("t", depth=0)[0].size_bytes == 32_006
    assert make_dir("t/p/q", parents=True) == "/t/p/q"
    with pytest.raises(AlreadyExists):
        make_dir("t/p")
    assert move("t/a.h5", "t/p/q") == "/t/p/q/a.h5"
    with pytest.raises(UsageError):
        remove("t/p")
    with pytest.raises(NotFound):
        remove("t/gone")
    assert remove("t/gone", missing_ok=True) == []
    box.faults.add("403", times=None, method="DELETE", path="/t/p/q/a.h5")
    with pytest.raises(PartialFailure) as why:
        remove("t/p", recursive=True)
    assert {o.path for o in why.value.report} == {"/t/p", "/t/p/q", "/t/p/q/a.h5"}
    box.faults.clear()
    assert {o.path for o in remove("t/p", recursive=True)} == {"/t/p", "/t/p/q", "/t/p/q/a.h5"}


# stat


def test_stat_of_several_tells_of_each(tree: Path) -> None:
    done = run("stat", "--json", "t/a.h5", "t/gone", "t/b.h5")
    assert done.returncode == 10
    assert [r["path"] for r in json.loads(done.stdout)] == ["/t/a.h5", "/t/b.h5"]
    assert "t/gone" in done.stderr
    fails(3, "stat", "t/gone")


# ending


def test_ctrl_c_ends_a_listing_of_a_silent_door(tree: Path, box: Sandbox) -> None:
    box.faults.add("hang", times=None, method="PROPFIND", path="/t/*", hang_s=200)
    process = subprocess.Popen(
        [sys.executable, "-m", "ctaflows", "ls", "-r", "t"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "a.h5\n"
    asked = [r for r in box.requests if r.path.startswith("/t/")]
    deadline = time.monotonic() + 200
    while not asked and time.monotonic() < deadline:
        asked = [r for r in box.requests if r.path.startswith("/t/")]
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "stopped" in said
