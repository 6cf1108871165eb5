"""A door without checksums: a sum of our own is taken where it is kept, and nowhere else."""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from ctaflows.cli.app import cli
from ctaflows.sandbox import Quirks, Sandbox
from ctaflows.storage import checksum as sums
from ctaflows.tasks import fetch_file
from ctaflows.transfer import part

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DATA = os.urandom(3 << 20)
SHA256 = f"sha256:{hashlib.sha256(DATA).hexdigest()}"


@pytest.fixture
def box() -> Iterator[Sandbox]:
    with Sandbox(quirks=Quirks(no_checksums=True)) as sandbox:
        sandbox.put("/n/x.h5", DATA)
        yield sandbox


@pytest.fixture(params=["in one piece", "in ranges"])
def hashed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The algorithms of the sums that were begun."""
    if request.param == "in ranges":
        monkeypatch.setattr("ctaflows.transfer.part.RANGES_FROM_BYTES", 1 << 20)
        monkeypatch.setattr(part, "_LEAST_RANGE_BYTES", 1 << 19)
    updated: list[str] = []
    real = sums.Hasher.update

    def noted(self: Any, data: Any) -> None:
        updated.append(self.checksum().algorithm)
        real(self, data)

    monkeypatch.setattr(sums.Hasher, "update", noted)
    return updated


def get(*words: str) -> str:
    done = CliRunner().invoke(cli, ["get", *words])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_nobody_keeps_it(here: Path, hashed: list[str]) -> None:
    assert get("n/x.h5", ".").startswith("unverified")
    assert (here / "x.h5").read_bytes() == DATA
    assert hashed == []


def test_json_tells_it(here: Path, hashed: list[str]) -> None:
    [told] = json.loads(get("--json", "n/x.h5", "."))
    assert told["checksum"] == SHA256
    assert not told["verified"]
    assert set(hashed) == {"sha256"}


def test_a_manifest_keeps_it(here: Path, hashed: list[str]) -> None:
    get("-r", "n", ".")
    [line] = (here / "n/manifest.jsonl").read_text().splitlines()
    assert json.loads(line)["checksum"] == SHA256


def test_a_call_returns_it(here: Path, hashed: list[str]) -> None:
    done = fetch_file("n/x.h5", here / "x.h5")
    assert str(done.checksum) == SHA256


def test_what_the_storage_promises_is_always_compared(
    here: Path, hashed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Sandbox() as other:
        other.put("/n/x.h5", DATA)
        other.faults.add("flip", times=None, path="*/x.h5", server="pool")
        monkeypatch.setenv("CTAFLOWS_CONFIG_DIR", str(other.config_dir))
        done = CliRunner().invoke(cli, ["get", "n/x.h5", "."])
    assert done.exit_code != 0
    assert not (here / "x.h5").exists()
