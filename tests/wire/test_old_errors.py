"""An error in the manifest is over once the file is there, also where nothing can verify it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from commands import ok, run

from ctaflows.sandbox import Quirks, Sandbox

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_file_that_was_fetched_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Sandbox(tmp_path / "box", quirks=Quirks(no_checksums=True)) as box:
        monkeypatch.setenv("CTAFLOWS_CONFIG_DIR", str(box.config_dir))
        monkeypatch.chdir(tmp_path)
        for name in ("a.h5", "b.h5"):
            box.put(f"/n/{name}", b"x")
        box.faults.add("403", times=None, method="GET", path="*a.h5*")
        assert run("get", "-r", "n", ".").returncode == 10
        box.faults.clear()
        ok("get", "n/a.h5", "n/")
        ok("get", "-r", "n", ".")
        lines = [json.loads(line) for line in (tmp_path / "n/manifest.jsonl").open()]
        (last,) = [line for line in lines if line["path"] == "/n/a.h5"][-1:]
        assert last["error"] is None
        assert run("verify", "n").returncode == 0
