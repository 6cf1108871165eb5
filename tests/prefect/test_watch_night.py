"""The flow watch-night: looks, arrivals, events, memory; a real server, a real door."""

from __future__ import annotations

import datetime as dt
import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from nights import make_night
from serverkit import process, wait_until

from ctaflows.cli.run import flow_command
from ctaflows.dl1.night_watch import MEMORY
from ctaflows.errors import AuthError, DoorBusy, PartialFailure, UsageError
from ctaflows.flows.fetch_dl1 import fetch_dl1
from ctaflows.flows.watch_night import watch_night

if TYPE_CHECKING:
    from pathlib import Path

    from ctaflows.sandbox import Sandbox

pytestmark = pytest.mark.usefixtures("without_pictures")

DATE = "20241114"
NIGHT = f"/cta/DL1/{DATE}/v0.1/tailcut84"
#: As often as a watch may look, and not for ever.
OFTEN: dict[str, Any] = {"interval_minutes": 1 / 60, "deadline_hours": 60 / 3600}
ONCE: dict[str, Any] = {"polls": 1, "inspect": False, "page": False}
#: Where what is in the files, and the night's page, is not the point.
FILES_ALONE: dict[str, Any] = {**OFTEN, "inspect": False, "page": False}


class Clock:
    """A clock that pauses put forward."""

    def __init__(self) -> None:
        self._ahead_s = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self._ahead_s

    def pause(self, seconds: float) -> None:
        self._ahead_s += seconds


@pytest.fixture(autouse=True)
def clock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Nobody waits for the next look in this process, but where the run is Prefect's."""
    clock = Clock()
    if "prefect_server" not in request.fixturenames:
        module = sys.modules["ctaflows.flows.watch_night"]
        monkeypatch.setattr(module, "time", clock)
        monkeypatch.setattr(module, "pause", clock.pause)
    return clock


@pytest.fixture
def night(box: Sandbox, here: Path) -> Path:
    """A night of two runs, five subruns, at the door; gives its place there."""
    make_night(box.storage, dt.date(2024, 11, 14), subruns=(3, 2), datacheck=False)
    return box.storage / NIGHT.strip("/")


def arrived(folder: Path) -> set[str]:
    return {p.name for p in folder.rglob("*.h5") if not p.name.startswith(".")}


def name(run: int, subrun: int) -> str:
    return f"dl1_LST-1.Run{run:05d}.{subrun:04d}.h5"


ALL = {name(11111, 0), name(11111, 1), name(11111, 2), name(11113, 0), name(11113, 1)}


def newest(server: Any) -> Any:
    return max(server.flow_runs(auto_scheduled=False), key=lambda run: run.created)


def events(server: Any, event: str, since: Any) -> list[Any]:
    from prefect.events.filters import EventFilter, EventNameFilter, EventOccurredFilter

    wanted = EventFilter(
        event=EventNameFilter(name=[event]), occurred=EventOccurredFilter(since=since)
    )
    with server.client as client:
        page = client._client.post(
            "/events/filter", json={"filter": wanted.model_dump(mode="json"), "limit": 50}
        )
    return page.json()["events"]


def gets(box: Sandbox) -> int:
    return sum(r.method == "GET" for r in box.requests)


# tracked -----------------------------------------------------------------------------------------


def test_a_night_arrives_and_is_told_file_by_file_and_as_a_whole(
    prefect_server: Any, night: Path, here: Path
) -> None:
    since = dt.datetime.now(UTC)
    report = watch_night.tracked(DATE, **OFTEN)
    assert report.state == "complete"
    assert (report.n_looks, report.n_done, report.failed) == (2, 5, ())
    assert arrived(here / DATE) == ALL
    assert all(r["verified"] and r["n_events"] for r in report.records())
    run = newest(prefect_server)
    assert (run.name, run.state.name) == (f"watch-night-{DATE}", "Completed")
    names = [t.name for t in prefect_server.task_runs(run.id, 4)]
    assert sum(n.startswith("list-night-if-there") for n in names) == 2
    assert sum(n.startswith("fetch Run11111.0000 to Run11113.0001, 5 files") for n in names) == 1

    told = wait_until(
        lambda: len(found := events(prefect_server, "ctaflows.file.arrived", since)) >= 5 and found,
        "an event for each file",
    )
    assert {e["resource"]["prefect.resource.name"] for e in told} == ALL
    assert all(e["resource"]["ctaflows.night"] == DATE for e in told)
    assert {e["payload"]["path"] for e in told} == {f"{NIGHT}/{n}" for n in ALL}
    (whole,) = wait_until(
        lambda: events(prefect_server, "ctaflows.night.complete", since), "the night's event"
    )
    assert whole["payload"]["n_files"] == 5

    from prefect.artifacts import Artifact

    with prefect_server.client:
        artifact = Artifact.get(f"night-{DATE}")
    assert "5 of 5 files in place" in (artifact.description or "")

    again = watch_night.tracked(DATE, **ONCE)
    assert again.state == "complete"
    assert again.records() == []
    wait_until(lambda: newest(prefect_server).state.is_completed(), "the second run")
    assert len(events(prefect_server, "ctaflows.file.arrived", since)) == 5
    assert len(events(prefect_server, "ctaflows.night.complete", since)) == 1


