"""What a watch keeps in the night's folder, and what it says of the night."""

from __future__ import annotations

import io
import logging
import os
import stat
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console

from ctaflows import cancel
from ctaflows.cancel import pause
from ctaflows.dl1.night import Gaps
from ctaflows.dl1.night_watch import MEMORY, WatchStateFile
from ctaflows.dl1.quality.checks import Inspection
from ctaflows.dl1.report import inspection_cache
from ctaflows.dl1.report.watch_report import WatchReport
from ctaflows.errors import Stopped, UsageError
from ctaflows.model import Entry, Transfer
from ctaflows.reporting import events
from ctaflows.transfer.decide import extraneous

NOW = datetime(2024, 11, 15, 9, tzinfo=UTC)
A, B = (Entry(f"/n/v0.1/{name}", size_bytes=1, mtime=NOW) for name in ("a.h5", "b.h5"))


def test_it_is_kept_across_runs(tmp_path):
    folder = tmp_path / "nights/20241114"
    book = WatchStateFile(folder)
    book.look([A, B], NOW)
    book.done([A.path])
    again = WatchStateFile(folder)
    assert again.memory == book.memory
    assert again.done_below("/n/v0.1") == [A.path]
    assert again.done_below("/n/v0.1/") == [A.path]
    assert again.done_below("/n/v0") == []
    assert [p.name for p in folder.iterdir()] == [MEMORY]


def test_a_night_of_which_nothing_was_seen_makes_no_folder(tmp_path):
    WatchStateFile(tmp_path / "night").look([], NOW)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"{", b'{"format": 1}\n{"path": "/a"}\n'])
def test_a_damaged_one_is_said_and_made_anew(tmp_path, caplog, content):
    (tmp_path / MEMORY).write_bytes(content)
    with caplog.at_level(logging.WARNING, "ctaflows.watch"):
        book = WatchStateFile(tmp_path)
    assert book.memory.sightings == {}
    assert MEMORY in caplog.text
    book.look([A], NOW)
    caplog.clear()
    assert list(WatchStateFile(tmp_path).memory.sightings) == [A.path]
    assert not caplog.text


def test_what_a_kill_leaves_is_no_harm(tmp_path):
    book = WatchStateFile(tmp_path)
    book.look([A], NOW)
    (tmp_path / f"{MEMORY}.123.456").write_text('{"format": 1, "fil')
    assert WatchStateFile(tmp_path).memory == book.memory


def test_where_it_can_not_be_written_the_old_one_stands(tmp_path, monkeypatch):
    book = WatchStateFile(tmp_path)
    book.look([A], NOW)
    old = (tmp_path / MEMORY).read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Exception, match="no space is left here"):
        book.look([A, B], NOW)
    assert [p.name for p in tmp_path.iterdir()] == [MEMORY]
    assert (tmp_path / MEMORY).read_bytes() == old
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="can't be written"):
        WatchStateFile(tmp_path / "file/night").look([A], NOW)


def test_no_mirror_deletes_what_a_night_is_kept_with():
    ours = [MEMORY, f"{MEMORY}.1.2", f"x/{MEMORY}", inspection_cache.NAME, events._MARKER]
    assert extraneous(ours, [], []) == ([], [])


# waiting -----------------------------------------------------------------------------------------


def test_a_pause_ends_at_once_when_the_work_is_stopped():
    began = time.monotonic()
    stopper = threading.Timer(0.2, cancel.stop_all)
    stopper.start()
    with pytest.raises(Stopped):
        pause(60)
    assert time.monotonic() - began < 10
    stopper.join()
    pause(0.01)


# what is said ------------------------------------------------------------------------------------

DONE = Transfer("/n/v0.1/a.h5", "a.h5", 1, 1, verified=True)
ERROR = Transfer("/n/v0.1/b.h5", "b.h5", 1, error="Nearline: on tape")


def report(*transfers, inspections=(), gaps=None, **about):
    begun = WatchReport.begun("20241114", Path("here"), Path("here/manifest.jsonl")).after_look()
    about = {"path": "/n/v0.1", "version": "v0.1", "n_done": 1, "is_complete": False, **about}
    return begun.having(transfers, inspections, gaps=gaps or Gaps(), **about)


def printed(watched):
    out = io.StringIO()
    Console(file=out, width=120).print(watched)
    return out.getvalue()


@pytest.mark.parametrize(
    ("watched", "state"),
    [
        (WatchReport.begun("20241114", Path("here"), Path("m")).after_look(), "absent"),
        (report(), "open"),
        (report(is_complete=True), "complete"),
        (report(gaps=Gaps(("Run11111.0003",))), "incomplete"),
        (report(gaps=Gaps(("Run11111.0003",), ("b.h5",))), "growing"),
        (report(DONE, ERROR), "incomplete"),
    ],
)
def test_how_a_night_stands(watched, state):
    assert watched.state == state
    assert watched.to_dict()["state"] == state
    assert "20241114" in watched.verdict()
    text = printed(watched)
    assert watched.verdict() in " ".join(text.split())
    assert ("missing" in text) == bool(watched.night.gaps.missing)
    assert ("growing" in text) == bool(watched.night.gaps.growing)


def test_what_came_later_has_not_failed():
    first = report(DONE, ERROR)
    assert first.failed == ("/n/v0.1/b.h5: Nearline: on tape",)
    assert "1 new, 1 here in all, 1 failed, 1 look" in first.verdict()
    b = Transfer("/n/v0.1/b.h5", "b.h5", 1, 1, verified=True)
    then = first.after_look().having(
        [b], [Inspection("a.h5", error="NotHDF5: it is text")],
        gaps=Gaps(), path="/n/v0.1", version="v0.1", n_done=2,
    )  # fmt: skip
    assert [r["path"] for r in then.records()] == [DONE.path, b.path]
    assert then.failed == ("/n/v0.1/a.h5: NotHDF5: it is text",)
    assert "2 looks" in then.verdict()


def test_what_is_noted_after_a_line_that_was_cut_counts(tmp_path):
    WatchStateFile(tmp_path).look([A], NOW)
    with (tmp_path / MEMORY).open("ab") as stream:
        stream.write(b'{"path": "/cta')  # as a kill, or a full disk, leaves it
    WatchStateFile(tmp_path).done([A.path])
    assert WatchStateFile(tmp_path).memory.sightings[A.path].is_done


def test_a_pipe_in_its_place_is_left_alone(tmp_path):
    os.mkfifo(tmp_path / MEMORY)
    with pytest.raises(UsageError, match="Something else lies"):
        WatchStateFile(tmp_path).look([A], NOW)
    assert stat.S_ISFIFO((tmp_path / MEMORY).stat().st_mode)
