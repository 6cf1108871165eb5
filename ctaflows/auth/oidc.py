"""The client side of OpenID Connect: refresh, device login, revocation.

RFC 6749 (§5.2 errors, §6 refresh), RFC 8628 (device flow), RFC 7009 (revocation), OpenID Connect
Discovery 1.0. Each method of `Issuer` is one exchange, which is neither repeated nor limited in
time: callers do that.
"""

from __future__ import annotations

import atexit
import contextvars
import json
import logging
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar
from urllib.parse import urlencode, urlsplit

from ctaflows import cancel
from ctaflows.auth import secret
from ctaflows.auth.store import TokenSet
from ctaflows.auth.tokens import is_token
from ctaflows.errors import (
    AuthError,
    CtaflowsError,
    LoginNeeded,
    NetworkError,
    ProtocolSurprise,
    RateLimited,
    Refused,
    Stopped,
    register_secret,
)
from ctaflows.thread_pool import start
from ctaflows.transport import Transport, origin

if TYPE_CHECKING:
    from collections.abc import Callable

    from ctaflows.settings import Settings
    from ctaflows.transport import Answer

SCOPE = "openid offline_access"
_DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"
_FORM = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
_DEFAULT_INTERVAL_S = 5.0  # RFC 8628 §3.2
_DEFAULT_LIFETIME_S = 600.0
_CHECK = "Check CTAFLOWS_ISSUER_URL."


class GrantError(AuthError):
    """An OAuth 2.0 error response of the issuer.

    Attributes
    ----------
    code : str
        The ``error`` parameter, such as ``authorization_pending``, ``slow_down``,
        ``invalid_grant``; empty where the response has none.
    """

    code = ""


@dataclass(frozen=True, slots=True)
class DeviceLogin:
    """A device login that waits for a person's approval (RFC 8628 §3.2).

    Attributes
    ----------
    device_code : str
        What the token endpoint is polled with; a secret, never shown.
    user_code : str
        The code that the person types.
    uri, uri_complete : str, str or None
        Where the person types it; the second address includes the code.
    expires_in_s : float
        Lifetime of both codes, seconds; 600 where the issuer does not say.
    interval_s : float
        Pause between polls, seconds; 5 where the issuer does not say (RFC 8628 §3.2).
    """

    device_code: str = field(repr=False)
    user_code: str
    uri: str
    uri_complete: str | None
    expires_in_s: float
    interval_s: float


