"""`ctaflows inspect` of files at the door: the same numbers, and few bytes read for them."""

from __future__ import annotations

import datetime as dt
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from nights import make_night

from ctaflows import cancel
from ctaflows.cli.app import cli
from ctaflows.dl1 import reader_process
from ctaflows.dl1.content.inspect import inspect_file
from ctaflows.errors import IntegrityError, NotFound, NotHDF5, SourceChanged, Stopped
from ctaflows.tasks import remote
from ctaflows.tasks.remote import (
    inspect_remote_dl1,
    inspect_remote_dl1_files,
    open_remote,
)

if TYPE_CHECKING:
    from ctaflows.sandbox import Sandbox

FOLDER = "/cta/DL1/20241114/v0.1/tailcut84"
NAME = "dl1_LST-1.Run11111.0000.h5"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made")
    night = dt.date(2024, 11, 14)
    return make_night(
        root, night, runs=[11111], subruns=[1], datacheck=False, events=1000, images=True
    )[0]


@pytest.fixture
def there(box: Sandbox, here: Path, made: Path) -> str:
    box.put(f"{FOLDER}/{NAME}", made.read_bytes())
    return f"{FOLDER}/{NAME}"


def run(*args: str) -> str:
    done = CliRunner().invoke(cli, ["inspect", *args])
    if done.exception:
        raise done.exception
    return done.output


def ranges(box: Sandbox) -> list[str]:
    return [r.headers["range"] for r in box.requests if r.server == "pool"]


