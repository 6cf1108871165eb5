"""What inspections.jsonl keeps of checks, and data compared with a datacheck that came later."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from nightkit import datacheck, subrun

from ctaflows.dl1.quality.checks import check, remarks
from ctaflows.dl1.report.inspection_cache import NAME, InspectionCache
from ctaflows.model import Checksum, Transfer

if TYPE_CHECKING:
    from pathlib import Path

    from ctaflows.dl1.quality.checks import Inspection


def here(folder: Path, one: Inspection, **changes: object) -> tuple[Inspection, Transfer]:
    """Give it as it comes from a batch, with its proof."""
    assert one.summary is not None
    local = f"{folder}/{one.file.rpartition('/')[2]}"
    summary = dataclasses.replace(one.summary, file=local, **changes)
    looked = dataclasses.replace(one, file=local, summary=summary, checks=check(summary))
    return looked, Transfer(f"/n/{one.file}", local, 10)


def test_good_checks_are_not_kept_and_the_verdict_stays(tmp_path: Path) -> None:
    looked, transfer = here(tmp_path, subrun())
    assert len(looked.checks) > 20
    InspectionCache(tmp_path).add([looked], [transfer])
    (line,) = (tmp_path / NAME).read_text().splitlines()
    kept = {c["name"]: c["verdict"] for c in json.loads(line)["checks"]}
    assert kept.pop("readable") == "ok"
    assert set(kept.values()) <= {"warn", "bad"}
    (again,) = InspectionCache(tmp_path).of([transfer])
    assert again.verdict == looked.verdict
    assert remarks(again.checks) == remarks(looked.checks)


def test_a_datacheck_of_another_batch_is_compared(tmp_path: Path) -> None:
    data, transfer = here(tmp_path, subrun())
    assert data.summary is not None
    few = {"n_events": (data.summary.n_events or 0) - 5}
    checked, of_checked = here(tmp_path, datacheck(), **few)
    known = InspectionCache(tmp_path)
    known.add([data], [transfer])
    assert not any("datacheck_events" in line for line in remarks(known.of([transfer])[0].checks))
    known.add([checked], [of_checked])
    for some in (known, InspectionCache(tmp_path)):
        found = some.of([transfer, of_checked])
        assert any("datacheck_events 5" in line for line in remarks(found[0].checks))
        assert found[0].verdict == "bad"


NOON = datetime(2024, 11, 15, 12, tzinfo=UTC)
ADLER = Checksum("adler32", "0000000a")


@pytest.mark.parametrize(
    ("change", "is_known"),
    [
        ({}, True),
        ({"checksum": None}, True),
        ({"mtime": None}, True),
        ({"checksum": Checksum("md5", "aa")}, True),
        ({"checksum": Checksum("adler32", "0000000b")}, False),
        ({"mtime": NOON.replace(hour=13)}, False),
        ({"size_bytes": 11}, False),
    ],
    ids=str,
)
def test_a_line_counts_for_the_file_that_was_looked_into(
    tmp_path: Path, change: dict[str, object], is_known: bool
) -> None:
    looked, transfer = here(tmp_path, subrun())
    before = dataclasses.replace(transfer, mtime=NOON, checksum=ADLER)
    InspectionCache(tmp_path).add([looked], [before])
    now = dataclasses.replace(before, **change)  # type: ignore[arg-type]
    assert bool(InspectionCache(tmp_path).of([now])) is is_known
    assert InspectionCache(tmp_path).unknown([now]) == ([] if is_known else [now.local])
