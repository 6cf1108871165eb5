"""`ctaflows inspect` of files at the door: the same numbers, and few bytes read for them."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from ctaflows.cli.app import cli
from ctaflows.dl1.inspect import inspect_file
from ctaflows.errors import IntegrityError, NotFound, NotHDF5
from ctaflows.sandbox.night import make_night
from ctaflows.tasks import remote
from ctaflows.tasks.remote import inspect_remote_dl1, open_remote

if TYPE_CHECKING:
    from pathlib import Path

    from ctaflows.sandbox import Sandbox

FOLDER = "/cta/DL1/20241114/v0.1/tailcut84"
NAME = "dl1_LST-1.Run11111.0000.h5"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made")
    night = dt.date(2024, 11, 14)
    return make_night(
        root, night, runs=[11111], subruns=[1], datacheck=False, events=3000, images=True
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
        monkeypatch.setattr("ctaflows.storage.blocks._SHARE_BYTES", 1 << 16)
    ours, theirs = inspect_remote_dl1(there, whole=True), inspect_file(made, images=0)
    ours_, theirs_ = ours.to_dict(), theirs.to_dict()
    assert ours_.pop("file") == there
    theirs_.pop("file")
    assert ours_ == theirs_


def test_of_a_large_file_the_ends_are_read(
    box: Sandbox, there: str, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "WHOLE_UP_TO_BYTES", 1 << 20)
    ours, theirs = inspect_remote_dl1(there), inspect_file(made, ends_only=True)
    assert ours.n_events_by_type is None
    assert ours.n_events == 3000
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
    with pytest.raises(NotFound, match="neither here nor at the door"):
        run("gone.h5")
    box.requests.clear()
    with pytest.raises(NotFound, match="no such file"):
        run("./gone.h5")
    assert len(box.requests) == 0


def test_without_a_login_a_name_is_still_just_not_here(
    box: Sandbox, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CTAFLOWS_TOKEN_SOURCE", "environment")
    with pytest.raises(NotFound, match="door was not asked") as told:
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


def test_h5py_reads_through_it(there: str, made: Path) -> None:
    h5py = pytest.importorskip("h5py")
    import hdf5plugin  # noqa: F401

    table = "dl1/event/telescope/parameters/LST_LSTCam"
    with open_remote(there) as file, h5py.File(file) as opened, h5py.File(made) as plain:
        assert opened[table][5:2500:7].tobytes() == plain[table][5:2500:7].tobytes()
