"""Whom we talk to, and whose clock counts."""

from __future__ import annotations

import base64
import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from ctaflows import settings as settings_module
from ctaflows.auth import secret
from ctaflows.auth.oidc import Issuer, log_in
from ctaflows.auth.renewal import TokenProvider
from ctaflows.auth.store import Store
from ctaflows.auth.tokens import claims
from ctaflows.errors import (
    AuthError,
    CtaflowsError,
    LoginNeeded,
    ProtocolSurprise,
    Refused,
)
from ctaflows.sandbox import Quirks, Sandbox
from ctaflows.storage.webdav import WebDAVStorage
from ctaflows.transport import Transport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ctaflows.settings import Settings


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
        TokenProvider(box.settings()).token()
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
        "token_endpoint": TokenProvider(box.settings()).token,
        "device_authorization_endpoint": lambda: login(box, FakeTime(), Shown()),
    }
    with pytest.raises(CtaflowsError):
        calls[key]()
    assert all(r.method == "GET" for r in box.requests), "it is told no secret"


def test_a_slash_at_the_end_of_the_issuer_is_no_other_issuer(
    box: Sandbox, rewrite: Callable[..., None]
) -> None:
    age(box, left_s=-1)
    assert TokenProvider(box.settings(issuer_url=box.issuer_url + "/")).token()
    rewrite("/openid-configuration", lambda values: values.update(issuer=box.issuer_url + "/"))
    assert TokenProvider(box.settings()).refresh()


@pytest.fixture
def other() -> Iterator[Sandbox]:
    """Another issuer."""
    with Sandbox() as sandbox:
        yield sandbox


def attempts(settings: Settings) -> dict[str, Callable[[], object]]:
    """All that would send the refresh token."""
    provider = TokenProvider(settings)
    return {
        "token": provider.token,
        "warm": lambda: provider.ensure_valid(60, quiet=False),
        "refresh": provider.refresh,
    }


@pytest.mark.parametrize("is_noted", [True, False], ids=["noted", "claimed"])
@pytest.mark.parametrize("what", ["token", "warm", "refresh"])
def test_a_login_of_one_issuer_is_not_sent_to_another(
    box: Sandbox, other: Sandbox, what: str, is_noted: bool
) -> None:
    """A file of 0.1.0 has no note of the issuer, but the access token may claim it."""
    if is_noted:
        TokenProvider(box.settings()).refresh()
    old = age(box, left_s=-1)
    settings = other.settings(config_dir=box.config_dir)
    with pytest.raises(AuthError, match="belongs to") as why:
        attempts(settings)[what]()
    assert not isinstance(why.value, LoginNeeded)
    assert box.issuer_url in str(why.value)
    assert other.issuer_url in str(why.value)
    assert "CTAFLOWS_ISSUER_URL" in (why.value.hint or "")
    assert TokenProvider(settings).renew(old.access_token) is None
    assert not TokenProvider(settings).stored_info().refreshable
    assert stored(box) == old, "nothing is noted as refused"
    assert not asked(other)
    assert TokenProvider(box.settings(issuer_url=box.issuer_url + "/")).refresh().refreshable


def jwt(**said: str) -> str:
    body = base64.urlsafe_b64encode(json.dumps(said).encode()).decode().rstrip("=")
    return f"e30.{body}.c2ln"


@pytest.mark.parametrize("claim", [None, "azp", "client_id"])
def test_a_login_of_one_client_is_not_sent_by_another(box: Sandbox, claim: str | None) -> None:
    if claim is None:
        TokenProvider(box.settings()).refresh()
    else:
        token = jwt(**{claim: box.client_id})
        Store(box.settings()).write(replace(stored(box), access_token=token))
    old = age(box, left_s=-1)
    box.requests.clear()
    with pytest.raises(AuthError, match="belongs to") as why:
        TokenProvider(box.settings(client_id="another")).token()
    assert f"client {box.client_id}" in str(why.value)
    assert "client another" in str(why.value)
    assert stored(box) == old
    assert not asked(box)
    assert TokenProvider(box.settings()).info().client_id == box.client_id
    Store(box.settings()).write(replace(old, access_token="opaque", issuer=None, client_id=None))
    with pytest.raises(AuthError, match="invalid_client"):
        TokenProvider(box.settings(client_id="another")).token()  # where nothing tells, it is tried
    assert TokenProvider(box.settings()).token() != "opaque"


def test_a_logout_tells_no_other_issuer(box: Sandbox, other: Sandbox) -> None:
    settings = other.settings(config_dir=box.config_dir)
    assert TokenProvider(settings).log_out() is False
    assert not asked(other)
    assert Store(settings).read() is None


