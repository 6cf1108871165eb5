"""The token store: a JSON file for each profile, mode 0600 in a 0700 folder, replaced atomically.

Beside it ``<profile>.token`` has only the access token: other tools read it if
``BEARER_TOKEN_FILE`` names it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from ctaflows.atomic_files import (
    Room,
    local_error,
    locked,
    read_private,
    remove_left,
    remove_private,
    write_private,
)
from ctaflows.auth.tokens import claims
from ctaflows.errors import AuthError, CtaflowsError, register_secret

if TYPE_CHECKING:
    from ctaflows.settings import Settings

log = logging.getLogger("ctaflows.auth")

#: Clocks of machines that share a home directory may differ by this much, seconds.
_CLOCK_S = 60.0
#: Space reserved for new tokens; those of a person in a hundred groups take half of it.
_ROOM_BYTES = 32 << 10
_UNREADABLE = "The token store can't be read"


@dataclass(frozen=True, slots=True)
class TokenSet:
    """The tokens of an issuer's token response (RFC 6749 §5.1), as they are stored.

    Attributes
    ----------
    access_token, refresh_token : str, str or None
        The tokens; not shown by ``repr``.
    expires_in : float or None
        Lifetime of the access token in the issuer's response, seconds; None where it has none.
    obtained_at : float
        Time of the request, seconds since 1970 by the local clock. The lifetime is counted from
        it, since the issuer's clock may differ.
    scope, token_type : str
        As in the response.
    refused : str or None
        The issuer's text when it did not accept the refresh token, which is not sent again; else
        None.
    issuer, client_id : str or None
        The issuer's URL and the OAuth 2.0 client; the refresh token is sent to no other issuer.
        None where that is not known.
    """

    access_token: str = field(repr=False)
    refresh_token: str | None = field(default=None, repr=False)
    expires_in: float | None = None
    obtained_at: float = 0.0
    scope: str = ""
    token_type: str = "Bearer"  # noqa: S105
    refused: str | None = None
    issuer: str | None = None
    client_id: str | None = None

    def __post_init__(self) -> None:
        register_secret(self.access_token)
        register_secret(self.refresh_token)

    @property
    def expires_at(self) -> float | None:
        """Expiry time, seconds since 1970 by the local clock; None if unknown."""
        return None if self.expires_in is None else self.obtained_at + self.expires_in

    def remaining_s(self, now: float | None = None) -> float:
        """Return the seconds until expiry: infinite if unknown, never more than the lifetime."""
        if self.expires_in is None:
            return float("inf")
        age_s = (time.time() if now is None else now) - self.obtained_at
        return self.expires_in - max(age_s, 0.0)

    def is_short(self, margin_s: float, fraction: float = 0.2) -> bool:
        """Return whether the token should be renewed.

        Parameters
        ----------
        margin_s : float
            It should when less than this is left, seconds, or than `fraction` of the lifetime if
            that is less.
        fraction : float
            Fraction of the lifetime.
        """
        if self.expires_in is None:
            return False
        if self.obtained_at > time.time() + _CLOCK_S:  # the clock was put back: the age is unknown
            return True
        return self.remaining_s() < min(margin_s, fraction * self.expires_in)

    def owner(self) -> tuple[str | None, str | None]:
        """Return issuer and client: as stored, else from the access token's claims, else None.

        Files of ctaflows 0.1.0 do not store them.
        """
        claimed = claims(self.access_token)
        client = claimed.get("azp") or claimed.get("client_id")
        issuer = self.issuer or claimed.get("iss")
        client = self.client_id or client
        return (
            issuer.rstrip("/") if isinstance(issuer, str) else None,
            client if isinstance(client, str) else None,
        )

    def belongs_to(self, settings: Settings) -> bool:
        """Return whether issuer and client are those of the settings, as far as they are known."""
        issuer, client = self.owner()
        is_issuer = issuer in (None, settings.issuer_url.rstrip("/"))
        return is_issuer and client in (None, settings.client_id)

    def check_owner(self, settings: Settings, where: str) -> None:
        """Check that issuer and client are those of the settings.

        Parameters
        ----------
        settings : Settings
            ``issuer_url`` and ``client_id`` are compared.
        where : str
            Where the tokens are stored, for the message.

        Raises
        ------
        AuthError
            The tokens belong to another issuer or another client.
        """
        if self.belongs_to(settings):
            return
        issuer, client = self.owner()
        named = settings.issuer_url.rstrip("/")
        raise AuthError(
            f"The stored login belongs to {issuer or named}, client "
            f"{client or settings.client_id}; the settings name {named}, client "
            f"{settings.client_id}, which was not asked",
            where=where,
            hint="Mend CTAFLOWS_ISSUER_URL and CTAFLOWS_CLIENT_ID, use a profile of its own for "
            "each login, or log in again: ctaflows token login.",
        )


class Store:
    """The stored tokens of one profile.

    Parameters
    ----------
    settings : Settings
        ``config_dir`` and ``profile`` give the file: ``<config_dir>/tokens/<profile>.json``.

    Attributes
    ----------
    file, bare_file : Path
        The store, and the file that has only the access token.
    """

    def __init__(self, settings: Settings) -> None:
        folder = settings.config_dir / "tokens"
        self.file = folder / f"{settings.profile}.json"
        self.bare_file = folder / f"{settings.profile}.token"

    def read(self) -> TokenSet | None:
        """Return the stored tokens, or None where there are none.

        Raises
        ------
        AuthError
            The file exists but can't be read.
        """
        return self.kept()

    def kept(self) -> TokenSet | None:
        """Return the tokens in the local file, even where `read` looks elsewhere too."""
        hint = "Remove the file and log in again: ctaflows token login."
        try:
            return _token_set(json.loads(self.file.read_text(encoding="utf-8")))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as why:
            raise local_error(why, self.file, _UNREADABLE, hint=hint, kind=AuthError) from None
        except (ValueError, TypeError, AttributeError, RecursionError) as why:
            said = type(why).__name__
            raise AuthError(_UNREADABLE, where=str(self.file), said=said, hint=hint) from None

    def make_room(self) -> Room:
        """Reserve disk space for new tokens before the issuer is asked for them.

        An issuer that rotates refresh tokens accepts each only once, so that new tokens which can't
        be written would end the login. The caller must hold the lock.

        Raises
        ------
        NoSpace, UsageError
            There is no space; the stored tokens are unchanged.
        """
        self._remove_left()
        try:
            return Room(self.file, _ROOM_BYTES)
        except CtaflowsError as why:
            why.what = "New tokens could not be kept, so the issuer was not asked for any"
            raise

    def write(self, tokens: TokenSet, room: Room | None = None) -> None:
        """Replace the stored tokens atomically. The caller must hold the lock.

        Parameters
        ----------
        tokens : TokenSet
            The new tokens.
        room : Room, optional
            The space that `make_room` reserved.

        Raises
        ------
        UsageError
            They can't be written; the stored tokens are unchanged.
        """
        self._remove_left()
        self._replace(json.dumps(asdict(tokens)), room)
        self._write_bare(tokens)

    def _replace(self, text: str, room: Room | None) -> None:
        if room is None:
            write_private(self.file, text)
        else:
            room.fill(text)

    def _write_bare(self, tokens: TokenSet) -> None:
        """Replace the bare token file. A failure is only logged: `mend` tries again."""
        try:
            write_private(self.bare_file, tokens.access_token + "\n")
        except CtaflowsError as why:
            log.warning("The file with the token for other tools is behind: %s", why)

    def _remove_left(self) -> None:
        for file in (self.file, self.bare_file):
            remove_left(file)

    def mend(self, tokens: TokenSet) -> None:
        """Write the bare token file if it is out of date, as a killed process may have left it."""
        if read_private(self.bare_file) == tokens.access_token:
            return
        with contextlib.suppress(CtaflowsError), self.lock(wait_s=0):
            now = self.read()  # another process may have renewed, or logged out, since
            if now is not None:
                write_private(self.bare_file, now.access_token + "\n")

    def remove(self) -> None:
        """Remove the stored tokens."""
        for file in (self.file, self.bare_file):
            remove_private(file)

    def lock(
        self, wait_s: float = 60.0, *, required: bool = True
    ) -> contextlib.AbstractContextManager[None]:
        """Lock the store against all other processes and threads that share it.

        Parameters
        ----------
        wait_s : float
            How long to wait for another holder, seconds.
        required : bool
            As for `atomic_files.lock`: a refresh token can be used once.

        Raises
        ------
        LockTimeout
            Another process holds it longer than that.
        NoLocks
            The file system has no locks, and one is required.
        """
        return locked(self.file.with_suffix(".lock"), wait_s, required=required)


def _token_set(values: dict[str, Any]) -> TokenSet:
    """Return the tokens in a store's JSON object, or raise ValueError."""
    kinds: dict[str, tuple[type, ...]] = {
        "access_token": (str,),
        "refresh_token": (str, type(None)),
        "expires_in": (int, float, type(None)),
        "obtained_at": (int, float),
        "scope": (str,),
        "token_type": (str,),
        "refused": (str, type(None)),
        "issuer": (str, type(None)),
        "client_id": (str, type(None)),
    }
    known = {key: values[key] for key in kinds if key in values}
    if not known.get("access_token") or not all(
        isinstance(value, kinds[key]) for key, value in known.items()
    ):
        raise ValueError("no tokens")
    return TokenSet(**known)
