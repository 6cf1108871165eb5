"""The exchanges with an issuer over real TLS: each row of the faults table, one test or more."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from ctaflows.auth.keeper import Keeper
from ctaflows.auth.login import log_in
from ctaflows.auth.oidc import Issuer
from ctaflows.auth.store import Store, TokenSet
from ctaflows.auth.token import claims
from ctaflows.errors import (
    AuthError,
    CtaflowsError,
    DoorBusy,
    LoginNeeded,
    NetworkError,
    ProtocolSurprise,
    RateLimited,
    Refused,
)
from ctaflows.sandbox import Quirks, Sandbox
from ctaflows.sandbox import issuer as issuer_module
from ctaflows.sandbox.grants import DeviceGrant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ctaflows.auth.oidc import DeviceLogin
    from ctaflows.sandbox.messages import Seen

TOKEN = "*/token"


class FakeTime:
    """Time that passes only in pauses, and what happens in them."""

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
    """Who is shown a login."""

    login: DeviceLogin

    def __call__(self, login: DeviceLogin) -> None:
        self.login = login


def grants(box: Sandbox) -> list[Seen]:
    return [r for r in box.requests if r.server == "issuer" and r.path.endswith("/token")]


def asked(box: Sandbox) -> int:
    return sum(r.server == "issuer" for r in box.requests)


def age(box: Sandbox, *, left_s: float) -> TokenSet:
    """Let a number of seconds be left of the stored token."""
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


@pytest.fixture
def rewrite(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Callable[[dict], object]], None]:
    """Change the issuer's JSON answers before they go out."""
    real = issuer_module.wsgi.call
    changes: list[tuple[str, Callable[[dict], object]]] = []

    def call(application: Any, environ: dict[str, Any]) -> Any:
        response = real(application, environ)
        for suffix, change in changes:
            if environ["PATH_INFO"].endswith(suffix) and response.status == 200:
                values = json.loads(response.body)
                change(values)
                response.body = json.dumps(values).encode()
        return response

    monkeypatch.setattr(issuer_module.wsgi, "call", call)
    return lambda suffix, change: changes.append((suffix, change))


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """The sandbox looks at no clock: it says slow_down where the list holds True."""
    script: list[bool] = []
    monkeypatch.setattr(
        DeviceGrant, "should_slow_down", lambda _self, _login: script.pop(0) if script else False
    )
    return script


def login(box: Sandbox, time_: FakeTime, shown: Shown, **changes: Any) -> TokenSet:
    return log_in(box.settings(**changes), shown, pause=time_.pause, clock=time_.clock)


# -- device login ----------------------------------------------------------------------------------


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


# -- whom we talk to -------------------------------------------------------------------------------


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


# -- refresh ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["503", "500", "429", "html", "reset"])
@pytest.mark.parametrize("path", [TOKEN, "*/openid-configuration"])
def test_troubles_of_a_refresh_pass(box: Sandbox, fault: str, path: str) -> None:
    old = age(box, left_s=-1)
    box.faults.add(fault, server="issuer", path=path, times=2)
    token = Keeper(box.settings()).token()
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
    assert Keeper(settings).token() == old.access_token, "it still holds"
    assert len(grants(box)) == settings.attempts
    assert stored(box) == old
    with pytest.raises(error):
        Keeper(settings).warm(60, quiet=False)
    with pytest.raises(error):
        Keeper(settings).refresh()
    old = age(box, left_s=-1)
    with pytest.raises(error):
        Keeper(settings).token()
    assert stored(box) == old
    box.faults.clear()
    assert Keeper(settings).token() != old.access_token, "nothing is spoilt"


def test_a_wrong_secret_is_not_tried_again(box: Sandbox) -> None:
    settings = box.settings(client_secret="wrong")
    old = age(box, left_s=30)
    assert Keeper(settings).token() == old.access_token
    assert [r.status for r in grants(box)] == [401]
    old = age(box, left_s=-1)
    with pytest.raises(AuthError, match="invalid_client") as why:
        Keeper(settings).token()
    assert not isinstance(why.value, LoginNeeded)
    assert len(grants(box)) == 2
    assert stored(box) == old, "a refresh token that was not looked at is not spoilt"
    assert Keeper(box.settings()).token() != old.access_token


