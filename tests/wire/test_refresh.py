"""Refreshing over real TLS: rotation, refusals, troubles that pass and that last."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from ctaflows import cancel
from ctaflows.auth import oidc
from ctaflows.auth.renewal import TokenProvider
from ctaflows.errors import (
    AuthError,
    CtaflowsError,
    DoorBusy,
    LoginNeeded,
    NetworkError,
    ProtocolSurprise,
    RateLimited,
    Stopped,
)
from ctaflows.sandbox import Quirks, Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conftest import Held


from exchanges import TOKEN, FakeTime, Shown, age, asked, grants, login, stored


@pytest.mark.parametrize("fault", ["503", "500", "429", "html", "reset"])
@pytest.mark.parametrize("path", [TOKEN, "*/openid-configuration"])
def test_troubles_of_a_refresh_pass(box: Sandbox, fault: str, path: str) -> None:
    old = age(box, left_s=-1)
    box.faults.add(fault, server="issuer", path=path, times=2)
    token = TokenProvider(box.settings()).token()
    assert token != old.access_token
    assert box._tokens.refusal(token) is None
    assert stored(box).access_token == token
    assert not len(box.faults)
    assert len(grants(box)) == (3 if path == TOKEN else 1)


BROKEN = [
    ("503", DoorBusy),
    ("429", RateLimited),
    ("html", ProtocolSurprise),
    ("reset", NetworkError),
]


@pytest.mark.parametrize(("fault", "error"), BROKEN)
def test_retries_are_bounded_and_the_old_tokens_kept(
    box: Sandbox, fault: str, error: type[CtaflowsError]
) -> None:
    settings = box.settings(busy_s=0.0)
    box.faults.add(fault, server="issuer", path=TOKEN, times=None)
    old = age(box, left_s=30)
    assert TokenProvider(settings).token() == old.access_token, "it still holds"
    assert len(grants(box)) == settings.attempts
    assert stored(box) == old
    with pytest.raises(error):
        TokenProvider(settings).ensure_valid(60, quiet=False)
    with pytest.raises(error):
        TokenProvider(settings).refresh()
    old = age(box, left_s=-1)
    with pytest.raises(error):
        TokenProvider(settings).token()
    assert stored(box) == old
    box.faults.clear()
    assert TokenProvider(settings).token() != old.access_token, "nothing is spoilt"


def test_a_wrong_secret_is_not_tried_again(box: Sandbox) -> None:
    settings = box.settings(client_secret="wrong")
    old = age(box, left_s=30)
    assert TokenProvider(settings).token() == old.access_token
    assert [r.status for r in grants(box)] == [401]
    old = age(box, left_s=-1)
    with pytest.raises(AuthError, match="invalid_client") as why:
        TokenProvider(settings).token()
    assert not isinstance(why.value, LoginNeeded)
    assert len(grants(box)) == 2
    assert stored(box) == old, "a refresh token that was not looked at is not spoilt"
    assert TokenProvider(box.settings()).token() != old.access_token


@pytest.mark.parametrize("fault", ["lost", "truncate", "wrong_length"])
def test_an_answer_that_is_lost_after_the_rotation(box: Sandbox, fault: str) -> None:
    age(box, left_s=-1)
    box.faults.add(fault, server="issuer", path=TOKEN)
    with pytest.raises(LoginNeeded) as why:
        TokenProvider(box.settings()).token()
    assert "ctaflows token login" in (why.value.hint or "")
    assert [r.status for r in grants(box)][1:] == [400], "tried again once, then said"
    assert "invalid_grant" in (stored(box).refused or "")


def test_an_answer_that_is_lost_without_rotation() -> None:
    with Sandbox(quirks=Quirks(rotate=False)) as box:
        old = age(box, left_s=-1)
        box.faults.add("lost", server="issuer", path=TOKEN)
        assert TokenProvider(box.settings()).token() != old.access_token
        assert stored(box).refused is None


def test_rotation_is_stored(box: Sandbox) -> None:
    seen = {stored(box).refresh_token}
    for _ in range(4):
        age(box, left_s=-1)
        TokenProvider(box.settings()).token()
        assert stored(box).refresh_token not in seen
        seen.add(stored(box).refresh_token)
    assert [r.status for r in grants(box)] == [200] * 4


@pytest.mark.parametrize("said", ["absent", None, 5])
def test_without_a_new_refresh_token_the_old_one_is_kept(
    rewrite: Callable[..., None], said: object
) -> None:
    def change(values: dict[str, Any]) -> None:
        values.pop("refresh_token")
        if said != "absent":
            values["refresh_token"] = said

    rewrite("/token", change)
    with Sandbox(quirks=Quirks(rotate=False)) as box:
        old = age(box, left_s=-1)
        for _ in range(2):
            TokenProvider(box.settings()).refresh()
            assert stored(box).refresh_token == old.refresh_token
        assert stored(box).access_token != old.access_token


def test_a_refusal_is_recorded_and_the_issuer_not_asked_again(
    box: Sandbox, patient: list[bool]
) -> None:
    old = age(box, left_s=-1)
    box.revoke(old.refresh_token or "")
    provider = TokenProvider(box.settings())
    with pytest.raises(LoginNeeded, match="will not renew"):
        provider.token()
    assert [r.status for r in grants(box)] == [400]
    assert stored(box).refused
    assert not provider.stored_info().refreshable
    box.requests.clear()
    for call in (provider.token, TokenProvider(box.settings()).token, provider.refresh):
        with pytest.raises(LoginNeeded, match="invalid_grant"):
            call()
    assert provider.renew(old.access_token) is None
    assert asked(box) == 0
    shown = Shown()
    tokens = login(box, FakeTime(_1=lambda: box.approve(shown.login.user_code)), shown)
    with provider.store.lock():
        provider.store.write(tokens)
    assert stored(box).refused is None
    assert provider.token() == tokens.access_token
    assert provider.stored_info().refreshable
    assert provider.refresh()


def test_a_login_clears_the_refusal() -> None:
    with Sandbox(quirks=Quirks(login_interval_s=0.05)) as box:
        age(box, left_s=-1)
        box.revoke(stored(box).refresh_token or "")
        provider = TokenProvider(box.settings())
        with pytest.raises(LoginNeeded):
            provider.token()
        provider.log_in(lambda login: box.approve(login.user_code) and None)
        assert stored(box).refused is None
        assert box._tokens.refusal(provider.token()) is None


def test_a_refused_login_serves_as_long_as_its_token(box: Sandbox) -> None:
    old = age(box, left_s=30)
    box.revoke(old.refresh_token or "")
    for _ in range(3):
        assert TokenProvider(box.settings()).token() == old.access_token
    assert len(grants(box)) == 1


@pytest.fixture
def quick_end(box: Sandbox) -> Iterator[Callable[[Callable[[], object]], float]]:
    """Measure a call; the box ends what still drips afterwards."""

    def timed(call: Callable[[], object]) -> float:
        start = time.monotonic()
        call()
        return time.monotonic() - start

    yield timed
    box.faults.clear()


@pytest.mark.parametrize("path", [TOKEN, "*/openid-configuration"])
@pytest.mark.parametrize(
    "fault", [{"fault": "slow", "rate_bytes_s": 20}, {"fault": "hang"}], ids=["drip", "hang"]
)
def test_a_drip_or_silence_is_over_in_time(
    box: Sandbox, quick_end: Callable[..., float], path: str, fault: dict[str, Any]
) -> None:
    box.faults.add(**fault, server="issuer", path=path, times=None)
    old = age(box, left_s=30)
    provider = TokenProvider(box.settings(stall_timeout_s=30.0), deadline_s=1)

    def still_serves() -> None:
        assert provider.token() == old.access_token

    assert 0.9 < quick_end(still_serves) < 10
    if path != TOKEN:  # a token endpoint that drips has used the token up
        age(box, left_s=-1)

        def is_said() -> None:
            with pytest.raises(NetworkError, match="within"):
                provider.token()

        assert 0.9 < quick_end(is_said) < 10


def test_work_that_is_stopped_waits_for_the_issuer_a_little_only(
    box: Sandbox, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oidc, "PATIENCE_S", 0.1)
    old = age(box, left_s=-1)
    errors: list[Exception] = []

    def renew() -> None:
        try:
            TokenProvider(box.settings(stall_timeout_s=30.0)).token()
        except CtaflowsError as why:
            errors.append(why)

    thread = threading.Thread(target=renew)
    thread.start()
    assert held.made.wait(20)
    cancel.stop_all()
    thread.join(10)
    assert [type(why) for why in errors] == [Stopped]
    held.sent.set()
    assert stored(box) == old, "what comes too late may be older than what is there"


def test_an_answer_that_comes_soon_is_kept_by_work_that_is_stopped(
    box: Sandbox, held: Held
) -> None:
    old = age(box, left_s=-1)
    tokens: list[str] = []
    thread = threading.Thread(target=lambda: tokens.append(TokenProvider(box.settings()).token()))
    thread.start()
    assert held.made.wait(20)
    cancel.stop_all()
    thread.join(0.5)
    assert thread.is_alive()
    held.sent.set()
    thread.join(10)
    assert tokens == [stored(box).access_token]
    assert stored(box).refresh_token != old.refresh_token


def test_many_do_not_wait_one_after_the_other_for_an_issuer_that_is_silent(box: Sandbox) -> None:
    """While the token holds, 8 transfers must not stand for 8 deadlines."""
    box.faults.add("hang", server="issuer", times=None)
    old = age(box, left_s=30)
    answers: list[str] = []
    settings = box.settings(stall_timeout_s=30.0)
    threads = [
        threading.Thread(
            target=lambda: answers.append(TokenProvider(settings, deadline_s=1).token())
        )
        for _ in range(8)
    ]
    start = time.monotonic()
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    seconds = time.monotonic() - start
    assert answers == [old.access_token] * 8
    assert seconds < 7, f"{seconds:.1f} s for eight, with a deadline of 1 s"
