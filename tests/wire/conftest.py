"""A door as our client sees the sandbox."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ctaflows.auth.keeper import Keeper
from ctaflows.storage.door import Door

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ctaflows.sandbox import Sandbox


@pytest.fixture
def door(box: Sandbox) -> Iterator[Door]:
    settings = box.settings()
    with Door(settings, Keeper(settings)) as door:
        yield door