@pytest.mark.parametrize("is_large", [False, True])
def test_a_whole_remote_file_tells_what_a_local_one_does(
    there: str, made: Path, is_large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if is_large:  # then its chunks come over several connections
        monkeypatch.setattr(remote, "WHOLE_UP_TO_BYTES", 1 << 10)
        monkeypatch.setattr("ctaflows.storage.block_cache._SHARE_BYTES", 1 << 16)
    # of a small file the images are read too
    images = {"images": 0} if is_large else {}
    ours, theirs = inspect_remote_dl1(there, whole=True), inspect_file(made, **images)
    ours_, theirs_ = ours.to_dict(), theirs.to_dict()
    assert ours_.pop("file") == there
    theirs_.pop("file")
    assert ours_ == theirs_


def test_of_a_large_file_the_ends_are_read(
    box: Sandbox, there: str, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "WHOLE_UP_TO_BYTES", 1 << 19)
    ours, theirs = inspect_remote_dl1(there), inspect_file(made, ends_only=True)
    assert ours.n_events_by_type is None
    assert ours.n_events == 1000
    assert (ours.run, ours.tables) == (11111, theirs.tables)
    assert (ours.time_first, ours.time_last) == (theirs.time_first, theirs.time_last)
    assert len(ranges(box)) <= 12


def test_the_command_takes_both(box: Sandbox, there: str, made: Path, here: Path) -> None:
    (here / "local.h5").write_bytes(made.read_bytes())
    rows = json.loads(run("--json", "local.h5", there))
    assert [row["file"] for row in rows] == ["local.h5", there]
    assert rows[0]["n_events_by_type"] == rows[1]["n_events_by_type"]
    assert "events" in run(there.strip("/"))


def test_a_file_here_wins_and_the_door_can_be_named(
    box: Sandbox, there: str, made: Path, here: Path
) -> None:
    local = here / there.strip("/")
    local.parent.mkdir(parents=True)
    local.write_bytes(b"<html>")
    with pytest.raises(NotHDF5):
        run(there.strip("/"))
    assert ranges(box) == []
    for name in (f"cta://{there}", f"cta:/{there}", f"{box.door_url}{there}"):
        assert "11111" in run(name)
    with pytest.raises(NotFound):
        run("./" + "nowhere.h5")


def test_a_name_that_is_nowhere(box: Sandbox, here: Path) -> None:
    with pytest.raises(NotFound, match="neither local nor remote"):
        run("gone.h5")
    box.requests.clear()
    with pytest.raises(NotFound, match="no such file"):
        run("./gone.h5")
    assert len(box.requests) == 0


def test_without_a_login_a_name_is_still_just_not_here(
    box: Sandbox, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CTAFLOWS_TOKEN_SOURCE", "environment")
    with pytest.raises(NotFound, match="storage was not asked") as told:
        run("gone.h5")
    assert "login" in (told.value.hint or "")


def test_damaged_files_at_the_door(box: Sandbox, there: str, made: Path) -> None:
    for name, data in {
        "cut.h5": made.read_bytes()[:-5000],
        "page.h5": b"<html>",
        "no.h5": b"",
    }.items():
        box.put(name, data)
        with pytest.raises(IntegrityError):
            run(f"cta://{name}")


def test_several_with_a_bad_one(box: Sandbox, there: str) -> None:
    box.put("page.h5", b"<html>")
    done = CliRunner().invoke(cli, ["inspect", "cta://page.h5", there])
    assert done.exit_code == 7
    assert "11111" in done.output


# -- in a process apart --------------------------------------------------------------------------


def replaced(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Let new readers' processes run other code."""
    real = subprocess.Popen

    def popen(words: list[str], **options: Any) -> Any:
        return real([sys.executable, "-c", code], **options)

    monkeypatch.setattr(reader_process, "_remote_pool", None)
    monkeypatch.setattr(reader_process.subprocess, "Popen", popen)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("os.kill(os.getpid(), 11)", "signal 11"),
        ("print('{\"read\": [0, 8]}', flush=True); os.kill(os.getpid(), 11)", "signal 11"),
        ("print('{\"summary\": ', end='', flush=True); os._exit(3)", "code 3"),
        ("while 1: print('{\"read\": [0, 700000]}', flush=1); sys.stdin.buffer.read(700000)",
         "again and again"),
        ("while 1: print('x' * 65536, end='', flush=True)", "more than there can be"),
        ("print('nonsense', flush=True); time.sleep(60)", "can't be understood"),
        ("print('{\"read\": 7}', flush=True); time.sleep(60)", "can't be understood"),
        ("print('{\"summary\": []}', flush=True); time.sleep(60)", "can't be understood"),
        ("print('{\"read\": [999999999, 8]}', flush=True); time.sleep(60)", "does not have"),
    ],
)  # fmt: skip
def test_a_file_that_makes_hdf5_crash_is_told_as_damaged(
    there: str, monkeypatch: pytest.MonkeyPatch, code: str, said: str
) -> None:
    monkeypatch.setattr(reader_process, "_MORE_BYTES", 4 << 20)
    with monkeypatch.context() as patch:
        replaced(patch, f"import os, sys, time; sys.stdin.buffer.readline()\n{code}")
        with pytest.raises(IntegrityError, match=said):
            inspect_remote_dl1(there)
    assert inspect_remote_dl1(there).n_events == 1000


def test_the_process_has_no_token_and_no_time_without_end(
    there: str, box: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CTAFLOWS_CLIENT_SECRET", "secret")
    with reader_process.remote_reader() as one, open_remote(there) as file:
        one.read_source(file, there, ends_only=True)
        environment = Path(f"/proc/{one._process.pid}/environ").read_bytes()
        assert b"secret" not in environment
        assert b"CTAFLOWS" not in environment
        with monkeypatch.context() as patch:
            patch.setattr(one, "_least_s", 0.2)
            patch.setattr(reader_process, "_BYTES_PER_S", 1e9)
            os.kill(one._process.pid, signal.SIGSTOP)
            with pytest.raises(IntegrityError, match="took more than"):
                one.read_source(file, there, ends_only=True)
        assert one.read_source(file, there, ends_only=True).n_events == 1000


def test_it_can_be_stopped(there: str) -> None:
    stop = threading.Event()
    with reader_process.remote_reader() as one, open_remote(there) as file:
        one.start()
        os.kill(one._process.pid, signal.SIGSTOP)
        stop.set()
        with cancel.scope(stop), pytest.raises(Stopped):
            one.read_source(file, there, ends_only=True)


def test_what_the_door_says_passes(there: str, box: Sandbox) -> None:
    with reader_process.remote_reader() as one, open_remote(there) as file:
        box.put(there, b"something else")
        with pytest.raises(SourceChanged):
            one.read_source(file, there, ends_only=True)


def test_several_are_read_at_once(
    box: Sandbox, there: str, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each waits until the others have begun: one after the other they would wait for ever."""
    names = [there.replace(".0000.", f".000{i}.") for i in range(2)]
    box.put(names[1], made.read_bytes())
    together = threading.Barrier(2)
    real = remote.RemoteFile

    def opened(*args: Any, **options: Any) -> Any:
        together.wait(60)
        return real(*args, **options)

    monkeypatch.setattr(remote, "RemoteFile", opened)
    rows = json.loads(run("--json", *names))
    assert [row["file"] for row in rows] == names
    box.put("page.h5", b"<html>")
    together = threading.Barrier(1)
    monkeypatch.setattr(remote, "RemoteFile", real)
    found = inspect_remote_dl1_files([*names, "page.h5", "gone.h5"])
    assert [one.summary is not None for one in found] == [True, True, False, False]
    assert [one.error.partition(":")[0] for one in found[2:] if one.error] == [
        "NotHDF5",
        "NotFound",
    ]


def test_h5py_reads_through_it(there: str, made: Path) -> None:
    h5py = pytest.importorskip("h5py")
    import hdf5plugin  # noqa: F401

    table = "dl1/event/telescope/parameters/LST_LSTCam"
    with open_remote(there) as file, h5py.File(file) as opened, h5py.File(made) as plain:
        assert opened[table][5:900:7].tobytes() == plain[table][5:900:7].tobytes()
