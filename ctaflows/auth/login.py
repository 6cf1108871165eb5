"""Device login: shown to a person, waited for politely (RFC 8628 §3.5)."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, TypeVar

from ctaflows.auth.deadline import within
from ctaflows.auth.oidc import GrantError, Issuer
from ctaflows.errors import CtaflowsError, LoginNeeded, ProtocolSurprise, Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from ctaflows.auth.oidc import DeviceLogin
    from ctaflows.auth.store import TokenSet
    from ctaflows.settings import Settings

R = TypeVar("R")

_SLOWER_S = 5.0
_EXCHANGE_S = 30.0


def log_in(
    settings: Settings,
    show: Callable[[DeviceLogin], None],
    *,
    keep: Callable[[TokenSet], None] | None = None,
    pause: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> TokenSet:
    """Log in with the help of a person and a browser anywhere.

    Parameters
    ----------
    settings : Settings
        Issuer and client.
    show : Callable
        Shows the person where to go and which code to type.
    keep : Callable, optional
        Stores the tokens, before anything else can end this.
    pause, clock : Callable
        For tests.

    Returns
    -------
    TokenSet
        The tokens.

    Raises
    ------
    LoginNeeded
        Nobody let us in as long as the code was good.
    Refused
        The person said no.
    CtaflowsError
        The issuer can't be reached to begin with, or refuses the client.
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
                interval_s += _SLOWER_S  # for all later questions too
            elif why.code != "authorization_pending":
                raise _end(why) from None
        except CtaflowsError as why:
            # 429, 5xx, a page of HTML, a broken connection: back off, go on until the code ends
            passing = why.retryable or isinstance(why, ProtocolSurprise)
            if not passing or answered.is_set():
                raise
            slower_s = min(max(2 * interval_s, 1.0), 60.0)
            interval_s = max(why.retry_after_s or 0.0, interval_s, slower_s)
    raise LoginNeeded("Nobody let us in in time", where=login.uri, hint="Begin again.")


def _exchange(
    settings: Settings, call: Callable[[Issuer], R], keep: Callable[[R], None] | None = None
) -> R:
    with Issuer(settings) as issuer:
        return within(
            _EXCHANGE_S,
            lambda: call(issuer),
            where=settings.issuer_url,
            stop=issuer.close,
            keep=keep,
        )


def _end(why: GrantError) -> CtaflowsError:
    if why.code == "access_denied":
        return Refused("The login was refused in the browser", where=why.where, said=why.said)
    if why.code in ("expired_token", "invalid_grant"):
        return LoginNeeded(
            "Nobody let us in in time", where=why.where, said=why.said, hint="Begin again."
        )
    return why
