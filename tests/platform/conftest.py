"""A hub with a user, as the environment of a session on the platform has it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ctaflows.sandbox.hub import Hub

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ctaflows.sandbox import Sandbox

USER = "Jane.Doe2@example.org"


@pytest.fixture(autouse=True)
def no_platform(own_environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test see the hub of who runs it."""
    for name in ("CTADS_URL", "CTACS_URL", "CTACS_ALLOWED_CERT_KEYS", "JUPYTERHUB_API_TOKEN"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def hub(box: Sandbox, here: Path) -> Iterator[Hub]:
    """A hub on the files of the box; nobody is known to it yet."""
    with Hub(box) as hub:
        yield hub


@pytest.fixture
def token(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> str:
    """Somebody is known, and the environment says who and where."""
    token = hub.add_user(USER)
    for name, value in hub.environment(token).items():
        monkeypatch.setenv(name, value)
    return token
