"""Fixtures: a sandbox, and a client of its door."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ctaflows.auth.renewal import TokenProvider
from ctaflows.sandbox import Quirks, Sandbox
from ctaflows.sandbox import issuer as issuer_module
from ctaflows.sandbox.tokens import DeviceGrant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


from typing import TYPE_CHECKING

import pytest
from talk import DATA, PATH, Talker

from ctaflows.storage.webdav import WebDAVStorage

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(params=["libcurl"])
def door(box: Sandbox, request: pytest.FixtureRequest) -> Iterator[WebDAVStorage]:
    """A storage client, over each transport library."""
    settings = box.settings(fast_bytes=request.param == "libcurl", attempts=5)
    with WebDAVStorage(settings, TokenProvider(settings)) as door:
        yield door


@pytest.fixture
def make():
    """Return a sandbox with quirks and faults, and a plain HTTP client for it."""
    boxes = []

    def made(*faults, **quirks):
        details = {k: quirks.pop(k) for k in ("token_lifetime_s", "host") if k in quirks}
        box = Sandbox(quirks=Quirks(**quirks), faults=faults, **details)
        boxes.append(box)
        box.put(PATH, DATA)
        return Talker(box)

    yield made
    for box in boxes:
        box.close()


@pytest.fixture
def rewrite(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Callable[[dict], object]], None]:
    """Change the issuer's JSON answers before they are sent."""
    real = issuer_module.call_wsgi
    changes: list[tuple[str, Callable[[dict], object]]] = []

    def call(application: Any, environ: dict[str, Any]) -> Any:
        response = real(application, environ)
        for suffix, change in changes:
            if environ["PATH_INFO"].endswith(suffix) and response.status == 200:
                values = json.loads(response.body)
                change(values)
                response.body = json.dumps(values).encode()
        return response

    monkeypatch.setattr(issuer_module, "call_wsgi", call)
    return lambda suffix, change: changes.append((suffix, change))


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Make the sandbox answer slow_down where a list holds True, whatever the time."""
    script: list[bool] = []
    monkeypatch.setattr(
        DeviceGrant, "should_slow_down", lambda _self, _login: script.pop(0) if script else False
    )
    return script