def test_it_is_told_of_which_version_each_file_is(
    prefect_server: Any, box: Sandbox, night: Path, here: Path
) -> None:
    since = dt.datetime.now(UTC)
    make_night(
        box.storage, dt.date(2024, 11, 14), version="v0.2", runs=(11113,), subruns=(2,),
        datacheck=False,
    )  # fmt: skip
    report = watch_night.tracked(DATE, inspect=False, page=False, **OFTEN)
    assert (report.state, report.n_done) == ("complete", 5)
    told = wait_until(
        lambda: len(found := events(prefect_server, "ctaflows.file.arrived", since)) >= 5 and found,
        "an event for each file",
    )
    assert {(e["payload"]["run"], e["payload"]["version"]) for e in told} == {
        (11111, "v0.1"),
        (11113, "v0.2"),
    }
    (whole,) = wait_until(
        lambda: events(prefect_server, "ctaflows.night.complete", since), "the night's event"
    )
    assert whole["payload"]["version"] == "v0.2"
    assert whole["payload"]["versions_used"] == ["v0.1", "v0.2"]


def test_a_run_says_last_night_and_is_named_after_the_night(
    prefect_server: Any, box: Sandbox, here: Path
) -> None:
    report = watch_night.tracked(polls=1)
    assert report.state == "absent"
    run = newest(prefect_server)
    assert run.state.name == "Completed"
    assert run.name == f"watch-night-{report.night.date}"
    assert list(here.iterdir()) == []
    with pytest.raises(UsageError):
        watch_night.tracked("yesterday", polls=1)
    assert newest(prefect_server).state.name == "Failed"


def test_its_parameters_make_a_form(prefect_server: Any) -> None:
    schema = watch_night.parameters
    assert not schema.required
    assert all(field.get("description") for field in schema.properties.values())
    assert schema.properties["interval_minutes"]["default"] == 5.0


SERVE = """
from prefect import serve
from ctaflows.flows.mirror import mirror
from ctaflows.flows.upload_results import upload_results
from ctaflows.flows.watch_night import watch_night

flows = {"m": mirror, "u": upload_results, "w": watch_night}
serve(*(flow.to_deployment(name) for name, flow in flows.items()), print_starting_message=False)
"""


@pytest.mark.servers
def test_served_they_run_and_a_cancelled_watch_ends(
    prefect_server: Any, night: Path, box: Sandbox, here: Path, tmp_path: Path
) -> None:
    from prefect.client.schemas.objects import State, StateType
    from prefect.deployments import run_deployment

    (here / "result.h5").write_bytes(b"result")
    log = tmp_path / "serve.log"
    with process([sys.executable, "-c", SERVE], log, env=dict(os.environ)):

        def are_served() -> bool:
            with prefect_server.client as client:
                return {"m", "u", "w"} <= {d.name for d in client.read_deployments()}

        wait_until(are_served, "the served deployments")
        given: dict[str, dict[str, Any]] = {
            "watch-night/w": {"date": DATE, "dest": str(here / "watched"), "interval_minutes": 60},
            "mirror/m": {"path": f"cta/DL1/{DATE}", "dest": str(here / "mirrored")},
            "upload-results/u": {"local": [str(here / "result.h5")], "path": "up"},
        }
        runs = {n: run_deployment(n, parameters=p, timeout=0) for n, p in given.items()}
        for deployment in ("mirror/m", "upload-results/u"):
            run = prefect_server.finished(runs[deployment].id, log)
            assert run.state.is_completed(), log.read_text()
        assert arrived(here / "mirrored") == ALL
        assert (box.storage / "up/result.h5").read_bytes() == b"result"

        memory = here / "watched" / DATE / MEMORY
        wait_until(memory.exists, "the first look")
        watch = runs["watch-night/w"].id
        with prefect_server.client as client:
            client.set_flow_run_state(watch, State(type=StateType.CANCELLING))
        began = time.monotonic()
        run = prefect_server.finished(watch, log)
        assert time.monotonic() - began < 30, "the runner looks every second, on an idle machine"
        assert run.state.is_cancelled(), log.read_text()