def test_a_kept_secret_is_not_sent_to_another_issuer(
    other: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Sandbox(quirks=Quirks(login_interval_s=0.05)) as box:
        provider = TokenProvider(box.settings(client_secret=None, client_secret_file=None))
        provider.log_in(
            lambda login: box.approve(login.user_code) and None, client_secret=box.client_secret
        )
        assert provider.refresh(), "it serves here"
        bodies: list[str] = []
        request = Transport.request

        def watched(self: Transport, method: str, url: str, **how: Any) -> Any:
            bodies.append((how.get("content") or b"").decode())
            return request(self, method, url, **how)

        monkeypatch.setattr(Transport, "request", watched)
        elsewhere = other.settings(
            config_dir=box.config_dir, client_secret=None, client_secret_file=None
        )
        with pytest.raises(AuthError, match="invalid_client"):
            TokenProvider(elsewhere).log_in(Shown())
        assert bodies[1:], "it was asked"
        assert not [body for body in bodies if box.client_secret in body]
        assert provider.refresh(), "it is kept for where it belongs"

        with Sandbox(quirks=Quirks(login_interval_s=0.05)) as third:
            theirs = third.settings(config_dir=box.config_dir, client_secret_file=None)
            TokenProvider(theirs).log_in(lambda login: third.approve(login.user_code) and None)
        assert secret.find(theirs.replace(client_secret=None)) is None, "its login is gone"


@pytest.mark.parametrize(("profile", "file"), [("cscs", "secret"), ("cscs-dev", "secret-dev")])
def test_a_secret_that_ctadata_keeps_is_for_its_issuer(
    box: Sandbox, tmp_path: Path, profile: str, file: str
) -> None:
    kept = tmp_path / "home/.config/cta-data" / file
    kept.parent.mkdir(parents=True)
    kept.write_text(base64.b64encode(b"theirs").decode())
    assert secret.find(settings_module.load(profile)) == "theirs"
    assert secret.find(settings_module.load(profile, issuer_url=box.issuer_url)) is None
    assert secret.find(settings_module.load(profile, client_id="another")) is None


@pytest.mark.parametrize("path", ["/openid-configuration", "/token"])
@pytest.mark.parametrize("status", [304, 404, 405, 409, 410, 416, 507])
def test_what_an_issuer_refuses_is_not_said_of_files(
    box: Sandbox, issuer_says: Callable[..., None], path: str, status: int
) -> None:
    age(box, left_s=-1)
    issuer_says(status, path)
    with pytest.raises(AuthError, match=f"The issuer {box.issuer_url} .*{status}") as why:
        TokenProvider(box.settings()).token()
    assert type(why.value) is AuthError
    assert "Check CTAFLOWS_ISSUER_URL" in (why.value.hint or "")
    assert asked(box) <= 2, "it is said at once"
    assert stored(box).refused is None


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_without_a_reason_of_oauth(
    box: Sandbox, issuer_says: Callable[..., None], status: int
) -> None:
    """Such as a proxy's in front of the issuer."""
    for path in ("/token", "/openid-configuration"):
        age(box, left_s=-1)
        issuer_says(status, path)
        with pytest.raises(AuthError, match="issuer") as why:
            TokenProvider(box.settings()).token()
        assert not isinstance(why.value, Refused)
        assert "Check CTAFLOWS_ISSUER_URL" in (why.value.hint or "")


def test_a_file_is_not_absent_because_the_issuer_is(
    box: Sandbox, issuer_says: Callable[..., None]
) -> None:
    box.put("/a", b"x")
    age(box, left_s=-1)
    issuer_says(404)
    with (
        WebDAVStorage(box.settings(), TokenProvider(box.settings())) as door,
        pytest.raises(AuthError),
    ):
        door.exists("/a")


def test_an_unknown_ca_is_refused(box: Sandbox, patient: list[bool]) -> None:
    age(box, left_s=-1)
    with Sandbox() as other:
        settings = box.settings(ca_file=other.ca_file)
        for call in (
            lambda: TokenProvider(settings).token(),
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
            TokenProvider(box.settings()).token()
        box.faults.clear()
    assert not [r for r in box.requests if r.method == "POST"]


@pytest.mark.parametrize("skew_s", [-86400, 86400])
def test_life_is_counted_from_receipt_not_by_exp(
    box: Sandbox, monkeypatch: pytest.MonkeyPatch, skew_s: float
) -> None:
    """The issuer's clock is a day off: exp says nothing here."""
    real = box._tokens.access
    monkeypatch.setattr(box._tokens, "access", lambda **kw: real(lifetime_s=3600 + skew_s, **kw))
    provider = TokenProvider(box.settings())
    provider.refresh()
    box.requests.clear()
    assert abs(claims(stored(box).access_token)["exp"] - time.time() - 3600 - skew_s) < 10
    assert provider.token() == stored(box).access_token
    assert asked(box) == 0, "it is not short"
    assert 3590 < (provider.stored_info().expires_in_s or 0) <= 3600
    old = age(box, left_s=30)
    assert provider.token() != old.access_token, "it is short, whatever exp says"


def test_a_clock_that_was_put_back_does_not_make_a_token_live_longer(box: Sandbox) -> None:
    """Obtained while the clock was a day ahead: what remains can't be more than its life."""
    tokens = replace(stored(box), obtained_at=time.time() + 86400)
    assert tokens.remaining_s() <= (tokens.expires_in or 0)
    Store(box.settings()).write(tokens)
    # nobody knows how old it is: it is renewed
    assert TokenProvider(box.settings()).token() != tokens.access_token


def test_a_token_without_a_known_end_is_used_until_it_is_refused(
    box: Sandbox, rewrite: Callable[..., None]
) -> None:
    rewrite("/token", lambda values: values.pop("expires_in"))
    provider = TokenProvider(box.settings())
    provider.refresh()
    box.requests.clear()
    token = provider.token()
    assert provider.store.read() is not None
    assert asked(box) == 0
    newer = provider.renew(token)
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
        TokenProvider(box.settings()).refresh()
    assert stored(box).access_token == old.access_token


@pytest.mark.parametrize("bad", ["two\nlines", "a b", "ä", "x\r\nInjected: 1"])
def test_a_token_that_is_none_is_not_stored(
    box: Sandbox, rewrite: Callable[..., None], bad: str
) -> None:
    rewrite("/token", lambda values: values.update(access_token=bad))
    old = age(box, left_s=30)
    with pytest.raises(CtaflowsError):
        TokenProvider(box.settings()).refresh()
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
