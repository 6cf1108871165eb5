"""Our own token store: one JSON file a profile, 0600 in a 0700 folder, replaced atomically.

Beside it ``<profile>.token`` holds the bare access token, for ``BEARER_TOKEN_FILE`` of other tools.
"""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from ctaflows.auth.private import locked, read_private, remove_private, write_private
from ctaflows.errors import AuthError, CtaflowsError

if TYPE_CHECKING:
    from ctaflows.settings import Settings


#: Clocks of machines that share a home may differ by this much, seconds.
_CLOCK_S = 60.0


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
    """

    access_token: str = field(repr=False)
    refresh_token: str | None = field(default=None, repr=False)
    expires_in: float | None = None
    obtained_at: float = 0.0
    scope: str = ""
    token_type: str = "Bearer"  # noqa: S105
    refused: str | None = None

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

    def write(self, tokens: TokenSet) -> None:
        """Replace the stored tokens, in one step and private from the first byte."""
        write_private(self.file, json.dumps(asdict(tokens)))
        write_private(self.bare_file, tokens.access_token + "\n")

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
    }
    known = {key: values[key] for key in kinds if key in values}
    if not known.get("access_token") or not all(
        isinstance(value, kinds[key]) for key, value in known.items()
    ):
        raise ValueError("no tokens")
    return TokenSet(**known)
