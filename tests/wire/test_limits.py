"""A process that may open no more files, or start no more threads."""

from __future__ import annotations

import contextlib
import os
import resource
from typing import TYPE_CHECKING

import pytest
from ctaflows.transfer.fetch import Job, fetch

from ctaflows import thread_pool
from ctaflows.auth.renewal import TokenProvider
from ctaflows.errors import UsageError
from ctaflows.storage.webdav import WebDAVStorage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ctaflows.sandbox import Sandbox
    from ctaflows.transport import Head


@contextlib.contextmanager
def files_left(n_files: int) -> Iterator[None]:
    """Let this process open so many more files within the block."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(n_files + 1)]
    for descriptor in opened:
        os.close(descriptor)
    resource.setrlimit(resource.RLIMIT_NOFILE, (opened[-1], hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("n_files", [1, 2])
@pytest.mark.parametrize("fast_bytes", [True, False])
def test_a_connection_for_which_no_file_can_be_opened_is_not_tried_again(
    box: Sandbox, caplog: pytest.LogCaptureFixture, n_files: int, *, fast_bytes: bool
) -> None:
    (box.storage / "a.h5").write_bytes(b"x" * 10)
    settings = box.settings(attempts=3, fast_bytes=fast_bytes)
    with (
        WebDAVStorage(settings, TokenProvider(settings)) as door,
        files_left(n_files),
        pytest.raises(UsageError, match="Too many open files") as caught,
    ):
        door.receive("/a.h5", Ignored())
    assert "ulimit" in (caught.value.hint or "")
    assert "trying again" not in caplog.text


@pytest.mark.parametrize("n_threads", [0, 1])
def test_a_large_file_comes_in_as_many_threads_as_there_may_be(
    box: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_threads: int
) -> None:
    left, begin = iter(range(n_threads)), thread_pool.Worker.start

    def start(thread: thread_pool.Worker) -> None:
        if next(left, None) is None:
            raise RuntimeError("can't start new thread")
        begin(thread)

    monkeypatch.setattr(thread_pool.Worker, "start", start)
    monkeypatch.setattr("ctaflows.transfer.fetch.RANGES_FROM_BYTES", 1 << 20)
    data = os.urandom(3 << 20)
    box.put("/a.h5", data)
    settings = box.settings()
    with WebDAVStorage(settings, TokenProvider(settings)) as door:
        done = fetch(door, Job(door.stat("/a.h5"), tmp_path / "a.h5"))
        assert door.transfer_slots._value == settings.transfers  # all are free
    assert done.verified
    assert (tmp_path / "a.h5").read_bytes() == data


class Ignored:
    """Takes in a body, for which nobody waits."""

    def begin(self, head: Head) -> None:
        """Do nothing."""

    def take(self, pieces: list[bytes]) -> None:
        """Do nothing."""
