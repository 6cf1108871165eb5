"""What a killed upload left at the door goes with a later one, of whatever file."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ctaflows.errors import ChecksumMismatch
from ctaflows.tasks import upload_dir, upload_file

if TYPE_CHECKING:
    from types import ModuleType

    from ctaflows.sandbox import Sandbox

WAIT_S = 60
OTHER = b"another file"
LEFT = "/n/.left.h5.0123456789ab.part"


def begun(*words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, *words], stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def temporaries(box: Sandbox) -> list[str]:
    return sorted(p.name for p in box.storage.rglob(".*.part"))


def journals(box: Sandbox) -> list[Path]:
    folder = box.config_dir / "uploads"
    return sorted(folder.iterdir()) if folder.is_dir() else []


def wait_for_temporaries(box: Sandbox, n: int) -> None:
    deadline = time.monotonic() + WAIT_S
    while len(temporaries(box)) < n:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def upload_another(box: Sandbox, here: Path) -> None:
    """Upload a file that has nothing to do with any other."""
    name = f"other{len(list(here.glob('other*')))}"
    (here / name).write_bytes(OTHER)
    assert upload_file(here / name, "elsewhere/").verified
    assert (box.storage / "elsewhere" / name).read_bytes() == OTHER


@pytest.fixture
def dead(box: Sandbox, here: Path) -> Path:
    """The journal of an upload that was killed in the middle of a PUT."""
    box.faults.add("hang", times=None, path="*/.a.h5.*", server="pool", method="PUT")
    (here / "a.h5").write_bytes(os.urandom(600_000))
    process = begun("-m", "ctaflows", "put", "a.h5", "n/")
    wait_for_temporaries(box, 1)
    process.kill()
    process.communicate()
    box.faults.clear()
    assert len(temporaries(box)) == 1
    (journal,) = journals(box)
    return journal


def write_journal(journal: Path, *lines: str, first: str | None = None) -> None:
    """Write a journal as a killed process of this machine may have left it."""
    door_url = journal.read_text().splitlines()[0]
    journal.write_text("\n".join([door_url if first is None else first, *lines]))


def age(journal: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(journal, (then, then))


@pytest.mark.parametrize("method", ["PUT", "MOVE"])
@pytest.mark.parametrize("what", ["file", "tree"])
def test_it_goes(box: Sandbox, here: Path, what: str, method: str) -> None:
    server = "pool" if method == "PUT" else "door"
    box.faults.add("hang", times=None, path="*/.a?.h5.*", server=server, method=method)
    (here / "tree").mkdir()
    for i in range(6):
        (here / f"tree/a{i}.h5").write_bytes(os.urandom(20_000))
    words = ["tree/a1.h5"] if what == "file" else ["-r", "tree"]
    process = begun("-m", "ctaflows", "put", *words, "n/")
    wait_for_temporaries(box, 1 if what == "file" else 6)
    process.kill()
    assert process.wait(WAIT_S) == -signal.SIGKILL
    process.communicate()
    assert temporaries(box)
    upload_another(box, here)
    assert temporaries(box) == []


def test_what_arrives_late_goes_too(box: Sandbox, here: Path, dead: Path) -> None:
    """A server may still write down what a process has sent before it was killed."""
    (temporary,) = temporaries(box)
    upload_another(box, here)
    assert temporaries(box) == []
    box.put(f"/n/{temporary}", b"late")
    upload_another(box, here)
    assert temporaries(box) == []
    age(dead, 100)
    upload_another(box, here)
    assert journals(box) == []


def test_a_failed_upload_whose_file_could_not_be_removed(box: Sandbox, here: Path) -> None:
    (here / "a.h5").write_bytes(b"x" * 1000)
    box.faults.add("bad_digest", times=None, server="pool")
    box.faults.add("403", times=1, method="DELETE")
    with pytest.raises(ChecksumMismatch):  # twice
        upload_file(here / "a.h5", "n/")
    assert len(temporaries(box)) == 1
    box.faults.clear()
    upload_another(box, here)
    assert temporaries(box) == []


def test_what_is_refused_is_let_be(box: Sandbox, here: Path, dead: Path) -> None:
    box.faults.add("403", times=None, method="DELETE")
    age(dead, 100)
    upload_another(box, here)
    assert len(temporaries(box)) == 1
    assert journals(box) == [dead], "another login may remove it"
    age(dead, 8 * 24 * 3600)
    upload_another(box, here)
    assert journals(box) == [], "it is not tried for ever"


def test_a_door_that_can_not_do_it_now_is_asked_again(box: Sandbox, here: Path, dead: Path) -> None:
    box.faults.add("503", times=None, method="DELETE")
    age(dead, 100)
    upload_another(box, here)
    assert len(temporaries(box)) == 1
    box.faults.clear()
    upload_another(box, here)
    assert temporaries(box) == []
    assert journals(box) == []


def test_a_living_upload_is_let_be(box: Sandbox, here: Path) -> None:
    box.faults.add("hang", times=1, path="*/.a.h5.*", server="door", method="MOVE", hang_s=1.5)
    (here / "a.h5").write_bytes(b"x" * 1000)
    process = begun("-m", "ctaflows", "put", "a.h5", "n/")
    wait_for_temporaries(box, 1)
    assert len(journals(box)) == 1
    upload_another(box, here)
    assert len(temporaries(box)) == 1
    assert process.wait(WAIT_S) == 0
    process.communicate()
    assert (box.storage / "n/a.h5").read_bytes() == b"x" * 1000
    assert temporaries(box) == []
    assert journals(box) == []


FORKING = """
import os, signal, threading
from ctaflows.tasks import upload_file
threading.Thread(target=upload_file, args=("a.h5", "n/"), daemon=True).start()
input()
child = os.fork()
if child:
    print(child, flush=True)
