from __future__ import annotations
from ways import Ways


def test_ways(ways: Ways) -> None:
    assert ways.server
