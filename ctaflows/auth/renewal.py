"""Renewal of tokens: a token that is about to expire is refreshed here, and only here."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from ctaflows import cancel
from ctaflows.atomic_files import LockTimeout
from ctaflows.auth import prefect_blocks, secret, tokens
from ctaflows.auth.oidc import Issuer, log_in, with_deadline
from ctaflows.auth.prefect_blocks import store_for
from ctaflows.auth.tokens import FoundToken, TokenInfo, describe, discover
from ctaflows.errors import (
    CtaflowsError,
    LoginNeeded,
    ProtocolSurprise,
    TokenExpired,
    TokenMissing,
)
from ctaflows.retry import Retries

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from ctaflows.auth.oidc import DeviceLogin
    from ctaflows.auth.store import TokenSet
    from ctaflows.settings import Settings

log = logging.getLogger("ctaflows.auth")

#: A token is renewed when less than this is left, seconds, or than a fifth of its lifetime.
MARGIN_S = 60.0
#: Total time of one renewal with all its tries, seconds; others wait for the lock as long.
DEADLINE_S = 45.0
#: Pause after a renewal that failed while the old token holds, seconds.
_PAUSE_S = 10.0


class TokenProvider:
    """A `transport.TokenSource` over the environment, our store and the files of other programs.

    Of all processes and threads that share the store one renews at a time; the others then read
    what it stored.

    Parameters
    ----------
    settings : Settings
        Profile, issuer and client. ``token_source`` is where tokens are looked for: ``auto`` (the
        environment, the store, ctadata's files, in this order), ``environment``, ``store`` or
        ``block:NAME``.
    deadline_s : float
        Total time of one renewal, seconds.
    """

    def __init__(self, settings: Settings, *, deadline_s: float = DEADLINE_S) -> None:
        self._settings = settings
        self._deadline_s = deadline_s
        self._not_before = 0.0
        self._looked_at: tuple[str, datetime | None] = ("", None)
        self.store = store_for(settings)

    def token(self) -> str:
        """Return an access token that is valid now, renewed if it is about to expire.

        Raises
        ------
        TokenMissing
            No token was found.
        TokenExpired
            The token has expired and can't be renewed.
        LoginNeeded
            The issuer does not accept the refresh token.
        """
        found = self._others()
        if found is None:
            return self.ensure_valid(MARGIN_S).access_token
        if found.value != self._looked_at[0]:  # asked for each of thousands of files
            self._looked_at = (found.value, describe(found, refreshable=False).expires_at)
        end = self._looked_at[1]
        if end is not None and (left_s := end.timestamp() - time.time()) <= 0:
            raise TokenExpired(
                f"The token expired {-left_s:.0f} s ago",
                where=found.source,
                hint=f"Renew or unset {found.source}, or log in: ctaflows token login.",
            )
        return found.value

    def renew(self, rejected: str) -> str | None:
        """Return another token than one that a server rejected, or None where there is none.

        A failure to renew is logged, not raised. A dCache door remembers a failed login for ten
        minutes, and takes a token that it has seen for as long after its end (webdav.properties,
        dCache 12.1; seen with 11.2.5): the token's own end counts here, not what a door answers.
        """
        try:
            if self._settings.token_source.startswith("block:"):
                prefect_blocks.forget_token_block(
                    self._settings.token_source.removeprefix("block:")
                )
            found = self._others()
            if found is not None:
                return found.value if found.value != rejected else None
            return self._renewed(
                lambda t: t.access_token != rejected and t.remaining_s() > 0
            ).access_token
        except CtaflowsError as why:
            log.warning("The token was rejected and can't be renewed: %s", why)
            return None

    def ensure_valid(
        self, margin_s: float, *, fraction: float = 0.2, quiet: bool = True
    ) -> TokenSet:
        """Return the stored tokens, renewed if they expire soon.

        Parameters
        ----------
        margin_s : float
            They are renewed when less than this is left, seconds, or than `fraction` of their
            lifetime if that is less.
        fraction : float
            Fraction of the lifetime.
        quiet : bool
            While the old token is valid, log a failed renewal as a warning, and try again after
            10 s at the earliest. With False it is raised.

        Raises
        ------
        TokenMissing
            No tokens are stored.
        CtaflowsError
            The renewal failed.
        """
        tokens = self._stored()
        if not tokens.is_short(margin_s, fraction):
            self.store.mend(tokens)
            return tokens
        may_wait = quiet and tokens.remaining_s() > 0
        if may_wait and time.monotonic() < self._not_before:
            return tokens
        try:
            return self._renewed(
                lambda t: not t.is_short(margin_s, fraction), wait_s=0.0 if may_wait else None
            )
        except LockTimeout:
            if not may_wait:
                raise
            return tokens  # another process is renewing it
        except CtaflowsError as why:
            self._not_before = time.monotonic() + _PAUSE_S
            tokens = self._stored()
            if not quiet or tokens.remaining_s() <= 0:
                raise
            log.warning("The token can't be renewed, the old one still holds: %s", why)
            return tokens

    def refresh(self) -> TokenInfo:
        """Renew the stored token now and return its description.

        Raises
        ------
        TokenMissing
            No tokens are stored.
        LoginNeeded
            The issuer does not accept the refresh token.
        """
        before = self._stored()
        self._renewed(lambda t: t.access_token != before.access_token)
        return self.stored_info()

    def log_in(
        self, show: Callable[[DeviceLogin], None], *, client_secret: str | None = None
    ) -> TokenInfo:
        """Log in by the device flow, store the tokens, and return their description.

        Parameters
        ----------
        show : Callable
            Shows a person the address and the code to type there.
        client_secret : str, optional
            The client's secret if a person typed it just now; it is stored when the login succeeds.
        """
        settings = self._settings
        if client_secret is not None:
            settings = settings.replace(client_secret=client_secret)
        with contextlib.ExitStack() as rooms:
            with (
                self.store.lock()
            ):  # before the approval is used up: like a refresh token it works once
                room = rooms.enter_context(self.store.make_room())
                secret_room = None
                if client_secret is not None:
                    secret_room = rooms.enter_context(secret.make_room(settings))

            def keep(tokens: TokenSet) -> None:
                with self.store.lock():
                    if not secret.is_ours(settings):
                        secret.forget(settings)
                    self.store.write(tokens, room)
                    if client_secret is not None:
                        secret.keep(settings, client_secret, secret_room)

            log_in(settings, show, keep=keep)
        return self.stored_info()

    def log_out(self) -> bool:
        """Revoke the login at the issuer, if it supports that, and remove it from the store.

        Returns
        -------
        bool
            Was it revoked at the issuer too? A failure is logged, not raised.
        """
        with self.store.lock(required=False):
            try:
                return self._revoke(self._stored())
            finally:
                self.store.remove()
                secret.forget(self._settings)

    def info(self) -> TokenInfo:
        """Return a description of the token that would be used now, without renewing it.

        Raises
        ------
        TokenMissing
            No token was found.
        """
        found = self._others()
        return self.stored_info() if found is None else describe(found, refreshable=False)

    def stored_info(self) -> TokenInfo:
        """Return a description of the stored token."""
        tokens = self._stored()
        return describe(
            FoundToken(tokens.access_token, str(self.store.file)),
            refreshable=tokens.refresh_token is not None
            and tokens.refused is None
            and tokens.belongs_to(self._settings),
            expires_at=tokens.expires_at,
            owner=tokens.owner(),
        )

    def check_owner(self) -> None:
        """Check that the stored login belongs to the settings' issuer and client.

        Raises
        ------
        TokenMissing
            No login is stored.
        AuthError
            It belongs to another issuer or client.
        """
        self._stored().check_owner(self._settings, str(self.store.file))

    def _others(self) -> FoundToken | None:
        """Return a token that is not of our store, or None where the store is to be used.

        The places of WLCG's token discovery come before the store, those of ctadata after it.
        """
        source = self._settings.token_source
        if source == "store":
            return None
        if source.startswith("block:"):
            return prefect_blocks.read_token_block(source.removeprefix("block:"))
        found = discover()
        if found is None and source == "auto" and self.store.read() is None:
            found = tokens.discover_ctadata(self._settings.profile)
        return found

    def _stored(self) -> TokenSet:
        tokens = None
        if self._settings.token_source != "environment":  # noqa: S105
            tokens = self.store.read()
        if tokens is None:
            raise TokenMissing(f"There is no token for profile “{self._settings.profile}”")
        return tokens

    def _renewed(
        self,
        good_enough: Callable[[TokenSet], bool],
        wait_s: float | None = None,
    ) -> TokenSet:
        """Renew under the lock, unless another process has done so meanwhile."""
        with self.store.lock(self._deadline_s if wait_s is None else wait_s):
            tokens = self._stored()
            if good_enough(tokens):
                return tokens
            tokens.check_owner(self._settings, str(self.store.file))
            if tokens.refused is not None:
                raise LoginNeeded(
                    "The issuer will not renew this login",
                    where=str(self.store.file),
                    said=tokens.refused,
                )
            if tokens.refresh_token is None:
                raise TokenExpired(
                    "The stored token can't be renewed: no refresh token is stored with it",
                    where=str(self.store.file),
                )
            with self.store.make_room() as room:
                try:
                    return self._exchanged(
                        tokens.refresh_token, lambda newer: self.store.write(newer, room)
                    )
                except LoginNeeded as why:
                    # stored, so that no process that shares the store asks the issuer again
                    self.store.write(replace(tokens, refused=why.said or "invalid_grant"), room)
                    raise

    def _exchanged(self, refresh_token: str, keep: Callable[[TokenSet], None]) -> TokenSet:
        """Refresh at the issuer until it answers or the time is over, and store the new tokens.

        They are stored before they are used, since the old refresh token may be revoked. A response
        that was lost after the issuer rotated the token looks like one that never was sent: the old
        token is tried again, and ``invalid_grant`` then means that it was rotated.
        """
        ends_at = time.monotonic() + self._deadline_s
        answered, stop = threading.Event(), cancel.current()
        retries = Retries(self._settings, also=(ProtocolSurprise,))  # such as a page of HTML

        def kept(newer: TokenSet) -> None:
            answered.set()
            keep(newer)

        while True:
            left_s = ends_at - time.monotonic()
            try:
                with Issuer(self._settings) as issuer:
                    return with_deadline(
                        max(left_s, 0.1),
                        lambda: issuer.refresh(refresh_token),
                        where=self._settings.issuer_url,
                        stop=issuer.close,
                        keep=kept,
                    )
            except CtaflowsError as why:
                if answered.is_set():  # the refresh token is used up
                    raise
                pause = retries.pause_s(why)
                if pause is None or time.monotonic() + pause >= ends_at:
                    raise
                log.info("%s; asking the issuer again in %.1f s", why, pause)
                if cancel.wait(pause, stop):
                    raise

    def _revoke(self, tokens: TokenSet) -> bool:
        try:
            tokens.check_owner(self._settings, str(self.store.file))
            with Issuer(self._settings) as issuer:
                return with_deadline(
                    self._deadline_s,
                    lambda: issuer.revoke(tokens.refresh_token or tokens.access_token),
                    where=self._settings.issuer_url,
                    stop=issuer.close,
                )
        except CtaflowsError as why:
            log.warning("The login could not be ended at the issuer: %s", why)
            return False
