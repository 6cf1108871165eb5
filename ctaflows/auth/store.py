"""Our own token store: one JSON file a profile, 0600 in a 0700 folder, replaced atomically.

Beside it ``<profile>.token`` holds the bare access token, for ``BEARER_TOKEN_FILE`` of other tools.
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
    locked,
    read_private,
    remove_left,
    remove_private,
    write_private,
)
from ctaflows.auth.tokens import claims
from ctaflows.errors import AuthError, CtaflowsError, UsageError

if TYPE_CHECKING:
    from ctaflows.settings import Settings

log = logging.getLogger("ctaflows.auth")

#: Clocks of machines that share a home may differ by this much, seconds.
_CLOCK_S = 60.0
#: Tokens of a person in a hundred groups take half of it.
_ROOM_BYTES = 32 << 10


@dataclass(frozen=True, slots=True)
class TokenSet:
    """What an issuer gave.

    Attributes
    ----------
    access_token, refresh_token : str, str or None
        The tokens; never shown by ``repr``.
    expires_in : float or None
        Life in seconds, as the issuer said it.
    obtained_at : float
        When it was asked for, seconds since 1970 by the clock here: the end of life is counted
        from it, since the issuer's clock may differ from ours.
    scope, token_type : str
        As the issuer said.
    refused : str or None
        What the issuer said when it would not take the refresh token: it is not asked again.
    issuer, client_id : str or None
        Whose they are: no other issuer may see the refresh token. None where that is not known.
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

    @property
    def expires_at(self) -> float | None:
        """End of life, seconds since 1970 by the clock here, or None if unknown."""
        return None if self.expires_in is None else self.obtained_at + self.expires_in

    def remaining_s(self, now: float | None = None) -> float:
        """Give the seconds left; infinite where the end is unknown, never more than the life."""
        if self.expires_in is None:
            return float("inf")
        age_s = (time.time() if now is None else now) - self.obtained_at
        return self.expires_in - max(age_s, 0.0)

    def is_short(self, margin_s: float, fraction: float = 0.2) -> bool:
        """Is less than a margin left, or than a fraction of its life if that is less?"""
        if self.expires_in is None:
            return False
        if self.obtained_at > time.time() + _CLOCK_S:  # the clock was put back: how old is it?
            return True
        return self.remaining_s() < min(margin_s, fraction * self.expires_in)

    def owner(self) -> tuple[str | None, str | None]:
        """Give issuer and client: as noted, else as the access token claims, None if unknown.

        A file of ctaflows 0.1.0 has no note of them.
        """
        said = claims(self.access_token)
        client = said.get("azp") or said.get("client_id")
        issuer = self.issuer or said.get("iss")
        client = self.client_id or client
        return (
            issuer.rstrip("/") if isinstance(issuer, str) else None,
            client if isinstance(client, str) else None,
        )

    def belongs_to(self, settings: Settings) -> bool:
        """Is this the login of the settings' issuer and client, as far as is known?"""
        issuer, client = self.owner()
        is_issuer = issuer in (None, settings.issuer_url.rstrip("/"))
        return is_issuer and client in (None, settings.client_id)

    def check_owner(self, settings: Settings, where: str) -> None:
        """Raise AuthError if these are another issuer's, or another client's, than the settings'.

        Parameters
        ----------
        settings : Settings
            ``issuer_url``, ``client_id``.
        where : str
            Where the tokens are kept.
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
        ``config_dir`` and ``profile`` tell the file: ``tokens/<profile>.json``.

    Attributes
    ----------
    file, bare_file : Path
        The store, and the file with the bare access token.
    """

    def __init__(self, settings: Settings) -> None:
        folder = settings.config_dir / "tokens"
        self.file = folder / f"{settings.profile}.json"
        self.bare_file = folder / f"{settings.profile}.token"

    def read(self) -> TokenSet | None:
        """Give the stored tokens, or None where there are none.

        Raises
        ------
        AuthError
            The file is there but can't be read.
        """
        return self.kept()

    def kept(self) -> TokenSet | None:
        """Give what the file here says, whatever else the store looks at; as for `read`."""
        try:
            return _token_set(json.loads(self.file.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, AttributeError, RecursionError) as why:
            raise AuthError(
                "The token store can't be read",
                where=str(self.file),
                said=type(why).__name__,
                hint="Remove the file and log in again: ctaflows token login.",
            ) from None

    def make_room(self) -> Room:
        """Make sure of the room for the next tokens: a refresh token is good once.

        Only to be called by who holds the lock.

        Raises
        ------
        UsageError
            There is none; what is stored stands.
        """
        self._remove_left()
        try:
            return Room(self.file, _ROOM_BYTES)
        except UsageError as why:
            raise UsageError(
                "New tokens could not be kept, so the issuer was not asked for any",
                where=why.where,
                said=why.said,
                hint=why.hint,
            ) from None

    def write(self, tokens: TokenSet, room: Room | None = None) -> None:
        """Replace the stored tokens, in one step and private from the first byte.

        Only to be called by who holds the lock.

        Parameters
        ----------
        tokens : TokenSet
            The tokens.
        room : Room, optional
            What `make_room` gave.
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
        """Replace the bare file; the login is kept without it, and `mend` tries again."""
        try:
            write_private(self.bare_file, tokens.access_token + "\n")
        except UsageError as why:
            log.warning("The file with the token for other tools is behind: %s", why)

    def _remove_left(self) -> None:
        for file in (self.file, self.bare_file):
            remove_left(file)

    def mend(self, tokens: TokenSet) -> None:
        """Put the bare file right, which a kill may have left one token behind."""
        if read_private(self.bare_file) == tokens.access_token:
            return
        with contextlib.suppress(CtaflowsError), self.lock(wait_s=0):
            now = self.read()  # another process may have renewed, or logged out, since
            if now is not None:
                write_private(self.bare_file, now.access_token + "\n")

    def remove(self) -> None:
        """Forget the tokens."""
        for file in (self.file, self.bare_file):
            remove_private(file)

    def lock(self, wait_s: float = 60.0) -> contextlib.AbstractContextManager[None]:
        """Hold the store against all other processes and threads of this home.

        Parameters
        ----------
        wait_s : float
            How long to wait for another one that holds it.

        Raises
        ------
        Busy
            It is held longer.
        """
        return locked(self.file.with_suffix(".lock"), wait_s)


def _token_set(values: dict[str, Any]) -> TokenSet:
    """Make tokens of what a file says, or raise ValueError."""
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
