"""Whom we talk to, and whose clock counts."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from ctaflows.auth.keeper import Keeper
from ctaflows.auth.login import log_in
from ctaflows.auth.oidc import Issuer
from ctaflows.auth.store import Store
from ctaflows.auth.token import claims
from ctaflows.errors import (
    AuthError,
    CtaflowsError,
    ProtocolSurprise,
)
from ctaflows.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable


from exchanges import FakeTime, Shown, age, asked, login, stored


@pytest.mark.parametrize(
    "named", ["https://localhost:1/realms/sandbox", "", None, 5, "{url}/other", "http{rest}"]
)
def test_another_issuer_in_the_discovery_is_refused(
    box: Sandbox, rewrite: Callable[..., None], named: object
) -> None:
    if isinstance(named, str):
        named = named.format(url=box.issuer_url, rest=box.issuer_url.removeprefix("https"))
    rewrite("/openid-configuration", lambda values: values.update(issuer=named))
    age(box, left_s=-1)
    with pytest.raises(ProtocolSurprise, match="another issuer"):
        Keeper(box.settings()).token()
    with pytest.raises(ProtocolSurprise, match="another issuer"):
        login(box, FakeTime(), Shown())
    assert all(r.method == "GET" for r in box.requests), "it is told no secret"


@pytest.mark.parametrize("key", ["token_endpoint", "device_authorization_endpoint"])
@pytest.mark.parametrize("scheme", ["http:", "ftp:", "file:", ""])
def test_an_endpoint_without_tls_is_refused(
    box: Sandbox, rewrite: Callable[..., None], key: str, scheme: str
) -> None:
    rewrite(
        "/openid-configuration",
        lambda values: values.update({key: values[key].replace("https:", scheme)}),
    )
    age(box, left_s=-1)
    calls: dict[str, Callable[[], object]] = {
        "token_endpoint": Keeper(box.settings()).token,
        "device_authorization_endpoint": lambda: login(box, FakeTime(), Shown()),
    }
    with pytest.raises(CtaflowsError):
        calls[key]()
    assert all(r.method == "GET" for r in box.requests), "it is told no secret"


def test_a_slash_at_the_end_of_the_issuer_is_no_other_issuer(
    box: Sandbox, rewrite: Callable[..., None]
) -> None:
    age(box, left_s=-1)
    assert Keeper(box.settings(issuer_url=box.issuer_url + "/")).token()
    rewrite("/openid-configuration", lambda values: values.update(issuer=box.issuer_url + "/"))
    assert Keeper(box.settings()).refresh()


def test_an_unknown_ca_is_refused(box: Sandbox, patient: list[bool]) -> None:
    age(box, left_s=-1)
    with Sandbox() as other:
        settings = box.settings(ca_file=other.ca_file)
        for call in (
            lambda: Keeper(settings).token(),
            lambda: log_in(settings, Shown(), pause=lambda _: None),
        ):
            with pytest.raises(CtaflowsError, match="certificate is not one we trust") as why:
                call()
            assert not why.value.retryable, "it is said at once"
    assert not asked(box), "it is told nothing"


def test_a_redirect_is_not_followed_with_the_secret(box: Sandbox) -> None:
    age(box, left_s=-1)
    for name in ("redirect_elsewhere", "redirect_http"):
        box.faults.add(name, server="issuer", times=None)
        with pytest.raises(CtaflowsError):
            Keeper(box.settings()).token()
        box.faults.clear()
    assert not [r for r in box.requests if r.method == "POST"]


@pytest.mark.parametrize("skew_s", [-86400, 86400])
def test_life_is_counted_from_receipt_not_by_exp(
    box: Sandbox, monkeypatch: pytest.MonkeyPatch, skew_s: float
) -> None:
    """The issuer's clock is a day off: exp says nothing here."""
    real = box._tokens.access
    monkeypatch.setattr(box._tokens, "access", lambda **kw: real(lifetime_s=3600 + skew_s, **kw))
    keeper = Keeper(box.settings())
    keeper.refresh()
    box.requests.clear()
    assert abs(claims(stored(box).access_token)["exp"] - time.time() - 3600 - skew_s) < 10
    assert keeper.token() == stored(box).access_token
    assert asked(box) == 0, "it is not short"
    assert 3590 < (keeper.stored_info().expires_in_s or 0) <= 3600
    old = age(box, left_s=30)
    assert keeper.token() != old.access_token, "it is short, whatever exp says"


def test_a_clock_that_was_put_back_does_not_make_a_token_live_longer(box: Sandbox) -> None:
    """Obtained while the clock was a day ahead: what remains can't be more than its life."""
    tokens = replace(stored(box), obtained_at=time.time() + 86400)
    assert tokens.remaining_s() <= (tokens.expires_in or 0)
    Store(box.settings()).write(tokens)
    # nobody knows how old it is: it is renewed
    assert Keeper(box.settings()).token() != tokens.access_token


def test_a_token_without_a_known_end_is_used_until_it_is_refused(
    box: Sandbox, rewrite: Callable[..., None]
) -> None:
    rewrite("/token", lambda values: values.pop("expires_in"))
    keeper = Keeper(box.settings())
    keeper.refresh()
    box.requests.clear()
    token = keeper.token()
    assert keeper.store.read() is not None
    assert asked(box) == 0
    newer = keeper.renew(token)
    assert newer not in (None, token)


@pytest.mark.parametrize(
    "answer", [{"access_token": ""}, {"access_token": None}, {"access_token": 5}]
)
def test_an_answer_without_a_token(
    box: Sandbox, rewrite: Callable[..., None], answer: dict[str, Any]
) -> None:
    rewrite("/token", lambda values: values.update(answer))
    old = age(box, left_s=30)
    with pytest.raises(CtaflowsError):
        Keeper(box.settings()).refresh()
    assert stored(box).access_token == old.access_token


@pytest.mark.parametrize("bad", ["two\nlines", "a b", "ä", "x\r\nInjected: 1"])
def test_a_token_that_is_none_is_not_stored(
    box: Sandbox, rewrite: Callable[..., None], bad: str
) -> None:
    rewrite("/token", lambda values: values.update(access_token=bad))
    old = age(box, left_s=30)
    with pytest.raises(CtaflowsError):
        Keeper(box.settings()).refresh()
    assert stored(box).access_token == old.access_token


def test_a_revocation_that_the_issuer_does_not_offer(
    box: Sandbox, rewrite: Callable[..., None]
) -> None:
    rewrite("/openid-configuration", lambda values: values.pop("revocation_endpoint"))
    with Issuer(box.settings()) as issuer:
        assert issuer.revoke("x") is False


def test_an_issuer_without_device_login(box: Sandbox, rewrite: Callable[..., None]) -> None:
    rewrite("/openid-configuration", lambda v: v.pop("device_authorization_endpoint"))
    with pytest.raises(AuthError, match="no device login"):
        login(box, FakeTime(), Shown())


def test_the_audience_is_asked_for_where_one_is_set(box: Sandbox) -> None:
    bodies: list[str] = []
    settings = box.settings(audience="https://door.example.org")
    with Issuer(settings) as issuer:
        request = issuer._transport.request

        def watched(method: str, url: str, **how: Any) -> Any:
            bodies.append((how.get("content") or b"").decode())
            return request(method, url, **how)

        issuer._transport.request = watched
        issuer.begin_login()
        issuer.refresh(box.tokens()["refresh_token"])
    assert sum("audience=https%3A%2F%2Fdoor.example.org" in body for body in bodies) == 2
