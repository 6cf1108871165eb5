"""Uploading: under a temporary name, compared, then moved; nothing left behind."""

from __future__ import annotations

import os
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from ctaflows import cancel
from ctaflows.auth.renewal import TokenProvider
from ctaflows.errors import (
    AlreadyExists,
    DoorBusy,
    IntegrityError,
    NetworkError,
    NotFound,
    ProtocolSurprise,
    Stopped,
    StorageError,
    UsageError,
)
from ctaflows.sandbox import Quirks, Sandbox
from ctaflows.sandbox import door as sandbox_door
from ctaflows.settings import Settings
from ctaflows.storage.webdav import WebDAVStorage
from ctaflows.transfer import upload as upload_module
from ctaflows.transfer.uploads import files_of, upload_alone, upload_many

if TYPE_CHECKING:
    from pathlib import Path

DATA = os.urandom(200_000)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    file = tmp_path / "result.h5"
    file.write_bytes(DATA)
    return file


def left(box: Sandbox) -> list[str]:
    """All files at the door."""
    return sorted(str(p.relative_to(box.storage)) for p in box.storage.rglob("*") if p.is_file())


def test_a_file_goes_up_proven(box: Sandbox, door: WebDAVStorage, source: Path) -> None:
    done = upload_alone(door, source, "lst/users/me/result.h5")
    assert (box.storage / "lst/users/me/result.h5").read_bytes() == DATA
    assert done.verified
    assert done.moved_bytes == len(DATA)
    assert left(box) == ["lst/users/me/result.h5"]
    names = [r.path for r in box.requests if r.method == "PUT"]
    assert all(".part" in n for n in names), "never under the final name"


def test_a_slash_completes_the_name(box: Sandbox, door: WebDAVStorage, source: Path) -> None:
    assert upload_alone(door, source, "new/").path == "/new/result.h5"
    assert left(box) == ["new/result.h5"]


def test_a_name_that_is_no_utf8_is_looked_for_after_the_upload() -> None:
    """The sandbox refuses such names; XRootD and nginx take them, some servers change them."""
    name, asked = os.fsdecode(b"/new/caf\xe9.h5"), []

    def describing(path: str, _: object) -> Any:
        asked.append(path)
        raise NotFound("nothing there")

    door = SimpleNamespace(describing=describing, settings=Settings())
    with pytest.raises(ProtocolSurprise, match="another name"):
        next(upload_module._check_name(door, SimpleNamespace(size_bytes=1), name))  # type: ignore[arg-type]
    assert asked == [name]


def test_an_empty_file(box: Sandbox, door: WebDAVStorage, tmp_path: Path) -> None:
    (tmp_path / "e").write_bytes(b"")
    upload_alone(door, tmp_path / "e", "/e")
    assert (box.storage / "e").read_bytes() == b""


def test_the_same_file_is_not_moved_twice(box: Sandbox, door: WebDAVStorage, source: Path) -> None:
    upload_alone(door, source, "/r.h5")
    box.requests.clear()
    again = upload_alone(door, source, "/r.h5")
    assert again.skipped
    assert again.verified
    assert all(r.method != "PUT" for r in box.requests)


def test_another_file_is_not_replaced_unless_asked(
    box: Sandbox, door: WebDAVStorage, source: Path
) -> None:
    box.put("/r.h5", b"precious")
    with pytest.raises(AlreadyExists):
        upload_alone(door, source, "/r.h5")
    assert (box.storage / "r.h5").read_bytes() == b"precious"
    upload_alone(door, source, "/r.h5", overwrite=True)
    assert (box.storage / "r.h5").read_bytes() == DATA


def test_a_file_in_a_directory_s_place(box: Sandbox, door: WebDAVStorage, tmp_path: Path) -> None:
    """dCache 11.2.5 answers with 500 and the text of a NullPointerException, other doors 409."""
    box.put("/u/a.h5", b"x")
    (tmp_path / "r.h5").write_bytes(b"new")
    with pytest.raises(AlreadyExists, match="a directory would have to be"):
        upload_alone(door, tmp_path / "r.h5", "/u/a.h5/sub/r.h5")
    assert [r.method for r in box.requests if r.method in ("PUT", "MKCOL", "MOVE")] == ["PUT"]


def test_a_directory_of_that_name(box: Sandbox, door: WebDAVStorage, source: Path) -> None:
    box.put("/d/x", b"")
    with pytest.raises(AlreadyExists, match="directory"):
        upload_alone(door, source, "/d")