signal.pause()
"""


def test_a_fork_does_not_keep_it_alive(box: Sandbox, here: Path) -> None:
    """A process forked during an upload goes on when that is killed."""
    box.faults.add("hang", times=None, path="*/.a.h5.*", server="door", method="MOVE")
    (here / "a.h5").write_bytes(b"x" * 1000)
    process = subprocess.Popen(
        [sys.executable, "-c", FORKING],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    wait_for_temporaries(box, 1)
    process.stdin.write("\n")
    process.stdin.flush()
    child = int(process.stdout.readline())
    try:
        process.kill()
        process.wait(WAIT_S)
        upload_another(box, here)
        assert temporaries(box) == []
    finally:
        os.kill(child, signal.SIGKILL)
        process.communicate()


def test_journals_of_other_doors_and_machines_stay(box: Sandbox, here: Path, dead: Path) -> None:
    box.put(LEFT, b"left")
    write_journal(dead, f"+ {LEFT}")
    elsewhere = dead.with_name("elsewhere.1.00")
    elsewhere.write_bytes(dead.read_bytes())
    write_journal(dead, f"+ {LEFT}", first="https://another.door:2880")
    upload_another(box, here)
    assert len(temporaries(box)) == 2
    assert journals(box) == sorted([dead, elsewhere])
    age(elsewhere, 8 * 86400)  # no process of that machine can be at it any more
    upload_another(box, here)
    assert (box.storage / LEFT[1:]).exists() is False
    assert journals(box) == [dead]


def test_garbage_does_no_harm(box: Sandbox, here: Path, dead: Path) -> None:
    """Only files are removed whose names can be of ours."""
    precious = [
        "/n/a.h5",
        "/n/.a.h5.part",
        "/n/.a.h5.0123456789AB.part",
        "/n/.d.0123456789ab.part/x",
    ]
    for path in [*precious, LEFT]:
        box.put(path, b"precious")
    secret = here / "secret"
    secret.write_text("secret")
    noise = os.urandom(5000)
    write_journal(
        dead,
        *(f"+ {path}" for path in precious), "+ /n/.d.0123456789ab.part", "+ /", "+ /n/..", "+ /n/",
        "+ n/.left.h5.0123456789ab.part", "+", "", "- /", "+ %ff%00/.x.0123456789ab.part",
        f"+ {LEFT}", f"+ /n/../..{LEFT}", f"+ {LEFT[:-1]}",
    )  # fmt: skip
    dead.write_bytes(dead.read_bytes() + b"\n" + noise)
    for name, content in (("1", b""), ("2", noise), ("3", b"\n" * 100)):
        dead.with_name(dead.name + name).write_bytes(content)
    dead.with_name(dead.name + "4").symlink_to(secret)
    dead.with_name(dead.name + "5").mkdir()
    os.mkfifo(dead.with_name(dead.name + "6"))
    upload_another(box, here)
    assert not (box.storage / LEFT[1:]).exists()
    for path in precious:
        assert (box.storage / path[1:]).read_bytes() == b"precious"
    assert secret.read_text() == "secret"


@pytest.mark.parametrize("why", ["folder", "locks", "full"])
def test_uploads_go_on_without_a_journal(
    box: Sandbox, here: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    refused: list[str] = []

    def refuse_journals(module: ModuleType, name: str, number: int) -> None:
        real = getattr(module, name)

        def call(descriptor: Any, *rest: Any) -> Any:
            fileno = descriptor if isinstance(descriptor, int) else descriptor.fileno()
            file = str(Path(f"/proc/self/fd/{fileno}").readlink())
            if "/uploads/" in file:
                refused.append(file)
                raise OSError(number, os.strerror(number))
            return real(descriptor, *rest)

        monkeypatch.setattr(module, name, call)

    if why == "folder":
        (box.config_dir / "uploads").write_text("no folder")
    elif why == "locks":
        refuse_journals(fcntl, "flock", errno.ENOLCK)
    else:
        refuse_journals(os, "write", errno.ENOSPC)
    (here / "tree").mkdir()
    for i in range(6):
        (here / f"tree/{i}.h5").write_bytes(b"x" * i)
    report = upload_dir(here / "tree", "n")
    assert all(t.verified for t in report.transfers)
    (here / "one").write_bytes(b"one")
    assert upload_file(here / "one", "n/").verified
    monkeypatch.undo()
    assert bool(refused) == (why != "folder")
    assert why == "folder" or journals(box) == []


def test_it_is_for_us_alone(box: Sandbox, here: Path, dead: Path) -> None:
    assert dead.parent.stat().st_mode & 0o777 == 0o700
    assert dead.stat().st_mode & 0o777 == 0o600
