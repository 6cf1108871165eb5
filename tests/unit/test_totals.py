"""The sums of a run and the verdict of a night: the same in every place that tells them."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from nightkit import damaged, datacheck, report, subrun

from ctaflows.dl1.night import Gaps
from ctaflows.dl1.night_completeness import Completeness
from ctaflows.dl1.report.html import page
from ctaflows.dl1.report.markdown import digest
from ctaflows.dl1.report.totals import rows_of_inspections, totals_by_run
from ctaflows.dl1.report.watch_report import WatchReport
from ctaflows.reporting import events
from ctaflows.reporting.assets import fetched_runs

if TYPE_CHECKING:
    from pathlib import Path

    from ctaflows.dl1.quality.checks import Inspection
    from ctaflows.dl1.report.night_report import NightReport

pytestmark = pytest.mark.usefixtures("without_pictures")

NOON = datetime(2024, 11, 15, 12, tzinfo=UTC)


def counted(run: int, number: int | None, n_events: int) -> Inspection:
    """Look into a file of so many events."""
    return subrun(run, number, n_events=n_events, n_events_by_type={"cosmic": n_events})


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The events that a run sends."""
    sent: list[dict[str, Any]] = []

    def emit(name: str, resource: dict[str, str], **payload: Any) -> bool:
        sent.append({"event": name, **payload})
        return True

    monkeypatch.setattr(events, "_emit", emit)
    monkeypatch.setattr(events, "in_run", lambda: True)
    return sent


def here(night: NightReport, folder: Path) -> NightReport:
    """Let the night lie in a folder that is there, its files just come."""
    moved = tuple(dataclasses.replace(t, moved_bytes=1) for t in night.transfers)
    return dataclasses.replace(night, dest=str(folder), transfers=moved)


def test_a_merged_file_is_not_counted_beside_its_subruns(
    tmp_path: Path, told: list[dict[str, Any]]
) -> None:
    both, whole = [counted(11111, 0, 100), counted(11111, 1, 100)], counted(11111, None, 200)
    night = here(report(*both, whole), tmp_path)
    (run,) = totals_by_run(night.rows())
    assert (run.n_files, run.n_inspected, run.n_events, run.n_events_by_type) == (
        3, 2, 200, {"cosmic": 200},
    )  # fmt: skip
    assert "| 11111 | 3 |" in digest(night)
    assert "| 200 | 200 |" in digest(night)
    assert ">200<" in page(night)
    (asset,) = fetched_runs(night, "https://door.example.org:2880")
    (in_area,) = fetched_runs(night, "https://door.example.org:2880/area")
    assert in_area.origin == asset.origin.replace(".org", ".org/area")
    assert (asset.metadata["n_events"], asset.metadata["inspected"]) == (200, 2)
    assert events.night_complete(night)
    assert [event["n_events"] for event in told] == [200]


def test_a_run_of_which_there_is_only_the_whole() -> None:
    (run,) = totals_by_run(rows_of_inspections([counted(11111, None, 200), datacheck(11111, None)]))
    assert (run.n_files, run.n_inspected, run.n_events) == (2, 1, 200)


def at_door(verdict: str) -> Completeness:
    return Completeness("20241114", "v0.1", "/cta/DL1/20241114/v0.1", NOON, verdict)


@pytest.mark.parametrize(
    ("about", "state", "words"),
    [
        ({}, "complete", "Complete."),
        ({"census": at_door("complete")}, "complete", "Complete."),
        ({"gaps": Gaps(missing=("Run11112",))}, "incomplete", "missing at the door"),
        ({"gaps": Gaps(has_dl1=False)}, "incomplete", "no DL1 file at the door"),
        ({"gaps": Gaps(unknown=("/cta/x: 403",))}, "incomplete", "Not complete at the door"),
        ({"gaps": Gaps(awaited={"Run11111": "v0.2"})}, "incomplete", "Not complete at the door"),
        ({"census": at_door("incomplete")}, "incomplete", "Not complete at the door"),
        ({"gaps": Gaps(growing=("x.h5",))}, "growing", "still growing at the door"),
        ({"census": at_door("growing")}, "growing", "still growing at the door"),
        ({"gaps": Gaps(growing=("x.h5",), missing=("y",))}, "growing", "still growing"),
    ],
)
def test_a_night_has_one_verdict_wherever_it_is_told(
    about: dict[str, Any], state: str, words: str, tmp_path: Path, told: list[dict[str, Any]]
) -> None:
    night = dataclasses.replace(here(report(subrun(11111, 0)), tmp_path), **about)
    assert night.state == state
    assert night.to_dict()["verdict"] == state
    assert words in night.sentence
    assert f"**{night.sentence}**" in digest(night)
    assert f"<span>{night.sentence} Files: 1 " in page(night)
    is_complete = state == "complete"
    assert night.verdict().startswith("complete: ") == is_complete
    assert events.night_complete(night) == is_complete
    assert [event["event"] for event in told] == ["ctaflows.night.complete"] * is_complete


def test_a_damaged_file_makes_it_fail_whatever_the_door_has(
    tmp_path: Path, told: list[dict[str, Any]]
) -> None:
    night = here(report(subrun(11111, 0), damaged(11111, 1)), tmp_path)
    assert (night.state, night.sentence) == ("failed", "Not complete: 1 file failed.")
    assert not events.night_complete(night)
    assert told == []


def test_a_dry_run_says_nothing_of_the_night(told: list[dict[str, Any]]) -> None:
    night = dataclasses.replace(report(subrun(11111, 0)), dry_run=True)
    assert night.state == "dry run"
    assert not events.night_complete(night)
    assert told == []


def test_a_watch_says_of_its_night_what_the_watch_is(tmp_path: Path) -> None:
    watch = WatchReport.begun("20241114", tmp_path, tmp_path / "manifest.jsonl")
    assert watch.to_dict()["verdict"] == watch.state == "absent"
    arrived = report(subrun(11111, 0)).transfers
    for is_complete, gaps, state in [
        (False, Gaps(), "open"),
        (False, Gaps(growing=("x.h5",)), "growing"),
        (False, Gaps(missing=("Run11112",)), "incomplete"),
        (True, Gaps(), "complete"),
    ]:
        now = watch.having(
            arrived, (), gaps=gaps, path="/cta", version="v0.1", is_complete=is_complete
        )
        assert now.to_dict()["verdict"] == now.state == now.night.state == state
        assert now.night.verdict().startswith("complete: ") == is_complete
