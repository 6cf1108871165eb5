"""Two processes at the files of one command: each file once, and the end of one loses nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ctaflows.storage.webdav import WebDAVStorage

if TYPE_CHECKING:
    from ctaflows.sandbox import Sandbox

N = 50
CONTENT = {f"/n/{i:03}.h5": bytes([i % 251]) * (100 + i) for i in range(N)}

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux") or len(os.sched_getaffinity(0)) < 2,
    reason="a second process is begun on Linux with several cores alone",
)

# what a test puts before the command; `heard(n)` is called for each file the second one has done
WATCH = """
import os, signal, sys
from ctaflows.transfer import beside, cargo, haul, twin
n = 0
def watched(real):
    def noted(self, place, done):
        global n
        n += 1
        if n == 1:
            first(self)
        real(self, place, done)
    return noted
haul.Haul.heard = watched(haul.Haul.heard)
cargo.Cargo.heard = watched(cargo.Cargo.heard)
born = twin.Twin.__init__
def told(self, *how):
    born(self, *how)
    open("twin.pid", "w").write(str(self.pid))
twin.Twin.__init__ = told
twin._SPEAK_EVERY_S, beside._FROM_SMALL = 0.0, 32
def first(haul):
    pass
"""
RUN = "\nfrom ctaflows.cli.app import main\nmain(sys.argv[1:])\n"


@pytest.fixture
def night(box: Sandbox, here: Path) -> Path:
    for path, data in CONTENT.items():
        box.put(path, data)
    return here


def get(*words: str, before: str = "") -> subprocess.CompletedProcess[str]:
    """Run ``ctaflows get`` in a process of its own, with some lines before it."""
    return run("get", *words, before=before)


def put(*words: str, before: str = "") -> subprocess.CompletedProcess[str]:
    """Run ``ctaflows put`` likewise."""
    return run("put", "--manifest", "put.jsonl", *words, before=before)


def run(*words: str, before: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WATCH + before + RUN, *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def lines_of(folder: Path) -> dict[str, dict[str, object]]:
    lines = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
    found = {line["path"]: line for line in lines}
    assert len(found) == len(lines), "a line a file"
    return found


def assert_all_here(folder: Path) -> None:
    for path, data in CONTENT.items():
        assert (folder / Path(path).name).read_bytes() == data
    names = {path.name for path in folder.iterdir()}
    assert names == {Path(path).name for path in CONTENT} | {"manifest.jsonl"}, "no part is left"
    assert all(line["verified"] for line in lines_of(folder).values())
    assert set(lines_of(folder)) == set(CONTENT)


def assert_gone(pid: int) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return
        if state == "Z":  # nobody asks for it in a container without an init
            return
        time.sleep(0.02)
    raise AssertionError(f"process {pid} goes on")


def twins_pid(here: Path) -> int:
    return int((here / "twin.pid").read_text())


def test_each_file_is_fetched_once_by_one_of_two(box: Sandbox, night: Path) -> None:
    done = get("-v", "-r", "n", ".")
    assert done.returncode == 0, done.stderr
    assert_all_here(night / "n")
    asked = [r.path for r in box.requests if r.method == "GET" and r.server == "pool"]
    assert len(asked) == len(set(asked)) == N
    assert f"{N} moved" in done.stderr
    n = int(done.stderr.partition("A second process did ")[2].split()[0])
    assert 0 < n < N
    assert_gone(twins_pid(night))


def test_their_records_are_those_of_one(box: Sandbox, night: Path) -> None:
    assert get("-r", "n", "two").returncode == 0
    assert get("-r", "--transfers", "1", "n", "one").returncode == 0

    def told(folder: str) -> dict[str, dict[str, object]]:
        lines = lines_of(night / folder / "n")
        return {path: {**line, "seconds": 0} for path, line in lines.items()}

    assert told("two") == told("one")


def test_larger_files_are_shared_too(box: Sandbox, here: Path) -> None:
    large = {f"/n/{i}.h5": os.urandom(1 << 20) for i in range(12)}
    for path, data in large.items():
        box.put(path, data)
    done = get("-v", "-r", "n", ".", before="beside._FROM_BYTES = 1\n")
    assert done.returncode == 0, done.stderr
    for path, data in large.items():
        assert (here / path[1:]).read_bytes() == data
    assert set(lines_of(here / "n")) == set(large)
    assert int(done.stderr.partition("A second process did ")[2].split()[0]) > 0


def test_again_nothing_is_moved(box: Sandbox, night: Path) -> None:
    get("-r", "n", ".")
    n_asked = len([r for r in box.requests if r.method == "GET"])
    before = (night / "n" / "manifest.jsonl").read_bytes()
    done = get("-r", "n", ".")
    assert done.returncode == 0
    assert f"{N} in place" in done.stderr
    assert len([r for r in box.requests if r.method == "GET"]) == n_asked
    assert (night / "n" / "manifest.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    "words", [("--transfers", "1"), ("--bwlimit", "1G"), ("--include", "00*")], ids=str
)
def test_one_process_is_enough(box: Sandbox, night: Path, words: tuple[str, ...]) -> None:
    done = get("-r", *words, "n", ".", before="os.fork = None\n")
    assert done.returncode == 0, done.stderr
    assert not (night / "twin.pid").exists()


def test_the_second_one_is_killed(box: Sandbox, night: Path) -> None:
    kill = "def first(_): os.kill(int(open('twin.pid').read()), signal.SIGKILL)\n"
    done = get("-r", "n", ".", before=kill)
    assert done.returncode == 0, done.stderr
    for path, data in CONTENT.items():
        assert (night / path[1:]).read_bytes() == data
    again = get("-r", "n", ".")
    assert again.returncode == 0
    left = {path.name for path in (night / "n").iterdir()} - {"manifest.jsonl"}
    assert left == {Path(path).name for path in CONTENT}


def test_the_second_one_fails(box: Sandbox, night: Path) -> None:
    fail = """