@pytest.mark.parametrize("fault", ["lost", "truncate", "wrong_length"])
def test_an_answer_that_is_lost_after_the_rotation(box: Sandbox, fault: str) -> None:
    age(box, left_s=-1)
    box.faults.add(fault, server="issuer", path=TOKEN)
    with pytest.raises(LoginNeeded) as why:
        Keeper(box.settings()).token()
    assert "ctaflows token login" in (why.value.hint or "")
    assert [r.status for r in grants(box)][1:] == [400], "tried again once, then said"
    assert "invalid_grant" in (stored(box).refused or "")


def test_an_answer_that_is_lost_without_rotation() -> None:
    with Sandbox(quirks=Quirks(rotate=False)) as box:
        old = age(box, left_s=-1)
        box.faults.add("lost", server="issuer", path=TOKEN)
        assert Keeper(box.settings()).token() != old.access_token
        assert stored(box).refused is None


def test_rotation_is_stored(box: Sandbox) -> None:
    seen = {stored(box).refresh_token}
    for _ in range(4):
        age(box, left_s=-1)
        Keeper(box.settings()).token()
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
            Keeper(box.settings()).refresh()
            assert stored(box).refresh_token == old.refresh_token
        assert stored(box).access_token != old.access_token


def test_a_refusal_is_recorded_and_the_issuer_not_asked_again(
    box: Sandbox, patient: list[bool]
) -> None:
    old = age(box, left_s=-1)
    box.revoke(old.refresh_token or "")
    keeper = Keeper(box.settings())
    with pytest.raises(LoginNeeded, match="will not renew"):
        keeper.token()
    assert [r.status for r in grants(box)] == [400]
    assert stored(box).refused
    assert not keeper.stored_info().refreshable
    box.requests.clear()
    for call in (keeper.token, Keeper(box.settings()).token, keeper.refresh):
        with pytest.raises(LoginNeeded, match="invalid_grant"):
            call()
    assert keeper.renew(old.access_token) is None
    assert asked(box) == 0
    shown = Shown()
    tokens = login(box, FakeTime(_1=lambda: box.approve(shown.login.user_code)), shown)
    with keeper.store.lock():
        keeper.store.write(tokens)
    assert stored(box).refused is None
    assert keeper.token() == tokens.access_token
    assert keeper.stored_info().refreshable
    assert keeper.refresh()


def test_a_login_of_the_keeper_clears_the_refusal() -> None:
    with Sandbox(quirks=Quirks(login_interval_s=0.05)) as box:
        age(box, left_s=-1)
        box.revoke(stored(box).refresh_token or "")
        keeper = Keeper(box.settings())
        with pytest.raises(LoginNeeded):
            keeper.token()
        keeper.log_in(lambda login: box.approve(login.user_code) and None)
        assert stored(box).refused is None
        assert box._tokens.refusal(keeper.token()) is None


def test_a_refused_login_serves_as_long_as_its_token(box: Sandbox) -> None:
    old = age(box, left_s=30)
    box.revoke(old.refresh_token or "")
    for _ in range(3):
        assert Keeper(box.settings()).token() == old.access_token
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
    keeper = Keeper(box.settings(stall_timeout_s=30.0), deadline_s=1)

    def still_serves() -> None:
        assert keeper.token() == old.access_token

    assert 0.9 < quick_end(still_serves) < 2
    if path != TOKEN:  # a token endpoint that drips has used the token up
        age(box, left_s=-1)

        def is_said() -> None:
            with pytest.raises(NetworkError, match="within"):
                keeper.token()

        assert 0.9 < quick_end(is_said) < 2


def test_many_do_not_wait_one_after_the_other_for_an_issuer_that_is_silent(box: Sandbox) -> None:
    """While the token holds, 8 transfers must not stand for 8 deadlines."""
    box.faults.add("hang", server="issuer", times=None)
    old = age(box, left_s=30)
    answers: list[str] = []
    settings = box.settings(stall_timeout_s=30.0)
    threads = [
        threading.Thread(target=lambda: answers.append(Keeper(settings, deadline_s=0.5).token()))
        for _ in range(8)
    ]
    start = time.monotonic()
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    seconds = time.monotonic() - start
    assert answers == [old.access_token] * 8
    assert seconds < 2, f"{seconds:.1f} s for eight, with a deadline of 0.5 s"


# -- clocks ----------------------------------------------------------------------------------------


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