class Issuer:
    """A client of an OpenID Connect issuer. No request is repeated.

    Parameters
    ----------
    settings : Settings
        ``issuer_url``, ``client_id``, ``audience``, where the client's secret is found, CA,
        timeouts.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._url = settings.issuer_url.rstrip("/")
        self._transport = Transport(settings.replace(attempts=1), self._url)
        self._metadata: dict[str, Any] | None = None

    def close(self) -> None:
        """Close all connections."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def refresh(self, refresh_token: str) -> TokenSet:
        """Return new tokens for a refresh token (RFC 6749 §6).

        An issuer that rotates refresh tokens does not accept this one again.

        Raises
        ------
        LoginNeeded
            The issuer does not accept the refresh token (``invalid_grant``).
        GrantError
            Any other OAuth 2.0 error.
        """
        form = {"grant_type": "refresh_token", "refresh_token": refresh_token}
        try:
            return self._tokens(form, refresh_token)
        except GrantError as why:
            # RFC 6749 §5.2; Keycloak 26.7.3 says so of a token that was used before, of a session
            # that is over and of a user who is disabled
            if why.code != "invalid_grant":
                raise
            raise LoginNeeded(
                "The issuer will not renew this login", where=why.where, said=why.said
            ) from None

    def begin_login(self, scope: str = SCOPE) -> DeviceLogin:
        """Begin a device login (RFC 8628 §3.1).

        Raises
        ------
        AuthError
            The issuer has no device login.
        """
        endpoint = self._endpoint("device_authorization_endpoint")
        if endpoint is None:
            raise AuthError(
                "This issuer has no device login",
                where=self._url,
                hint=_CHECK,
            )
        values = self._post(endpoint, {"scope": scope})
        try:
            return DeviceLogin(
                device_code=_text(values, "device_code"),
                user_code=_text(values, "user_code"),
                uri=_web_address(values, "verification_uri"),
                uri_complete=_web_address(values, "verification_uri_complete")
                if values.get("verification_uri_complete")
                else None,
                expires_in_s=_seconds(values.get("expires_in"), _DEFAULT_LIFETIME_S),
                interval_s=_seconds(values.get("interval"), _DEFAULT_INTERVAL_S),
            )
        except ValueError as why:
            raise ProtocolSurprise(
                "The issuer's answer to a login is not as RFC 8628 says",
                where=endpoint,
                said=str(why),
            ) from None

    def ask_for_login(self, login: DeviceLogin) -> TokenSet:
        """Poll the token endpoint once; return the tokens if the person has approved the login.

        Raises
        ------
        GrantError
            Not approved yet, expired, or denied, by its ``code`` (RFC 8628 §3.5).
        """
        return self._tokens({"grant_type": _DEVICE_CODE, "device_code": login.device_code}, None)

    def revoke(self, token: str) -> bool:
        """Revoke a token (RFC 7009); return False where the issuer has no revocation endpoint."""
        endpoint = self._endpoint("revocation_endpoint")
        if endpoint is None:
            return False
        self._post(endpoint, {"token": token, "token_type_hint": "refresh_token"})
        return True

    def _tokens(self, form: dict[str, str], old_refresh_token: str | None) -> TokenSet:
        endpoint = self._endpoint("token_endpoint") or self._url
        asked_at = time.time()  # before the request: the lifetime counted from it is never too long
        values = self._post(endpoint, form)
        access_token, refresh_token = values.get("access_token"), values.get("refresh_token")
        if not isinstance(access_token, str) or not is_token(access_token):
            raise ProtocolSurprise("The issuer's answer holds no token", where=endpoint)
        expires_in = values.get("expires_in")
        return TokenSet(
            access_token=access_token,
            refresh_token=refresh_token if isinstance(refresh_token, str) else old_refresh_token,
            expires_in=_seconds(expires_in, 0.0) if expires_in is not None else None,
            obtained_at=asked_at,
            scope=str(values.get("scope") or ""),
            issuer=self._url,
            client_id=self._settings.client_id,
        )

    def _endpoint(self, name: str) -> str | None:
        """Return the URL of an endpoint from the issuer's metadata, or None where it has none.

        Metadata that name another issuer are refused (Discovery 1.0 §4.3); a trailing slash does
        not count, since ctadata's configuration has one and the issuer's own name has none.
        """
        if self._metadata is None:
            url = f"{self._url}/.well-known/openid-configuration"
            found = _json(self._ask("GET", url, headers={"Accept": _FORM["Accept"]}))
            if str(found.get("issuer", "")).rstrip("/") != self._url:
                raise ProtocolSurprise(
                    "The issuer's description names another issuer",
                    where=url,
                    said=str(found.get("issuer")),
                    hint=_CHECK,
                )
            self._metadata = found
        endpoint = self._metadata.get(name)
        if endpoint is None:
            return None
        if origin(str(endpoint))[0] != origin(self._url)[0]:
            raise ProtocolSurprise("The issuer names an endpoint that is not safe", where=self._url)
        return str(endpoint)

    def _ask(self, method: str, url: str, **how: Any) -> Answer:
        """Send a request; errors are translated from those of a storage to those of an issuer."""
        try:
            return self._transport.request(method, url, **how)
        except CtaflowsError as why:
            raise self._error(why) from None

    def _error(self, why: CtaflowsError) -> CtaflowsError:
        """Return the error for an issuer's answer, whose status is not about a remote file."""
        if isinstance(why, RateLimited):
            why.hint = "Wait a minute."
        is_passing = why.retryable or (
            isinstance(why, ProtocolSurprise) and (why.status or 0) >= 500
        )
        if why.status is None or is_passing:
            return why
        return AuthError(
            f"The issuer {self._url} refuses to answer",
            where=why.where,
            said=why.said,
            hint=_CHECK,
            status=why.status,
        )

    def _post(self, endpoint: str, form: dict[str, str]) -> dict[str, Any]:
        """Post a form with the client's id and secret as fields; return the JSON object.

        In a Basic header both would have to be form-encoded first (RFC 6749 §2.3.1), and servers
        differ in decoding them.
        """
        fields = {"client_id": self._settings.client_id, **form}
        if self._settings.audience and "token" not in form:
            fields["audience"] = self._settings.audience
        if known := secret.find(self._settings):
            fields["client_secret"] = known
        for key in ("client_secret", "refresh_token", "device_code", "token"):
            register_secret(fields.get(key))
        answer = self._ask(
            "POST",
            endpoint,
            headers=_FORM,
            content=urlencode(fields).encode(),
            expect=(400, 401, 403),
        )
        if answer.status < 400:
            return _json(answer) if answer.body else {}
        raise _grant_error(answer, endpoint)


