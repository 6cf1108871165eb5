"""Device login over real TLS: each row of the faults table, one test or more."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from ctaflows.auth.oidc import Issuer, log_in
from ctaflows.auth.tokens import claims
from ctaflows.errors import (
    AuthError,
    CtaflowsError,
    LoginNeeded,
    ProtocolSurprise,
    Refused,
)
from ctaflows.sandbox import Quirks, Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable


from exchanges import TOKEN, FakeTime, Shown, grants, login


def test_the_whole_exchange(box: Sandbox, patient: list[bool]) -> None:
    shown = Shown()
    time_ = FakeTime(_2=lambda: box.approve(shown.login.user_code))
    before = time.time()
    tokens = login(box, time_, shown)
    assert shown.login.uri == f"{box.issuer_url}/device"
    assert shown.login.user_code in (shown.login.uri_complete or "")
    assert shown.login.expires_in_s == 600
    assert (tokens.expires_in, tokens.scope) == (3600, "openid offline_access")
    assert before <= tokens.obtained_at <= time.time()
    assert claims(tokens.access_token)["iss"] == box.issuer_url
    paths = [r.path.rpartition("/")[2] for r in box.requests]
    assert paths.count("device") == 1
    assert paths.count("token") == 2
    with Issuer(box.settings()) as issuer:
        newer = issuer.refresh(tokens.refresh_token or "")
        assert newer.refresh_token not in (None, tokens.refresh_token)
        assert newer.access_token != tokens.access_token
        assert issuer.revoke(newer.refresh_token or "") is True
        with pytest.raises(LoginNeeded):
            issuer.refresh(newer.refresh_token or "")


def test_nothing_secret_is_in_an_address_or_a_header(box: Sandbox, patient: list[bool]) -> None:
    shown = Shown()
    tokens = login(box, FakeTime(_1=lambda: box.approve(shown.login.user_code)), shown)
    secrets = [box.client_secret, shown.login.device_code, str(tokens.refresh_token)]
    sent = [f"{r.path} {r.headers}" for r in box.requests]
    assert not [line for line in sent for secret in secrets if secret in line]
    assert shown.login.device_code not in repr(shown.login)
    assert tokens.access_token not in repr(tokens)
    assert str(tokens.refresh_token) not in repr(tokens)


def test_pending_keeps_the_interval(patient: list[bool]) -> None:
    with Sandbox(quirks=Quirks(login_interval_s=7)) as box:
        shown = Shown()
        time_ = FakeTime(_4=lambda: box.approve(shown.login.user_code))
        login(box, time_, shown)
        assert time_.pauses == [7, 7, 7, 7]


@pytest.mark.parametrize("said", [None, "soon", -1, [], 1e12])
def test_no_interval_means_five_seconds(
    patient: list[bool], rewrite: Callable[..., None], said: object
) -> None:
    def change(values: dict[str, Any]) -> None:
        values.pop("interval") if said is None else values.update(interval=said)

    rewrite("/auth/device", change)
    with Sandbox(quirks=Quirks(login_interval_s=9)) as box:
        shown = Shown()
        time_ = FakeTime(_2=lambda: box.approve(shown.login.user_code))
        login(box, time_, shown)
        assert time_.pauses == [5, 5]


def test_slow_down_adds_five_seconds_for_all_later_polls(box: Sandbox, patient: list[bool]) -> None:
    patient += [False, True, False, True, False, False]
    shown = Shown()
    time_ = FakeTime(_6=lambda: box.approve(shown.login.user_code))
    login(box, time_, shown)
    assert time_.pauses == [5, 5, 10, 10, 15, 15]


def test_our_pace_is_never_too_fast_for_the_issuer() -> None:
    with Sandbox(quirks=Quirks(login_interval_s=0.1)) as box:
        shown = Shown()
        polls = 0

        def pause(seconds: float) -> None:
            nonlocal polls
            polls += 1
            if polls == 4:
                box.approve(shown.login.user_code)
            time.sleep(seconds)  # here the pace itself is tested

        log_in(box.settings(), shown, pause=pause)
        assert [r.status for r in grants(box)] == [400, 400, 400, 200]
        assert polls == 4  # had slow_down come, five more seconds would have passed each time


@pytest.mark.parametrize("way", ["expired_token", "invalid_grant"])
def test_a_code_that_is_over_means_begin_again(box: Sandbox, patient: list[bool], way: str) -> None:
    shown = Shown()

    def over() -> None:
        if way == "invalid_grant":  # as Keycloak says it of a code it does not know
            box._issuer.logins.pop(shown.login.device_code)
        else:
            box._issuer.logins[shown.login.device_code].expires_at = 0

    time_ = FakeTime(_3=over)
    with pytest.raises(LoginNeeded) as why:
        login(box, time_, shown)
    assert (why.value.hint or "").startswith("Begin again")
    assert way in (why.value.said or "")
    assert len(grants(box)) == 3


def test_we_stop_ourselves_when_the_code_is_over(patient: list[bool]) -> None:
    with Sandbox(quirks=Quirks(login_interval_s=5, login_lifetime_s=21)) as box:
        time_ = FakeTime()
        with pytest.raises(LoginNeeded, match="in time") as why:
            login(box, time_, Shown())
        assert (why.value.hint or "").startswith("Begin again")
        assert time_.pauses == [5, 5, 5, 5]
        assert len(grants(box)) == 4


def test_a_person_who_says_no(box: Sandbox, patient: list[bool]) -> None:
    shown = Shown()
    time_ = FakeTime(_2=lambda: box.deny_login(shown.login.user_code))
    with pytest.raises(Refused, match="refused in the browser"):
        login(box, time_, shown)
    assert len(grants(box)) == 2


@pytest.mark.parametrize("fault", ["503", "500", "502", "429", "html", "reset", "truncate"])
def test_troubles_while_polling_pass(box: Sandbox, patient: list[bool], fault: str) -> None:
    shown = Shown()

    def trouble() -> None:
        box.faults.add(fault, server="issuer", path=TOKEN, times=2)

    # `truncate` befalls only an answer that is no refusal: it would lose the tokens themselves
    if fault == "truncate":
        box.faults.add(fault, server="issuer", path="*/openid-configuration", times=2)
        hooks = {"_5": lambda: box.approve(shown.login.user_code)}
        with pytest.raises(CtaflowsError):
            login(box, FakeTime(), shown)
        box.faults.clear()
    else:
        hooks = {"_1": trouble, "_5": lambda: box.approve(shown.login.user_code)}
    time_ = FakeTime(**hooks)
    tokens = login(box, time_, shown)
    assert box._tokens.refusal(tokens.access_token) is None
    if fault != "truncate":
        assert time_.pauses[0] == 5
        assert time_.pauses[1] > 5, "backs off"
        assert time_.pauses[2] > time_.pauses[1]
        assert len(time_.pauses) == 5
    assert not len(box.faults)


def test_retry_after_is_honoured_while_polling(box: Sandbox, patient: list[bool]) -> None:
    shown = Shown()
    fault = {"server": "issuer", "path": TOKEN, "retry_after_s": 42}
    time_ = FakeTime(
        _1=lambda: box.faults.add("503", **fault), _3=lambda: box.approve(shown.login.user_code)
    )
    login(box, time_, shown)
    assert time_.pauses[1] >= 42


def test_trouble_never_makes_polling_faster(patient: list[bool]) -> None:
    with Sandbox(quirks=Quirks(login_interval_s=90)) as box:
        shown = Shown()
        time_ = FakeTime(
            _1=lambda: box.faults.add("503", server="issuer", path=TOKEN),
            _3=lambda: box.approve(shown.login.user_code),
        )
        login(box, time_, shown)
        assert time_.pauses[1] >= 90


@pytest.mark.parametrize("interval", [0, 0.01])
def test_trouble_backs_off_from_the_shortest_interval_too(
    patient: list[bool], interval: float
) -> None:
    with Sandbox(quirks=Quirks(login_interval_s=interval)) as box:
        shown = Shown()
        time_ = FakeTime(
            _1=lambda: box.faults.add("503", server="issuer", path=TOKEN, times=3),
            _5=lambda: box.approve(shown.login.user_code),
        )
        login(box, time_, shown)
        assert time_.pauses[4] > time_.pauses[1] > 0


def test_trouble_until_the_code_is_over(patient: list[bool]) -> None:
    with Sandbox(quirks=Quirks(login_lifetime_s=100)) as box:
        box.faults.add("503", server="issuer", path=TOKEN, times=None)
        time_ = FakeTime()
        with pytest.raises(LoginNeeded, match="in time"):
            login(box, time_, Shown())
        assert 2 <= len(time_.pauses) <= 5
        assert sum(time_.pauses) < 100


def test_a_wrong_secret_is_said_at_once(box: Sandbox, patient: list[bool]) -> None:
    time_ = FakeTime()
    with pytest.raises(AuthError) as why:
        login(box, time_, Shown(), client_secret="wrong")
    assert not isinstance(why.value, LoginNeeded)
    assert "invalid_client" in str(why.value)
    assert "secret" in (why.value.hint or "")
    assert "wrong" not in str(why.value)
    assert time_.pauses == []
    assert sum(r.path.endswith("/auth/device") for r in box.requests) == 1


def test_a_secret_that_is_changed_while_polling(box: Sandbox, patient: list[bool]) -> None:
    time_ = FakeTime(_1=lambda: setattr(box._issuer._client, "client_secret", "another"))
    with pytest.raises(AuthError, match="invalid_client"):
        login(box, time_, Shown())
    assert len(grants(box)) == 1


ODD = ["a b", "100%41", "a+b", "a:b", "a&client_id=x", "pä=ß€", 'q"\\?#/;', "%", "日本", "a%2Bb"]


@pytest.mark.parametrize("secret", ODD)
def test_odd_secrets(patient: list[bool], secret: str) -> None:
    with Sandbox() as box:
        box._issuer._client.client_secret = secret
        shown = Shown()
        time_ = FakeTime(_1=lambda: box.approve(shown.login.user_code))
        tokens = login(box, time_, shown, client_secret=secret)
        with Issuer(box.settings(client_secret=secret)) as issuer:
            newer = issuer.refresh(tokens.refresh_token or "")
            assert issuer.revoke(newer.refresh_token or "")
        file = box.config_dir / "odd"
        file.write_text(secret + "\n", encoding="utf-8")
        with Issuer(box.settings(client_secret=None, client_secret_file=file)) as issuer:
            issuer.begin_login()


@pytest.mark.parametrize("key", ["device_code", "user_code", "verification_uri"])
@pytest.mark.parametrize("value", [None, 5, "\x1b[2J"])
def test_a_login_that_is_not_as_it_should_be(
    box: Sandbox, rewrite: Callable[..., None], key: str, value: object
) -> None:
    rewrite("/auth/device", lambda values: values.update({key: value}))
    with pytest.raises(ProtocolSurprise, match="RFC 8628"):
        login(box, FakeTime(), Shown())


def test_an_address_that_is_no_web_address_is_not_shown(
    box: Sandbox, rewrite: Callable[..., None]
) -> None:
    rewrite("/auth/device", lambda values: values.update(verification_uri_complete="file:///x"))
    shown = Shown()
    with pytest.raises(ProtocolSurprise):
        login(box, FakeTime(), shown)
    assert not hasattr(shown, "login")
