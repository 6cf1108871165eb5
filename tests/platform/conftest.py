"""Fixtures: a JupyterHub with a user, and the environment of a session on the platform."""

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
    """Hide the JupyterHub of the user who runs the tests."""
    for name in ("CTADS_URL", "CTACS_URL", "CTACS_ALLOWED_CERT_KEYS", "JUPYTERHUB_API_TOKEN"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def hub(box: Sandbox, here: Path) -> Iterator[Hub]:
    """A hub with the files of the sandbox, and no user yet."""
    with Hub(box) as hub:
        yield hub


@pytest.fixture
def token(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> str:
    """The token of a user, with the environment of this user's session."""
    token = hub.add_user(USER)
    for name, value in hub.environment(token).items():
        monkeypatch.setenv(name, value)
    return token
