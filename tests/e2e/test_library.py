"""The library as a notebook uses it: names from `ctaflows`, no server, answers at once."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import pytest
from nights import make_night

import ctaflows
from ctaflows import (
    PartialFailure,
    fetch_dir,
    fetch_file,
    fetch_files,
    find,
    get_token_info,
    inspect_dl1,
    list_dir,
    list_night,
    refresh_token,
    stat,
    upload_dir,
    upload_file,
)
from ctaflows.errors import LoginNeeded, NotFound, TokenMissing, UsageError
from ctaflows.flows.fetch_dl1 import fetch_dl1

if TYPE_CHECKING:
    from pathlib import Path

    from ctaflows.sandbox import Sandbox

NIGHT = "cta/DL1/20241114"


@pytest.fixture
def night(box: Sandbox, here: Path) -> Path:
    make_night(box.storage, dt.date(2024, 11, 14), subruns=(2, 1))
    return here


def test_all_that_is_promised_is_there() -> None:
    for name in ctaflows.__all__:
        assert getattr(ctaflows, name) is not None
    assert set(ctaflows.__all__) <= set(dir(ctaflows))
    with pytest.raises(AttributeError):
        ctaflows.nonsense  # noqa: B018


def test_the_notebook(night: Path) -> None:
    assert [e.name for e in list_dir(NIGHT)] == ["v0.1"]
    runs = find(NIGHT, include=["dl1_*"], exclude=["datacheck"])
    assert [e.name for e in runs] == [
        "dl1_LST-1.Run11111.0000.h5", "dl1_LST-1.Run11111.0001.h5", "dl1_LST-1.Run11113.0000.h5",
    ]  # fmt: skip
    done = fetch_file(runs[0])
    assert done.verified
    summary = inspect_dl1(done.local)
    assert (summary.run, summary.subrun) == (11111, 0)
    assert stat(runs[0].path).checksums == runs[0].checksums


def test_a_path_may_be_a_whole_address(box: Sandbox, night: Path) -> None:
    assert list_dir(f"{box.door_url}/{NIGHT}") == list_dir(NIGHT)
    with pytest.raises(UsageError, match="not at this profile's door"):
        list_dir("https://elsewhere.example/cta")


def test_many(night: Path) -> None:
    entries = find(NIGHT)
    report = fetch_files(entries, "out", base=NIGHT)
    assert len(report.transfers) == 6
    assert (night / "out/v0.1/tailcut84/datacheck").is_dir()
    report = fetch_dir(NIGHT, "tree", include=["dl1_*"])
    assert (night / "tree/20241114/v0.1/tailcut84/dl1_LST-1.Run11113.0000.h5").is_file()
    assert len(report.transfers) == 3


def test_many_tell_which_failed(box: Sandbox, night: Path) -> None:
    entries = find(NIGHT)
    box.faults.add("403", times=None, path="*Run11111.0001.h5", method="GET")
    with pytest.raises(PartialFailure) as why:
        fetch_files(entries, "out")
    assert len(why.value.report.failed) == 2
    assert fetch_files(entries, "out", on_error="report").failed


def test_upload(box: Sandbox, here: Path) -> None:
    (here / "d").mkdir()
    (here / "d/a.txt").write_text("a")
    assert upload_file("d/a.txt", "lst/users/me/").verified
    assert len(upload_dir("d", "lst/users/me").transfers) == 1
    assert (box.storage / "lst/users/me/d/a.txt").read_text() == "a"
    with pytest.raises(NotFound):
        upload_dir("gone", "lst")


def test_versions(box: Sandbox, night: Path) -> None:
    make_night(box.storage, dt.date(2024, 11, 14), version="v0.10", runs=(11111,), subruns=(1,))
    assert list_night("20241114").version == "v0.10"
    assert len(list_night("20241114", version="v0.1").entries) == 6


def test_the_flow_without_a_server(night: Path) -> None:
    report = fetch_dl1("20241114", dest="nights")
    assert len(report.transfers) == 6
    assert report.moved_bytes > 0
    assert fetch_dl1("20241114", dest="nights").moved_bytes == 0


def test_token(box: Sandbox, here: Path) -> None:
    before = get_token_info()
    assert before.refreshable
    after = refresh_token()
    assert after.subject == "sandbox-user"
    assert after.expires_in_s is not None
    assert refresh_token().expires_in_s is not None, "the rotated refresh token was kept"


def test_a_login_that_has_ended(box: Sandbox, here: Path) -> None:
    import json

    store = box.config_dir / "tokens/sandbox.json"
    values = json.loads(store.read_text())
    store.write_text(json.dumps({**values, "refresh_token": "spent"}))
    with pytest.raises(LoginNeeded):
        refresh_token()
    assert json.loads(store.read_text())["refresh_token"] == "spent"
    store.unlink()
    with pytest.raises(TokenMissing):
        refresh_token()
