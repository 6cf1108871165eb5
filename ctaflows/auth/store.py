"""Our own token store: one JSON file a profile, 0600 in a 0700 folder, replaced atomically."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from ctaflows.auth.private import locked, write_private
from ctaflows.errors import AuthError

if TYPE_CHECKING:
    import contextlib

    from ctaflows.settings import Settings


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
        When the answer came, seconds since 1970 by the clock here: the end of life is counted
        from it, since the issuer's clock may differ from ours.
    scope, token_type : str
        As the issuer said.
    """

    access_token: str = field(repr=False)
    refresh_token: str | None = field(default=None, repr=False)
    expires_in: float | None = None
    obtained_at: float = 0.0
    scope: str = ""
    token_type: str = "Bearer"  # noqa: S105

    @property
    def expires_at(self) -> float | None:
        """End of life, seconds since 1970 by the clock here, or None if unknown."""
        return None if self.expires_in is None else self.obtained_at + self.expires_in

    def remaining_s(self, now: float | None = None) -> float:
        """Give the seconds left; infinite where the end is unknown."""
        end = self.expires_at
        return float("inf") if end is None else end - (time.time() if now is None else now)


class Store:
    """The stored tokens of one profile.

    Parameters
    ----------
    settings : Settings
        ``config_dir`` and ``profile`` tell the file: ``tokens/<profile>.json``.
    """

    def __init__(self, settings: Settings) -> None:
        self.file = settings.config_dir / "tokens" / f"{settings.profile}.json"

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
                hint="Remove the file and log in again.",
            ) from None

    def write(self, tokens: TokenSet) -> None:
        """Replace the stored tokens, in one step and private from the first byte."""
        write_private(self.file, json.dumps(asdict(tokens)))

    def lock(self) -> contextlib.AbstractContextManager[None]:
        """Hold the store against all other processes and threads of this home."""
        return locked(self.file.with_suffix(".lock"))


def _token_set(values: dict[str, Any]) -> TokenSet:
    """Make tokens of what a file says, or raise ValueError."""
    kinds: dict[str, tuple[type, ...]] = {
        "access_token": (str,),
        "refresh_token": (str, type(None)),
        "expires_in": (int, float, type(None)),
        "obtained_at": (int, float),
        "scope": (str,),
        "token_type": (str,),
    }
    known = {key: values[key] for key in kinds if key in values}
    if not known.get("access_token") or not all(
        isinstance(value, kinds[key]) for key, value in known.items()
    ):
        raise ValueError("no tokens")
    return TokenSet(**known)