@pytest.mark.parametrize(("how", "number"), [("tracked", signal.SIGTERM), ("plain", signal.SIGINT)])
def test_a_waiting_watch_ends_at_once(
    prefect_server: Any, night: Path, here: Path, how: str, number: signal.Signals
) -> None:
    code = f"from ctaflows.flows.watch_night import watch_night; watch_night.{how}('{DATE}')"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PREFECT_API_URL": prefect_server.url},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_until((here / DATE / MEMORY).exists, "the first look", 120)
    process.send_signal(number)
    began = time.monotonic()
    assert process.wait(60) != 0
    assert time.monotonic() - began < 45


# plain -------------------------------------------------------------------------------------------


def test_a_file_that_grows_is_waited_for(night: Path, here: Path) -> None:
    growing = night / name(11113, 1)
    whole = growing.read_bytes()
    growing.write_bytes(whole[:1000])
    first = watch_night.plain(DATE, **ONCE)
    assert first.state == "growing"
    assert arrived(here / DATE) == set(), "seen once is not enough"
    growing.write_bytes(whole[:2000])
    second = watch_night.plain(DATE, **ONCE)
    assert arrived(here / DATE) == ALL - {growing.name}
    assert second.night.gaps.growing == (growing.name,)
    growing.write_bytes(whole)
    for _ in range(2):
        third = watch_night.plain(DATE, **ONCE)
        assert (third.state, third.n_done) == ("growing", 4), "it was changed a moment ago"
    os.utime(growing, (1731657600, 1731657600))
    watch_night.plain(DATE, **ONCE)
    last = watch_night.plain(DATE, **ONCE)
    assert [r["path"] for r in last.records()] == [f"{NIGHT}/{growing.name}"]
    assert (last.state, last.n_done) == ("complete", 5)
    assert arrived(here / DATE) == ALL


def test_what_came_is_not_asked_for_again(box: Sandbox, night: Path, here: Path) -> None:
    watch_night.plain(DATE, **FILES_ALONE)
    asked = gets(box)
    for file in (here / DATE).rglob("*.h5"):
        file.unlink()  # worked on, and moved elsewhere
    report = watch_night.plain(DATE, **ONCE)
    assert (report.state, report.n_done) == ("complete", 5)
    assert arrived(here / DATE) == set()
    assert gets(box) == asked


def test_a_file_that_was_made_anew_comes_again(night: Path, here: Path) -> None:
    watch_night.plain(DATE, **FILES_ALONE)
    file = night / name(11111, 1)
    file.write_bytes((night / name(11111, 2)).read_bytes())
    os.utime(file, (1731660000, 1731660000))
    watch_night.plain(DATE, **ONCE)
    report = watch_night.plain(DATE, **ONCE)
    assert [r["path"] for r in report.records()] == [f"{NIGHT}/{file.name}"]
    (here_,) = (here / DATE).rglob(file.name)
    assert here_.read_bytes() == file.read_bytes()


def test_it_shares_the_folder_and_the_proofs_with_fetch_dl1(
    box: Sandbox, night: Path, here: Path
) -> None:
    fetch_dl1.plain(DATE)
    asked = gets(box)
    report = watch_night.plain(DATE, **OFTEN)
    assert (report.state, report.n_done) == ("complete", 5)
    assert gets(box) == asked
    assert fetch_dl1.plain(DATE).moved_bytes == 0


@pytest.mark.parametrize("damage", [b"", b'{"format": 1}\n[]\n', None])
def test_a_damaged_memory_costs_nothing_but_a_look(
    box: Sandbox, night: Path, here: Path, damage: bytes | None
) -> None:
    watch_night.plain(DATE, **FILES_ALONE)
    asked = gets(box)
    memory = here / DATE / MEMORY
    memory.write_bytes(memory.read_bytes()[9:] if damage is None else damage)
    report = watch_night.plain(DATE, **FILES_ALONE)
    assert (report.state, report.n_done, report.n_looks) == ("complete", 5, 2)
    assert gets(box) == asked, "the manifest has the proofs"


def test_after_a_kill_nothing_is_lost_and_little_fetched_again(
    box: Sandbox, night: Path, here: Path
) -> None:
    box.faults.add("slow", times=None, server="pool", path="*Run11113*", rate_bytes_s=20_000)
    watch_night.plain(DATE, **ONCE)
    code = (
        f"from ctaflows.flows.watch_night import watch_night; watch_night.plain('{DATE}', polls=1)"
    )
    killed = subprocess.Popen([sys.executable, "-c", code])

    def is_under_way() -> bool:
        assert killed.poll() is None
        return any(p.stat().st_size > 30_000 for p in here.rglob(".*Run11113*.part"))

    wait_until(is_under_way, "some bytes", 120)
    killed.kill()
    killed.wait(10)
    box.faults.clear()
    report = watch_night.plain(DATE, **ONCE)
    assert (report.state, report.n_done) == ("complete", 5)
    assert len(report.records()) == 5, "none was remembered as done before its batch was"
    assert sum(r["resumed_bytes"] for r in report.records()) > 30_000
    sizes = {p.name: p.read_bytes() for p in (here / DATE).rglob("dl1*.h5")}
    assert sizes == {p.name: p.read_bytes() for p in night.glob("*.h5")}


