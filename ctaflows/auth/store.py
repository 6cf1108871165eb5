"""Our own token store: one JSON file a profile, 0600 in a 0700 folder, replaced atomically."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from ctaflows.errors import AuthError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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
            values: dict[str, Any] = json.loads(self.file.read_text(encoding="utf-8"))
            return TokenSet(**{k: values[k] for k in TokenSet.__dataclass_fields__ if k in values})
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, AttributeError) as why:
            raise AuthError(
                "The token store can't be read",
                where=str(self.file),
                said=type(why).__name__,
                hint="Remove the file and log in again.",
            ) from None

    def write(self, tokens: TokenSet) -> None:
        """Replace the stored tokens, in one step and private from the first byte."""
        self._make_folder()
        temporary = self.file.with_name(f".{self.file.name}.{os.getpid()}.{time.monotonic_ns()}")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        try:
            with os.fdopen(os.open(temporary, flags, 0o600), "w", encoding="utf-8") as stream:
                json.dump(asdict(tokens), stream)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(self.file)
        finally:
            temporary.unlink(missing_ok=True)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the store against all other processes and threads of this home."""
        self._make_folder()
        path = self.file.with_suffix(".lock")
        with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield

    def _make_folder(self) -> None:
        folder: Path = self.file.parent
        folder.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
