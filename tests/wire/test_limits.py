"""A process that may open no more files, or start no more threads."""

from __future__ import annotations

import contextlib
import os
import resource
from typing import TYPE_CHECKING

import pytest

from ctaflows.auth.renewal import TokenProvider
from ctaflows.errors import UsageError
from ctaflows.storage.webdav import WebDAVStorage

if TYPE_CHECKING:
    from collections.abc import Iterator

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


@pytest.mark.parametrize("n_files", [0, 1, 2])
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


class Ignored:
    """Takes in a body, for which nobody waits."""

    def begin(self, head: Head) -> None:
        """Do nothing."""

    def take(self, pieces: list[bytes]) -> None:
        """Do nothing."""