@pytest.mark.parametrize("fault", ["503", "500", "reset"])
@pytest.mark.parametrize("server", ["door", "pool"])
def test_faults_that_pass(
    box: Sandbox, door: WebDAVStorage, source: Path, fault: str, server: str
) -> None:
    box.faults.add(fault, times=2, server=server, method="PUT")
    assert upload_alone(door, source, "/r.h5").verified
    assert left(box) == ["r.h5"]
    assert (box.storage / "r.h5").read_bytes() == DATA


@pytest.mark.parametrize("fault", ["503", "507", "reset", "403"])
@pytest.mark.parametrize("method", ["PUT", "MOVE"])
def test_faults_that_last_leave_nothing(
    box: Sandbox, door: WebDAVStorage, source: Path, fault: str, method: str
) -> None:
    box.put("/r.h5", b"old")
    box.faults.add(fault, times=None, method=method)
    with pytest.raises((StorageError, NetworkError, Exception)):
        upload_alone(door, source, "/r.h5", overwrite=True)
    assert (box.storage / "r.h5").read_bytes() == b"old"
    assert left(box) == ["r.h5"]


def test_a_move_whose_answer_is_lost_is_looked_at(
    box: Sandbox, door: WebDAVStorage, source: Path
) -> None:
    box.faults.add("lost", times=1, method="MOVE")
    assert upload_alone(door, source, "/r.h5").verified
    assert left(box) == ["r.h5"]
    assert [r.method for r in box.requests].count("MOVE") == 1


def test_what_arrives_wrong_is_found(box: Sandbox, door: WebDAVStorage, source: Path) -> None:
    box.faults.add("bad_digest", times=None)
    with pytest.raises(IntegrityError):
        upload_alone(door, source, "/r.h5")
    assert left(box) == []


def test_a_storage_without_checksums_is_said_so(source: Path) -> None:
    with Sandbox(quirks=Quirks(no_checksums=True)) as box:
        settings = box.settings()
        with WebDAVStorage(settings, TokenProvider(settings)) as door:
            done = upload_alone(door, source, "/r.h5")
        assert not done.verified
        assert "no checksum" in (done.note or "")


def test_no_such_file_here(door: WebDAVStorage, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        upload_alone(door, tmp_path / "gone", "/r.h5")
    with pytest.raises(UsageError):
        upload_alone(door, tmp_path, "/r.h5")


def test_a_tree_keeps_its_shape(box: Sandbox, door: WebDAVStorage, tmp_path: Path) -> None:
    for name in ("a.h5", "sub/b.h5", "sub/deep/c.h5"):
        file = tmp_path / "tree" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(name.encode())
    report = upload_many(door, files_of(tmp_path / "tree", "lst/results"))
    assert not report.failed
    assert left(box) == [
        "lst/results/tree/a.h5", "lst/results/tree/sub/b.h5", "lst/results/tree/sub/deep/c.h5",
    ]  # fmt: skip


def test_a_folder_that_can_not_be_read_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tree/locked").mkdir(parents=True)
    real = os.scandir

    def refuse(path: str) -> object:  # root may read everything, so this stands in for the system
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UsageError, match="can't be read"):
        files_of(tmp_path / "tree", "lst")


def test_a_pipe_is_not_waited_for(door: WebDAVStorage, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="Only regular files"):
        upload_alone(door, tmp_path / "pipe", "/r.h5")


def test_a_name_that_the_server_reads_otherwise_is_found(
    box: Sandbox, door: WebDAVStorage, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """XRootD 5.5 does not decode the Destination of a MOVE."""
    monkeypatch.setattr(sandbox_door, "unquote", lambda text, **_how: text)
    with pytest.raises(ProtocolSurprise, match="another name"):
        upload_alone(door, source, "/q?x.h5")


def test_a_stop_leaves_nothing(box: Sandbox, door: WebDAVStorage, source: Path) -> None:
    stop = threading.Event()
    stop.set()
    with cancel.scope(stop), pytest.raises(Stopped):
        upload_alone(door, source, "/r.h5")
    assert left(box) == []


def test_a_door_that_asks_for_an_hour_is_not_waited_for(
    box: Sandbox, door: WebDAVStorage, source: Path
) -> None:
    box.faults.add("503", times=None, method="PUT", retry_after_s=3600)
    with pytest.raises(DoorBusy) as why:
        upload_alone(door, source, "/r.h5")
    assert "3600 s" in (why.value.hint or "")
    assert [r.method for r in box.requests].count("PUT") == 1
