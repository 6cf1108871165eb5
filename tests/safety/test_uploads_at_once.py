"""Two uploads to one name at once: each has its bytes for itself, and both tell the truth."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from ctaflows.sandbox import door as sandbox_door
from ctaflows.tasks import upload_file

if TYPE_CHECKING:
    from pathlib import Path

    from ctaflows.sandbox import Sandbox

IN_PLACE = "it is there already"
WAIT_S = 60


def put(*words: str) -> subprocess.Popen[str]:
    """Begin ``ctaflows put``."""
    return subprocess.Popen(
        [sys.executable, "-m", "ctaflows", "put", "--json", *words],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def ended(process: subprocess.Popen[str]) -> tuple[int, list[dict[str, Any]], str]:
    """Wait for it; give its exit code, its records, and what it said."""
    out, err = process.communicate(timeout=WAIT_S)
    assert "Traceback" not in err, err
    return process.returncode, json.loads(out), err


def there(box: Sandbox) -> dict[str, bytes]:
    """All files at the door, temporary ones too."""
    files = (p for p in box.storage.rglob("*") if p.is_file())
    return {str(p.relative_to(box.storage)): p.read_bytes() for p in files}


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, threading.Event]:
    """The first move waits until another PUT was answered by the door.

    Gives what says that it waits, and what lets it go on.
    """
    waits, goes_on = threading.Event(), threading.Event()
    real = sandbox_door.Door._dispatch

    def dispatch(self: Any, request: Any) -> Any:
        if request.method == "MOVE" and not waits.is_set():
            waits.set()
            assert goes_on.wait(WAIT_S)
        answer = real(self, request)
        if request.method == "PUT" and waits.is_set():
            goes_on.set()
        return answer

    monkeypatch.setattr(sandbox_door.Door, "_dispatch", dispatch)
    return waits, goes_on


@pytest.mark.parametrize("size_bytes", [20_000, 600_000])
@pytest.mark.parametrize("is_same", [True, False], ids=["same", "other"])
def test_one_begins_while_the_other_is_about_to_move(
    box: Sandbox,
    here: Path,
    held: tuple[threading.Event, threading.Event],
    size_bytes: int,
    is_same: bool,
) -> None:
    """A door empties a file as soon as it is to be written anew."""
    one, two = (os.urandom(size_bytes) for _ in range(2))
    (here / "r.h5").write_bytes(one)
    first = put("r.h5", "lst/me/")
    assert held[0].wait(WAIT_S)
    if not is_same:
        (here / "r.h5").write_bytes(two)
    second = put("r.h5", "lst/me/")
    code, records, said = ended(second)
    assert code == (0 if is_same else 4), said
    if is_same:
        assert (records[0]["skipped"], records[0]["note"]) == (True, IN_PLACE)
        assert records[0]["verified"]
    else:
        assert "AlreadyExists" in records[0]["error"]
    code, records, said = ended(first)
    assert code == 0, said
    assert records[0]["verified"]
    assert not records[0]["skipped"]
    assert there(box) == {"lst/me/r.h5": one}, "whole, and nothing else"


def test_two_threads_of_one_process(
    box: Sandbox, here: Path, held: tuple[threading.Event, threading.Event]
) -> None:
    data = os.urandom(20_000)
    (here / "r.h5").write_bytes(data)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(upload_file, here / "r.h5", "r.h5")
        assert held[0].wait(WAIT_S)
        second = pool.submit(upload_file, here / "r.h5", "r.h5")
        assert second.result(WAIT_S).note == IN_PLACE
        assert first.result(WAIT_S).note is None
    assert there(box) == {"r.h5": data}


def test_two_trees(box: Sandbox, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file gets its name before both have looked what is there."""
    both = threading.Barrier(2)
    looked, real = threading.Event(), sandbox_door.Door._dispatch

    def dispatch(self: Any, request: Any) -> Any:
        answer = real(self, request)
        if request.method == "PROPFIND" and request.path.rstrip("/") == "/u/res":
            if not looked.is_set():
                both.wait(WAIT_S)
            looked.set()
        return answer

    monkeypatch.setattr(sandbox_door.Door, "_dispatch", dispatch)
    (here / "res").mkdir()
    sizes = [i * 1000 for i in range(12)] + [400_000, 900_000]
    content = {f"u/res/{i:02}.h5": os.urandom(size) for i, size in enumerate(sizes)}
    for path, data in content.items():
        (here / "res" / path.rpartition("/")[2]).write_bytes(data)
    ends = [ended(process) for process in [put("-r", "res", "u") for _ in range(2)]]
    assert [code for code, _, _ in ends] == [0, 0], ends
    assert there(box) == content
    moved = [t["path"] for _, records, _ in ends for t in records if not t["skipped"]]
    assert sorted(moved) == [f"/{path}" for path in content], "each has its name from one of both"
    assert {t["note"] for _, records, _ in ends for t in records if t["skipped"]} <= {IN_PLACE}


def test_a_lost_answer_and_a_quicker_one(box: Sandbox, here: Path) -> None:
    """The move is not done, and when it is asked for again the same file is there."""
    data = os.urandom(20_000)
    (here / "r.h5").write_bytes(data)
    real = sandbox_door.Door._dispatch

    def dispatch(self: Any, request: Any) -> Any:
        if request.method == "MOVE":  # the second: the first one does not come here
            box.put("/r.h5", data)
        return real(self, request)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sandbox_door.Door, "_dispatch", dispatch)
        box.faults.add("500", times=1, method="MOVE")
        done = upload_file(here / "r.h5", "r.h5")
    assert (done.skipped, done.note) == (True, IN_PLACE)
    assert there(box) == {"r.h5": data}


def test_a_name_that_begins_with_a_bracket(box: Sandbox, here: Path) -> None:
    """A name that begins with ``.(`` is a command to Chimera, dCache's name space."""
    box.faults.add("500", times=None, path="*/.(*", method="PUT")
    names = ["(par).h5", "((", "(" * 250]
    for name in names:
        (here / name).write_bytes(name.encode())
    code, records, said = ended(put(*names, "n/"))
    assert code == 0, said
    assert all(t["verified"] for t in records)
    assert there(box) == {f"n/{name}": name.encode() for name in names}


def test_the_longest_name(box: Sandbox, here: Path) -> None:
    """Its temporary name is shorter, and no letter of it is cut in two."""
    name = "x" + "é" * 127
    (here / name).write_bytes(b"x")
    assert upload_file(here / name, "n/").verified
    assert there(box) == {f"n/{name}": b"x"}