def test_the_deadline_ends_an_incomplete_night(night: Path, here: Path, clock: Clock) -> None:
    (night / name(11111, 1)).unlink()
    began = clock.monotonic()
    report = watch_night.plain(DATE, **{**FILES_ALONE, "deadline_hours": 8 / 3600})
    assert 7.9 < clock.monotonic() - began < 60
    assert report.state == "incomplete"
    assert report.night.gaps.missing == ("Run11111.0001",)
    assert report.n_done == 4
    assert report.n_looks >= 3
    assert "missing" in json.dumps(report.to_dict())


def test_a_night_that_is_quiet_for_too_short_may_go_on(night: Path, here: Path) -> None:
    for file in night.glob("*.h5"):
        os.utime(file)
    report = watch_night.plain(
        DATE, settle_minutes=0, quiet_minutes=5, polls=2, inspect=False, **OFTEN
    )
    assert (report.state, report.n_done) == ("open", 5)


def test_only_what_is_wanted_comes(night: Path, here: Path) -> None:
    report = watch_night.plain(DATE, run="11111", subrun="0-1", **FILES_ALONE)
    assert report.state == "complete"
    assert arrived(here / DATE) == {name(11111, 0), name(11111, 1)}


def test_a_file_that_fails_is_tried_again_at_each_look(
    box: Sandbox, night: Path, here: Path
) -> None:
    box.locality(f"{NIGHT}/{name(11113, 0)}", "NEARLINE")
    with pytest.raises(PartialFailure, match="on tape") as why:
        watch_night.plain(DATE, polls=3, inspect=False, **OFTEN)
    assert (why.value.report.n_looks, why.value.report.n_done) == (3, 4)
    assert why.value.exit_code == 10
    box.locality(f"{NIGHT}/{name(11113, 0)}", "ONLINE")
    report = watch_night.plain(DATE, **ONCE)
    assert (report.state, report.n_done) == ("complete", 5)


def test_a_damaged_file_is_told_once(night: Path, here: Path) -> None:
    (night / name(11113, 0)).write_bytes(b"no HDF5" * 1000)
    os.utime(night / name(11113, 0), (1731657600, 1731657600))
    with pytest.raises(PartialFailure, match=r"Run11113\.0000.*NotHDF5"):
        watch_night.plain(DATE, **OFTEN)
    assert arrived(here / DATE) == ALL
    assert watch_night.plain(DATE, polls=1).failed == ()


def test_trouble_at_the_door_passes_or_is_said(
    box: Sandbox, night: Path, here: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CTAFLOWS_ATTEMPTS", "1")
    box.faults.add("503", times=1, method="PROPFIND")
    report = watch_night.plain(DATE, **OFTEN)
    assert (report.state, report.n_looks) == ("complete", 3)
    box.faults.add("503", times=None, method="PROPFIND")
    with pytest.raises(DoorBusy):
        watch_night.plain(DATE, polls=2, **OFTEN)
    box.faults.clear()
    (box.config_dir / "tokens/sandbox.json").unlink()
    began = clock.monotonic()
    with pytest.raises(AuthError):
        watch_night.plain(DATE, **OFTEN)
    assert clock.monotonic() - began < 50, "it does not wait for what will not pass"


def test_an_unreadable_night_is_not_taken_for_a_complete_one(
    box: Sandbox, night: Path, here: Path
) -> None:
    watch_night.plain(DATE, **FILES_ALONE)
    box.deny(NIGHT)
    report = watch_night.plain(DATE, **ONCE)
    assert report.state != "complete"
    assert arrived(here / DATE) == ALL


def test_from_the_command_line(night: Path, here: Path) -> None:
    command = flow_command("watch-night", watch_night)
    shown = CliRunner().invoke(command, ["--help"]).output
    for option in ("--date", "--interval-minutes", "--deadline-hours", "--polls", "--dest"):
        assert option in shown
    words = [
        "--no-track",
        "--date",
        DATE,
        "--polls",
        "2",
        "--interval-minutes",
        str(1 / 60),
        "--json",
    ]
    done = CliRunner().invoke(command, words)
    assert done.exit_code == 0, done.output
    assert {r["path"].rpartition("/")[2] for r in json.loads(done.stdout)} == ALL
    text = CliRunner().invoke(command, ["--no-track", "--date", DATE, "--polls", "1"])
    assert "night 20241114 v0.1 is complete: 0 new, 5 here in all, 1 look" in text.stdout
