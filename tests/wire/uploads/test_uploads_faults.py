"""What goes wrong at the door while many files go up is tried again, and leaves nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from uploading import CONTENT, N, assert_right, send, there

from ctaflows.auth.renewal import TokenProvider
from ctaflows.errors import TokenMissing
from ctaflows.storage.webdav import WebDAVStorage
from ctaflows.transfer import uploads

if TYPE_CHECKING:
    from pathlib import Path

    from ctaflows.sandbox import Sandbox


@pytest.mark.parametrize(
    ("fault", "method", "server"),
    [
        ("503", "PUT", "door"),
        ("503", "PUT", "pool"),
        ("500", "PUT", "pool"),
        ("429", "PUT", "door"),
        ("401", "PUT", "door"),
        ("reset", "PUT", "pool"),
        ("lost", "PUT", "pool"),
        ("truncate", "PUT", "pool"),
        ("html", "PUT", "pool"),
        ("redirect_elsewhere", "PUT", "door"),
        ("401", "MOVE", "door"),
        ("500", "MOVE", "door"),
        ("503", "MOVE", "door"),
        ("reset", "MOVE", "door"),
        ("lost", "MOVE", "door"),
        ("bad_digest", "PUT", "pool"),
    ],
)
def test_what_goes_wrong_once(
    box: Sandbox, door: WebDAVStorage, pairs: list[tuple[Path, str]],
    fault: str, method: str, server: str,
) -> None:  # fmt: skip
    box.faults.add(fault, times=1, path="*/.07.h5.*", server=server, method=method)
    report = send(door, pairs)
    assert_right(box, report)
    assert len(box.faults) == 0, "it happened"
    retried = {t.path.rpartition("/")[2] for t in report.transfers if t.retries}
    # what was moved is not sent again, and what had no effect is no new upload
    expected = {"07.h5"} if method == "PUT" and fault not in ("401", "429") else set()
    if fault in ("reset", "lost"):  # libcurl repeats it where the connection was a kept one
        assert retried <= expected
    else:
        assert retried == expected


@pytest.mark.parametrize("fault", ["500", "reset", "no_digest"])
def test_what_goes_wrong_once_when_it_is_compared(
    box: Sandbox,
    door: WebDAVStorage,
    pairs: list[tuple[Path, str]],
    fault: str,
) -> None:
    box.faults.add("no_digest", times=1, path="*/.07.h5.*", server="pool", method="PUT")
    box.faults.add(fault, times=1, path="*/.07.h5.*", server="door", method="HEAD")
    assert_right(box, send(door, pairs))
    assert len(box.faults) == 0


@pytest.mark.parametrize(
    ("fault", "method"),
    [
        ("403", "PUT"), ("507", "PUT"), ("reset", "PUT"), ("redirect_http", "PUT"),
        ("redirect_loop", "PUT"), ("507", "MOVE"), ("500", "MOVE"), ("bad_digest", "PUT"),
    ],
)  # fmt: skip
def test_what_stays_wrong_leaves_nothing(
    box: Sandbox, pairs: list[tuple[Path, str]], fault: str, method: str
) -> None:
    settings = box.settings(attempts=2, backoff_s=0.01)
    box.faults.add(fault, times=None, path="*/.07.h5.*", method=method)
    with WebDAVStorage(settings, TokenProvider(settings)) as door:
        report = send(door, pairs)
    assert [t.path for t in report.failed] == ["/up/n/07.h5"]
    assert there(box) == {n: data for n, data in CONTENT.items() if n != "07.h5"}
    if fault == "redirect_http":
        assert "https to http" in (report.failed[0].error or "")


def test_a_token_that_may_not_move(
    box: Sandbox, door: WebDAVStorage, pairs: list[tuple[Path, str]]
) -> None:
    """The files go straight to their names, and those after the first ones without a detour."""
    box.faults.add("403", times=None, method="MOVE")
    assert_right(box, send(door, pairs))
    last = [r for r in box.requests if r.method == "PUT" and "/23.h5" in r.path]
    assert [r.headers.get("if-none-match") for r in last if r.server == "door"] == ["*"]
    assert not [r for r in box.requests if r.method == "PUT" and "/.23.h5" in r.path]


IN_PLACE = "it is there already"


@pytest.mark.parametrize("by", ["another", "ours"])
def test_what_comes_between_the_listing_and_the_move(
    box: Sandbox, door: WebDAVStorage, pairs: list[tuple[Path, str]],
    monkeypatch: pytest.MonkeyPatch, by: str,
) -> None:  # fmt: skip
    """Somebody else's file is not replaced; the same file is there already."""
    real = uploads.look_there
    theirs = b"theirs" if by == "another" else CONTENT["07.h5"]

    def look(*args: Any, **how: Any) -> Any:
        found = real(*args, **how)
        box.put("/up/n/07.h5", theirs)
        return found

    monkeypatch.setattr(uploads, "look_there", look)
    report = send(door, pairs)
    if by == "ours":
        assert not report.failed
        assert [(t.path, t.note) for t in report.skipped] == [("/up/n/07.h5", IN_PLACE)]
    else:
        assert [t.path for t in report.failed] == ["/up/n/07.h5"]
        said = report.failed[0].error or ""
        assert said.startswith("AlreadyExists: The target is there already")
    assert there(box) == CONTENT | {"07.h5": theirs}


def test_without_a_token_it_is_said_once(
    box: Sandbox, pairs: list[tuple[Path, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = {remote: None for _, remote in pairs}
    monkeypatch.setattr(uploads, "look_there", lambda *_, **__: seen)
    with (
        WebDAVStorage(box.settings(), _NoToken()) as door,
        pytest.raises(TokenMissing, match="nobody logged in"),
    ):
        uploads.upload_many(door, pairs)


class _NoToken:
    def token(self) -> str:
        raise TokenMissing("nobody logged in")

    def renew(self, rejected: str) -> None:
        """Give none."""


def test_a_pool_that_takes_nothing_is_left_alone(
    box: Sandbox, pairs: list[tuple[Path, str]]
) -> None:
    """Each upload that it lets hang takes one of its threads from those who read."""
    box.fill_pool(free_bytes=100, gap_bytes=50)
    settings = box.settings(stall_timeout_s=1.0, transfers=2)
    with WebDAVStorage(settings, TokenProvider(settings)) as door:
        report = uploads.upload_many(door, pairs[3:])
    assert len(report.failed) == N - 3
    errors = [t.error or "" for t in report.transfers]
    assert all("it may be full" in error for error in errors)
    assert sum("Not begun" in error for error in errors) >= N - 3 - 2
    assert len([r for r in box.requests if r.method == "PUT" and r.server == "pool"]) <= 3
    assert there(box) == {}