def _grant_error(answer: Answer, endpoint: str) -> AuthError:
    try:
        values = _json(answer)
    except ProtocolSurprise:
        values = {}
    code, text = str(values.get("error") or ""), str(values.get("error_description") or "")
    hint = None if code else _CHECK  # such as a proxy's 403
    # RFC 6749 §5.2: invalid_client; Keycloak 26.7.3: unauthorized_client for a wrong secret
    if "client" in code:
        hint = "Check CTAFLOWS_CLIENT_ID and the client's secret."
    error = GrantError(
        "The issuer refuses",
        where=endpoint,
        said=f"{answer.status} {code} {text}".strip(),
        hint=hint,
        status=answer.status,
    )
    error.code = code
    return error


def _json(answer: Answer) -> dict[str, Any]:
    try:
        values = json.loads(answer.body)
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise ProtocolSurprise("The issuer's answer is no JSON object", where=answer.url)
    return values


def _text(values: dict[str, Any], key: str) -> str:
    value = values.get(key)
    if not isinstance(value, str) or not value.isprintable():
        raise ValueError(f"no {key}")
    return value


def _web_address(values: dict[str, Any], key: str) -> str:
    """Return an http(s) address, which is shown to a person and put into a QR code."""
    value = _text(values, key)
    if urlsplit(value).scheme not in ("https", "http"):
        raise ValueError(f"{key} is no web address")
    return value


def _seconds(value: object, default: float) -> float:
    try:
        seconds = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return default
    return seconds if 0 <= seconds < 1e9 else default


# -- calls with one deadline -----------------------------------------------------------------------
#
# A total time limit for a call to a server. An HTTP library's timeout is one for each read, so that
# a server that sends a byte now and then never exceeds it.
#
# An answer that must not be lost, such as a rotated refresh token, is stored by the thread that
# receives it: a signal that ends the wait for that thread loses nothing.

R = TypeVar("R")

log = logging.getLogger("ctaflows.auth")

#: An interrupted caller waits this long for an answer that has to be stored, seconds.
PATIENCE_S = 10.0
_SILENT_S = 1.0  # before the wait is logged

_going_on: set[threading.Event] = set()  # `done` of calls whose answer must be stored


def with_deadline(
    seconds: float,
    call: Callable[[], R],
    *,
    where: str,
    stop: Callable[[], None],
    keep: Callable[[R], object] | None = None,
) -> R:
    """Return the result of a call that has a total time limit.

    Parameters
    ----------
    seconds : float
        How long the call may take in all.
    call : Callable
        The call. It runs in a thread of its own, with a copy of this thread's context variables.
    where : str
        The server, for messages.
    stop : Callable
        Called when the time is over, to make the abandoned call end soon.
    keep : Callable, optional
        Stores the result, in the call's thread, unless the time is over by then. An exception
        raised here by a signal, such as KeyboardInterrupt, waits for that up to `PATIENCE_S`.

    Raises
    ------
    NetworkError
        The call did not end in time; whether the server acted on it is unknown.
    Stopped
        The surrounding work was cancelled, and no result came within `PATIENCE_S`.
    """
    made = _Call(call, keep)
    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(made.run,), daemon=True)
    halted, ends_at = cancel.current(), time.monotonic() + seconds
    try:
        start(thread)
        cancel.wait(seconds, made.done, halted)
        if halted.is_set():
            made.done.wait(max(0.0, min(PATIENCE_S, ends_at - time.monotonic())))
    except BaseException:
        # not Thread.join: interrupted, it takes the thread for ended (Python 3.11)
        if keep is not None and thread.is_alive() and not made.done.wait(_SILENT_S):
            log.warning("Waiting for the tokens from %s, at most %g s", where, PATIENCE_S)
            made.done.wait(PATIENCE_S - _SILENT_S)
        raise
    finally:
        if not made.done.is_set():
            made.give_up(stop)
    if made.error is not None:
        raise made.error
    if made.outcome:
        return made.outcome[0]
    if halted.is_set():
        raise Stopped("Stopped while waiting for the server", where=where)
    raise NetworkError(
        f"No complete answer within {seconds:g} s", where=where, hint="Try again in a moment."
    )


