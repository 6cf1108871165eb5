"""A door as our client sees the sandbox."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ctaflows.auth.keeper import Keeper
from ctaflows.storage.door import Door

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ctaflows.sandbox import Sandbox


@pytest.fixture(params=["libcurl", "httpx"])
def door(box: Sandbox, request: pytest.FixtureRequest) -> Iterator[Door]:
    """The same rules hold whichever library carries the bytes."""
    settings = box.settings(fast_bytes=request.param == "libcurl")
    with Door(settings, Keeper(settings)) as door:
        yield door
