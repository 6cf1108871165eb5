"""Logins and token requests at an issuer, for several tests."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ctaflows.auth.oidc import log_in
from ctaflows.auth.store import Store, TokenSet

if TYPE_CHECKING:
    from collections.abc import Callable

    from ctaflows.auth.oidc import DeviceLogin
    from ctaflows.sandbox import Sandbox
    from ctaflows.sandbox.messages import Seen

TOKEN = "*/token"


class FakeTime:
    """A clock that advances only in pauses, and what happens in them."""

    def __init__(self, **hooks: Callable[[], object]) -> None:
        self.now = 1000.0
        self.pauses: list[float] = []
        self.hooks = {int(key[1:]): hook for key, hook in hooks.items()}

    def pause(self, seconds: float) -> None:
        assert seconds >= 0
        self.pauses.append(seconds)
        self.now += seconds
        self.hooks.pop(len(self.pauses), lambda: None)()

    def clock(self) -> float:
        return self.now


class Shown:
    """Records the logins that are shown to a user."""

    login: DeviceLogin

    def __call__(self, login: DeviceLogin) -> None:
        self.login = login


def grants(box: Sandbox) -> list[Seen]:
    return [r for r in box.requests if r.server == "issuer" and r.path.endswith("/token")]


def asked(box: Sandbox) -> int:
    return sum(r.server == "issuer" for r in box.requests)


def age(box: Sandbox, *, left_s: float) -> TokenSet:
    """Set the remaining lifetime of the stored token, in seconds."""
    store = Store(box.settings())
    tokens = store.read()
    assert tokens is not None
    assert tokens.expires_in is not None
    aged = replace(tokens, obtained_at=time.time() - tokens.expires_in + left_s)
    store.write(aged)
    return aged


def stored(box: Sandbox) -> TokenSet:
    tokens = Store(box.settings()).read()
    assert tokens is not None
    return tokens


def login(box: Sandbox, time_: FakeTime, shown: Shown, **changes: Any) -> TokenSet:
    return log_in(box.settings(**changes), shown, pause=time_.pause, clock=time_.clock)