class _Call(Generic[R]):
    """A call in a thread of its own: either it stores its result, or its caller gave it up."""

    def __init__(self, call: Callable[[], R], keep: Callable[[R], object] | None) -> None:
        self._call, self._keep = call, keep
        self.outcome: list[R] = []
        self.error: BaseException | None = None
        self.done = threading.Event()
        self._decision = threading.Lock()  # held by the side that was first: result or giving up
        if keep is not None:
            _going_on.add(self.done)

    def run(self) -> None:
        """Make the call and store its result."""
        try:
            if self._decision.locked():
                return
            result = self._call()
            if self._decision.acquire(blocking=False):
                if self._keep is not None:
                    self._keep(result)
                self.outcome.append(result)
        except BaseException as why:  # noqa: BLE001  raised by `with_deadline`
            self.error = why
        finally:
            _going_on.discard(self.done)
            self.done.set()

    def give_up(self, stop: Callable[[], None]) -> None:
        """Abandon the call, unless its result is being stored: then wait for that."""
        if self._decision.acquire(blocking=False):
            _going_on.discard(self.done)
            stop()
        else:
            self.done.wait()


def is_keeping() -> bool:
    """Return whether a call is under way whose answer has to be stored."""
    return bool(_going_on)


def settle() -> None:
    """Wait until all threads have stored answers that must not be lost, at most `PATIENCE_S`.

    To be called before the process exits, which ends daemon threads.
    """
    ends_at = time.monotonic() + PATIENCE_S
    for done in _going_on.copy():
        done.wait(max(0.0, ends_at - time.monotonic()))


atexit.register(settle)


# -- device login ----------------------------------------------------------------------------------
#
# RFC 8628 §3.5: poll no faster than the issuer allows, and slower after each error.

_SLOWER_S = 5.0  # RFC 8628 §3.5
_EXCHANGE_S = 30.0  # total time of one exchange


def log_in(
    settings: Settings,
    show: Callable[[DeviceLogin], None],
    *,
    keep: Callable[[TokenSet], None] | None = None,
    pause: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> TokenSet:
    """Log in by the device flow: a person approves the login in a browser on any machine.

    Parameters
    ----------
    settings : Settings
        Issuer and client.
    show : Callable
        Shows the person the address and the code to type there.
    keep : Callable, optional
        Stores the tokens, in the thread that receives them: an interruption does not lose them.
    pause, clock : Callable
        Replaced by tests.

    Returns
    -------
    TokenSet
        The tokens.

    Raises
    ------
    LoginNeeded
        The login was not approved before the code expired.
    Refused
        The person denied it.
    CtaflowsError
        The first request failed, or the issuer refuses the client. Later failures that may pass
        (429, 5xx, no JSON, a broken connection) only slow the polling down.
    """
    login = _exchange(settings, Issuer.begin_login)
    show(login)
    answered = threading.Event()

    def kept(tokens: TokenSet) -> None:
        answered.set()
        if keep is not None:
            keep(tokens)

    ends_at, interval_s = clock() + login.expires_in_s, login.interval_s
    while clock() + interval_s < ends_at:
        pause(interval_s)
        try:
            return _exchange(settings, lambda issuer: issuer.ask_for_login(login), kept)
        except GrantError as why:
            if why.code == "slow_down":
                interval_s += _SLOWER_S  # for all later polls too
            elif why.code != "authorization_pending":
                raise _login_error(why) from None
        except CtaflowsError as why:
            # 429, 5xx, a page of HTML, a broken connection: back off until the code expires
            is_passing = why.retryable or isinstance(why, ProtocolSurprise)
            if not is_passing or answered.is_set():
                raise
            slower_s = min(max(2 * interval_s, 1.0), 60.0)
            interval_s = max(why.retry_after_s or 0.0, interval_s, slower_s)
    raise LoginNeeded("The login was not approved in time", where=login.uri, hint="Begin again.")


def _exchange(
    settings: Settings, call: Callable[[Issuer], R], keep: Callable[[R], None] | None = None
) -> R:
    with Issuer(settings) as issuer:
        return with_deadline(
            _EXCHANGE_S,
            lambda: call(issuer),
            where=settings.issuer_url,
            stop=issuer.close,
            keep=keep,
        )


def _login_error(why: GrantError) -> CtaflowsError:
    """Return the error that ends a device login, for the issuer's OAuth 2.0 error."""
    if why.code == "access_denied":
        return Refused("The login was refused in the browser", where=why.where, said=why.said)
    # RFC 8628 §3.5; Keycloak 26.7.3: invalid_grant "Device code not valid" once a code was used
    if why.code in ("expired_token", "invalid_grant"):
        return LoginNeeded(
            "The login was not approved in time",
            where=why.where,
            said=why.said,
            hint="Begin again.",
        )
    return why
