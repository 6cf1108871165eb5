"""The library as a notebook uses it: names from `ctaflows`, no server, answers at once."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Self

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
    iter_dir,
    iter_find,
    iter_remove,
    list_dir,
    list_night,
    plan_removal,
    refresh_token,
    stat,
    upload_dir,
    upload_file,
)
from ctaflows.dl1.names import last_night
from ctaflows.errors import ListingUnreadable, LoginNeeded, NotFound, TokenMissing, UsageError
from ctaflows.flows.fetch_dl1 import fetch_dl1
from ctaflows.tasks import plan_fetch
from ctaflows.transfer.progress import Progress

if TYPE_CHECKING:
    from pathlib import Path

    from ctaflows.model import Transfer
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


def test_a_tree_with_a_directory_that_can_t_be_read(box: Sandbox, night: Path) -> None:
    box.deny(f"/{NIGHT}/v0.1/tailcut84/datacheck")
    with pytest.raises(PartialFailure, match="datacheck: Refused: The directory is shown") as why:
        fetch_dir(NIGHT, "tree")
    [unread] = why.value.report.failed
    assert unread.local == "tree/20241114/v0.1/tailcut84/datacheck"
    assert all((night / t.local).is_file() for t in why.value.report.transfers if t.ok)
    assert len(why.value.report.transfers) > 1


def test_a_night_that_can_t_be_seen_is_not_called_absent(box: Sandbox, night: Path) -> None:
    box.deny(f"/{NIGHT}/v0.1")
    with pytest.raises(ListingUnreadable, match=r"v0\.1"):
        fetch_dl1(date="20241114", dest=str(night / "out"))


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


def test_last_night(box: Sandbox, here: Path) -> None:
    evening = last_night(dt.datetime.now(dt.UTC))
    make_night(box.storage, evening, runs=(11111,), subruns=(1,))
    assert list_night("last-night").date == f"{evening:%Y%m%d}"


def test_streams_and_plans(box: Sandbox, night: Path) -> None:
    first, *others = iter_dir("cta", recursive=True)
    assert [entry.path for entry in first] == ["/cta/DL1"]
    assert sum(map(len, others)) == len(find("cta", kind=None)) - 1
    everything = [entry for batch in iter_find("cta", kind=None) for entry in batch]
    assert {e.path for e in everything if not e.is_dir} == {e.path for e in find("cta")}
    newest = max(entry.mtime for entry in everything if entry.mtime)
    assert find("cta", newer_than=newest) == []
    assert [e.name for e in find(NIGHT, names=["dl1_*.0001.h5"])] == ["dl1_LST-1.Run11111.0001.h5"]

    plan = plan_removal([f"{NIGHT}/v0.1/tailcut84", "gone"])
    assert [one.path for one in plan.kept] == ["gone"]
    came_later = box.storage / NIGHT / "v0.1/tailcut84/later.h5"
    came_later.touch()
    results = [result for batch in iter_remove(plan) for result in batch]
    assert {r.path for r in results if not r.ok} == {"gone", f"/{NIGHT}/v0.1/tailcut84"}
    assert [entry.name for entry in list_dir(f"{NIGHT}/v0.1/tailcut84")] == ["later.h5"]


def test_fetched_to_names_of_one_s_own(night: Path) -> None:
    one, two, *_ = find(NIGHT, include=["dl1_*"], exclude=["datacheck"])
    pairs = [(one, "a/"), (two.path, "b.h5")]
    planned = plan_fetch(pairs)
    report = fetch_files(pairs)
    assert [t.local for t in report.transfers] == [t.local for t in planned]
    assert [t.local for t in planned] == [f"a/{one.name}", "b.h5"]
    assert (night / "b.h5").stat().st_size == two.size_bytes


def test_one_place_for_two_files_however_it_is_written(night: Path) -> None:
    one, two, *_ = find(NIGHT, include=["dl1_*"], exclude=["datacheck"])
    for other in (str(night / "o/z"), "o/../o/z"):
        with pytest.raises(UsageError, match="same name"):
            fetch_files([(one, "o/z"), (two, other)])
    assert not (night / "o/z").exists()


def test_an_empty_text_is_as_none(night: Path) -> None:
    files = find(NIGHT, include=["dl1_*"], exclude=["datacheck"])
    report = fetch_files(files, "out", base="", manifest="")
    assert [t.local for t in report.transfers] == [f"out/{e.name}" for e in files]


def test_progress_is_reported(night: Path) -> None:
    class Seen(Progress):
        n_bytes = n_files = 0

        def __enter__(self) -> Self:
            order.append("begun")
            return self

        def __exit__(self, *exc: object) -> None:
            order.append("over")

        def advance(self, n_bytes: int) -> None:
            self.n_bytes += n_bytes

        def finished(self, transfer: Transfer) -> None:
            self.n_files += 1

    order: list[str] = []
    seen = Seen()
    files = find(NIGHT)
    fetch_files(files, progress=seen)
    assert (seen.n_files, seen.n_bytes) == (6, sum(e.size_bytes or 0 for e in files))
    assert order == ["begun", "over"]


@pytest.mark.usefixtures("without_pictures")
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