from ctaflows.storage import connect
def reconnect(*_): raise ZeroDivisionError("no door")
connect.reconnect = reconnect
"""
    done = get("-r", "n", ".", before=fail)
    assert done.returncode == 0, done.stderr
    assert "The second process failed, one goes on: ZeroDivisionError: no door" in done.stderr
    assert_all_here(night / "n")


REFUSED = """
def refuse(*_): raise BlockingIOError(11, "Resource temporarily unavailable")
"""


@pytest.mark.parametrize("what", ["os.fork", "twin.SharedLine"])
def test_a_second_one_is_refused(box: Sandbox, night: Path, what: str) -> None:
    done = get("-v", "-r", "n", ".", before=f"{REFUSED}{what} = refuse\n")
    assert done.returncode == 0, done.stderr
    assert "No second process" in done.stderr
    assert_all_here(night / "n")


def test_nobody_may_wait_for_it(box: Sandbox, night: Path) -> None:
    """Who ignores SIGCHLD lets all that it starts do so."""
    before = "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
    done = get("-r", "n", ".", before=before)
    assert done.returncode == 0, done.stderr
    assert_all_here(night / "n")


def test_it_knows_what_the_first_one_knows(box: Sandbox) -> None:
    settings = box.settings()
    with WebDAVStorage(settings) as door, WebDAVStorage(settings) as other:
        door.redirects_writes, door.tells_locality, door._lister.server = True, False, "xrootd"
        assert other.told_by(door) is other
        assert other.redirects_writes is True
        assert other.tells_locality is False
        assert other.server_name() == "xrootd"


def test_the_first_one_is_killed(box: Sandbox, night: Path) -> None:
    """The second one ends soon, and the same command again brings what is missing."""
    box.faults.add("hang", times=None, path="*/0[2-4]?.h5", server="pool", method="GET")
    done = get("-r", "n", ".", before="def first(_): os.kill(os.getpid(), signal.SIGKILL)\n")
    assert done.returncode == -signal.SIGKILL
    assert_gone(twins_pid(night))
    for file in (night / "n").glob("*.h5"):
        assert file.read_bytes() == CONTENT[f"/n/{file.name}"], "whole, or not there"
    box.faults.clear()
    assert get("-r", "n", ".").returncode == 0
    for path, data in CONTENT.items():
        assert (night / path[1:]).read_bytes() == data


BOTH = "(int(open('twin.pid').read()), os.getpid())"
FIRST = "(os.getpid(),)"
STOPS = pytest.mark.parametrize(
    ("number", "whom"),
    [(signal.SIGINT, BOTH), (signal.SIGTERM, FIRST), (signal.SIGTERM, BOTH)],
    ids=["INT to both", "TERM to one", "TERM to both"],
)


def hitting(number: signal.Signals, whom: str) -> str:
    """Send a signal once the second one has done something; terminals and Slurm tell both."""
    return f"def first(_): [os.kill(pid, {int(number)}) for pid in {whom}]\n"


@STOPS
def test_a_stop_ends_both(box: Sandbox, night: Path, number: signal.Signals, whom: str) -> None:
    box.faults.add("hang", times=None, path="*/04?.h5", server="pool", method="GET")
    done = get("-r", "n", ".", before=hitting(number, whom))
    assert done.returncode == 130, done.stderr
    assert "stopped; what is done is kept" in done.stderr
    assert_gone(twins_pid(night))
    assert not list((night / "n").glob(".*.part")), "small files leave none"
    here = {f"/n/{file.name}" for file in (night / "n").glob("*.h5")}
    assert set(lines_of(night / "n")) <= here


def test_what_stays_wrong_is_reported_whoever_met_it(box: Sandbox, night: Path) -> None:
    for name in ("003", "025", "049"):
        box.faults.add("flip", times=None, path=f"*/{name}.h5", server="pool")
    done = get("-r", "n", ".")
    assert done.returncode == 10
    failed = {path for path, line in lines_of(night / "n").items() if line["error"]}
    assert failed == {"/n/003.h5", "/n/025.h5", "/n/049.h5"}
    for path in failed:
        assert Path(path).name in done.stderr + done.stdout
        got = [r for r in box.requests if r.path.startswith(path) and r.server == "pool"]
        assert len(got) == 2, "fetched again once"
    box.faults.clear()
    assert get("--retry", "n/manifest.jsonl").returncode == 0


def test_a_busy_door_is_waited_for(box: Sandbox, night: Path) -> None:
    box.faults.add("503", times=5, path="*/04?.h5", server="door", method="GET")
    done = get("-r", "n", ".")
    assert done.returncode == 0, done.stderr
    assert_all_here(night / "n")


def test_the_second_ones_warnings_are_shown(box: Sandbox, night: Path) -> None:
    box.faults.add("reset", times=None, path="*/0[0-2]?.h5", server="pool", method="GET")
    done = get("-r", "n", ".")
    assert done.returncode == 10
    assert "No good answer" in done.stderr
    assert "Traceback" not in done.stderr


# -- uploads ---------------------------------------------------------------------------------------


@pytest.fixture
def results(here: Path) -> Path:
    """Files to go up."""
    folder = here / "results"
    folder.mkdir()
    for path, data in CONTENT.items():
        (folder / Path(path).name).write_bytes(data)
    return here


def assert_all_there(box: Sandbox) -> None:
    there = box.storage / "lst/users/me/results"
    found = {file.name: file.read_bytes() for file in there.iterdir()}
    assert found == {Path(path).name: data for path, data in CONTENT.items()}, "and no temporary"


def told_of(here: Path) -> dict[str, dict[str, object]]:
    lines = [json.loads(line) for line in (here / "put.jsonl").read_text().splitlines()]
    return {line["path"]: {**line, "seconds": 0} for line in lines}


def test_each_file_goes_up_once_by_one_of_two(box: Sandbox, results: Path) -> None:
    done = put("-v", "-r", "results", "lst/users/me")
    assert done.returncode == 0, done.stderr
    assert_all_there(box)
    sent = [r.path for r in box.requests if r.method == "PUT" and r.server == "pool"]
    assert len(sent) == len(set(sent)) == N
    assert 0 < int(done.stderr.partition("A second process did ")[2].split()[0]) < N
    assert len((results / "put.jsonl").read_text().splitlines()) == N
    assert all(line["verified"] for line in told_of(results).values())
    assert_gone(twins_pid(results))


def test_the_uploads_of_one_are_told_alike(box: Sandbox, results: Path) -> None:
    put("-r", "results", "lst/users/me")
    of_two = told_of(results)
    (results / "put.jsonl").unlink()
    (results / "twin.pid").unlink()
    for path in (box.storage / "lst/users/me/results").iterdir():
        path.unlink()
    assert put("-r", "--transfers", "1", "results", "lst/users/me").returncode == 0
    assert not (results / "twin.pid").exists()
    assert told_of(results) == of_two


def test_the_second_one_is_killed_while_it_sends(box: Sandbox, results: Path) -> None:
    kill = "def first(_): os.kill(int(open('twin.pid').read()), signal.SIGKILL)\n"
    done = put("-r", "results", "lst/users/me", before=kill)
    assert done.returncode == 0, done.stderr
    assert_all_there(box)


@STOPS
def test_a_stop_ends_both_as_they_send(
    box: Sandbox, results: Path, number: signal.Signals, whom: str
) -> None:
    done = put("-r", "results", "lst/users/me", before=hitting(number, whom))
    assert done.returncode == 130, done.stderr
    assert_gone(twins_pid(results))
    there = {file.name for file in (box.storage / "lst/users/me/results").iterdir()}
    assert there <= {Path(path).name for path in CONTENT}, "no temporary is left"
    assert {Path(path).name for path in told_of(results)} <= there
    assert put("-r", "results", "lst/users/me").returncode == 0
    assert_all_there(box)


def test_what_fails_to_go_up_is_reported(box: Sandbox, results: Path) -> None:
    for name in ("003", "025", "049"):
        box.faults.add("403", times=None, path=f"*{name}.h5*", server="door", method="PUT")
    done = put("-r", "results", "lst/users/me")
    assert done.returncode == 10, done.stderr
    failed = {Path(path).name for path, line in told_of(results).items() if line["error"]}
    assert failed == {"003.h5", "025.h5", "049.h5"}
    box.faults.clear()
    assert run("put", "--retry", "put.jsonl", before="").returncode == 0
    assert_all_there(box)


def test_without_threads_to_hear_the_second_process_one_does_it_all(night: Path) -> None:
    before = (
        "import threading\n"
        'def refuse(thread): raise RuntimeError("can\'t start new thread")\n'
        "threading.Thread.start = refuse\n"
    )
    done = get("-r", "n", ".", before=before)
    assert done.returncode == 0, done.stderr
    assert_all_here(night / "n")
