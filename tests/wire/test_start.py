"""What a command loads before it does anything: a start costs more than a small listing."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from ctaflows.auth.renewal import TokenProvider

if TYPE_CHECKING:
    from pathlib import Path

    from ctaflows.sandbox import Sandbox


@pytest.mark.parametrize("words", [["ls", "d"], ["ls", "-r", "d"], ["get", "-q", "d/a.h5", "."]])
def test_the_library_for_the_issuer_is_not_loaded(
    box: Sandbox, here: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    box.put("/d/a.h5", b"x")
    monkeypatch.setenv("BEARER_TOKEN", TokenProvider(box.settings()).token())
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "ctaflows", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "ctaflows.storage.listing" in loaded
    assert not loaded & {"httpx", "ssl", "http.client", "email.utils", "prefect"}
