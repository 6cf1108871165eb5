"""docs/contract.md tells the ways of the servers that these tests start."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import targets
from ways import columns_of, table

if TYPE_CHECKING:
    from targets import Target
    from ways import Ways

PAGE = Path(__file__).parents[2] / "docs" / "contract.md"
HEADING = "## Servers side by side"
REAL = "\n## Real doors"


def test_the_page_tells_the_ways(target: Target, ways: Ways) -> None:
    """CTAFLOWS_TEST_WRITE_WAYS=1 writes the storage's column anew."""
    before, heading, after = PAGE.read_text().partition(HEADING)
    after, real, rest = after.partition(REAL)
    rows = [line for line in after.splitlines() if line.startswith("|")]
    columns, here = columns_of(rows), ways.cells()
    if targets.WRITES_PAGE:
        text = after.partition("\n|")[0]
        lines = table({**columns, target.name: here})
        PAGE.write_text("\n".join([before + heading + text, *lines, ""]) + real + rest)
    elif target.name != "door":
        there = columns[target.name]
        if target.name in targets.SERVERS and there["Server"] != here["Server"]:
            pytest.skip(f"the page tells of {there['Server']}, this is {here['Server']}")
        assert here == there
