"""The one refresher: gives a token that is valid now, renewed under a lock when it is short."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ctaflows.auth import oidc
from ctaflows.auth.store import Store, TokenSet
from ctaflows.auth.token import FoundToken, TokenInfo, describe, discover
from ctaflows.errors import CtaflowsError, LoginNeeded, TokenExpired, TokenMissing

if TYPE_CHECKING:
    from ctaflows.settings import Settings

log = logging.getLogger("ctaflows.auth")

#: A token is renewed when less than this is left of it, or a fifth of its life if that is less.
MARGIN_S = 60.0


class Keeper:
    """A `transport.TokenSource` over the environment and our store.

    However many processes and threads share the home, one renews at a time, and the others find
    what it stored.

    Parameters
    ----------
    settings : Settings
        Profile, issuer, client; ``token_source`` tells where to look.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._store = Store(settings)

    def token(self) -> str:
        """Give a token that is valid now.

        Raises
        ------
        TokenMissing
            None was found.
        TokenExpired
            The one found is over and can't be renewed.
        LoginNeeded
            The issuer will not renew it.
        """
        found = self._outside()
        if found is not None:
            info = describe(found, refreshable=False)
            if info.expires_in_s is not None and info.expires_in_s <= 0:
                raise TokenExpired(
                    f"The token expired {-info.expires_in_s} s ago",
                    where=found.source,
                    hint=f"Renew it there, or unset it ({found.source}) to use the stored login.",
                )
            return found.value
        return self._renewed_when_short().access_token

    def renew(self, rejected: str) -> str | None:
        """Give a newer token than one that a server rejected, or None."""
        if self._outside() is not None:
            found = self._outside()
            return found.value if found and found.value != rejected else None
        try:
            return self._renew(lambda t: t.access_token != rejected).access_token
        except CtaflowsError as why:
            log.warning("The token was rejected and can't be renewed: %s", why)
            return None

    def refresh(self) -> TokenInfo:
        """Renew the stored token now, and say what it is.

        Raises
        ------
        TokenMissing
            There is nothing stored to renew.
        """
        self._renew(lambda _: False)
        return self.info()

    def info(self) -> TokenInfo:
        """Say what token would be used now, without renewing it.

        Raises
        ------
        TokenMissing
            None was found.
        """
        if (found := self._outside()) is not None:
            return describe(found, refreshable=False)
        tokens = self._stored()
        return describe(
            FoundToken(tokens.access_token, str(self._store.file)),
            refreshable=tokens.refresh_token is not None,
            expires_at=tokens.expires_at,
        )

    def _outside(self) -> FoundToken | None:
        return None if self._settings.token_source == "store" else discover()  # noqa: S105

    def _stored(self) -> TokenSet:
        tokens = None
        if self._settings.token_source != "environment":  # noqa: S105
            tokens = self._store.read()
        if tokens is None:
            raise TokenMissing(f"There is no token for profile “{self._settings.profile}”")
        return tokens

    def _renewed_when_short(self) -> TokenSet:
        tokens = self._stored()
        if not _short(tokens):
            return tokens
        try:
            return self._renew(lambda t: not _short(t))
        except LoginNeeded:
            raise
        except CtaflowsError as why:
            tokens = self._stored()
            if tokens.remaining_s() <= 0:
                raise
            log.warning("The token can't be renewed yet, the old one still holds: %s", why)
            return tokens

    def _renew(self, good_enough: _Judge) -> TokenSet:
        """Renew under the lock, unless another process has done it meanwhile."""
        self._stored()
        with self._store.lock():
            tokens = self._stored()
            if good_enough(tokens):
                return tokens
            if tokens.refresh_token is None:
                raise TokenExpired(
                    "The stored token can't be renewed: no refresh token is stored with it",
                    where=str(self._store.file),
                )
            newer = oidc.refresh(self._settings, tokens.refresh_token)
            self._store.write(newer)  # before anybody uses it: the old refresh token may be dead
            return newer


def _short(tokens: TokenSet) -> bool:
    life = tokens.expires_in if tokens.expires_in is not None else float("inf")
    return tokens.remaining_s() < min(MARGIN_S, life / 5)


if TYPE_CHECKING:
    from collections.abc import Callable

    _Judge = Callable[[TokenSet], bool]
