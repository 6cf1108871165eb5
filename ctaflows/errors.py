"""The error tree: what went wrong, where, what the server said, what to do next.

::

    CtaflowsError 1
    ├─ UsageError 2        ├─ NotFound 3          ├─ AlreadyExists 4
    ├─ AuthError 5         TokenMissing · TokenExpired · LoginNeeded · Refused
    ├─ FileOffline 6       Nearline · Staging · Lost
    ├─ IntegrityError 7    SizeMismatch · ChecksumMismatch · Truncated · SourceChanged · NotHDF5
    ├─ StorageError 8      DoorBusy · RateLimited · NoSpace · ListingUnreadable · ProtocolSurprise
    │                      NotTheFile · NoRanges
    ├─ NetworkError 9      ├─ PartialFailure 10 (carries the Report)
    └─ Stopped 130

The number is the exit code of the command line. Every error can be pickled (Prefect and Dask send
them between processes) and passes its text through `redact`, so that none holds a secret.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from ctaflows.model import Report

# A pool URL's dcache-http-uuid is a bearer capability (dCache #3736), `authz` a token in a URL.
_SECRET_QUERY = re.compile(
    r"(?i)\b(authz|dcache-http-uuid|access_token|refresh_token|client_secret)=[^&\s\"'<>]+"
)
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}")
_JWT = re.compile(r"eyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*)?")
# urllib takes all up to the last @ for user and password
_USERINFO = re.compile(r"(?i)\b([a-z][a-z0-9+.-]{0,30}://)[^/\s]*@")


def printable(text: str) -> str:
    """Replace control characters: what a server or a file's name says must not steer a terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in text)


def redact(text: str) -> str:
    """Take tokens, secrets and pool capabilities out of a text.

    Parameters
    ----------
    text : str
        Any text that may end in a message, a log or a report.

    Returns
    -------
    str
        The same text with each secret replaced by ``[redacted]``.
    """
    text = _SECRET_QUERY.sub(r"\1=[redacted]", text)
    text = _BEARER.sub(r"\1 [redacted]", text)
    text = _JWT.sub("[redacted]", text)
    return _USERINFO.sub(r"\1[redacted]@", text)


class CtaflowsError(Exception):
    """Base of all errors that ctaflows raises on purpose.

    Parameters
    ----------
    what : str
        What went wrong, a clause without a full stop.
    where : str, optional
        The path or URL concerned.
    said : str, optional
        What the server (or the system) said about it.
    hint : str, optional
        What to do next, a whole sentence.
    status : int, optional
        HTTP status, where there was one.
    retry_after_s : float, optional
        Seconds the server asked to wait.
    """

    exit_code = 1
    #: May the same call succeed later without anybody doing anything?
    retryable = False
    #: Did it happen when the headers of an answer had come? Then its reader decides what follows.
    in_body = False
    default_hint: str | None = None

    def __init__(
        self,
        what: str,
        *,
        where: str | None = None,
        said: str | None = None,
        hint: str | None = None,
        status: int | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        self.what = printable(redact(what))
        self.where = printable(redact(where)) if where else None
        self.said = printable(redact(said)) if said else None
        self.hint = redact(hint) if hint else self.default_hint
        self.status = status
        self.retry_after_s = retry_after_s
        super().__init__(str(self))

    def __str__(self) -> str:
        text = self.what
        if self.where:
            text += f": {self.where}"
        if self.said:
            text += f" (said: {self.said})"
        return text

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.__dict__.copy()))


def error_text(error: BaseException) -> str:
    """Write an error as it stands in reports: ``ErrorClass: message``."""
    return f"{type(error).__name__}: {redact(str(error))}"


def _rebuild(kind: type[CtaflowsError], state: dict[str, Any]) -> CtaflowsError:
    """Make an error again after pickling, whatever its class's own arguments are."""
    error = kind.__new__(kind)
    error.__dict__.update(state)
    error.args = (str(error),)
    return error


class UsageError(CtaflowsError):
    """The call itself is wrong: an argument, an option, a setting."""

    exit_code = 2


class NotFound(CtaflowsError):
    """There is nothing at that path."""

    exit_code = 3


class AlreadyExists(CtaflowsError):
    """There is something at that path, and it was not to be replaced."""

    exit_code = 4


class AuthError(CtaflowsError):
    """Who we are, or what we may do, was not accepted."""

    exit_code = 5


class TokenMissing(AuthError):
    """No token was found in any of the places where one is looked for."""

    default_hint = "Log in: ctaflows token login. Or set BEARER_TOKEN or BEARER_TOKEN_FILE."


class TokenExpired(AuthError):
    """The token's life is over and it could not be renewed."""

    default_hint = "Log in again: ctaflows token login."


class LoginNeeded(AuthError):
    """The issuer refuses to renew the token: only a person can log in again."""

    default_hint = "Log in again: ctaflows token login."


class Refused(AuthError):
    """The server knows who we are and says no."""


class FileOffline(CtaflowsError):
    """The file is known but its bytes are not on disk now."""

    exit_code = 6


class Nearline(FileOffline):
    """The file is on tape and must be staged first."""


class Staging(FileOffline):
    """The storage is still bringing the file to disk (202)."""

    retryable = True
    in_body = True


class Lost(FileOffline):
    """The storage says that the file's bytes are lost or unavailable."""


class IntegrityError(CtaflowsError):
    """The bytes are not those that were promised."""

    exit_code = 7


class SizeMismatch(IntegrityError):
    """More or fewer bytes than promised."""


class ChecksumMismatch(IntegrityError):
    """The checksum of the whole file differs from the storage's own."""


class Truncated(IntegrityError):
    """The file (or the answer) ends before its end."""


class SourceChanged(IntegrityError):
    """The file at the storage was replaced while it was read."""


class NotHDF5(IntegrityError):
    """The file's name says HDF5, its first bytes say something else."""


class StorageError(CtaflowsError):
    """The storage could not do it."""

    exit_code = 8


class DoorBusy(StorageError):
    """The door is overloaded or failing for now (408, 500, 502 to 504)."""

    retryable = True


class RateLimited(StorageError):
    """The door asks to come back later (429)."""

    retryable = True


class NoSpace(StorageError):
    """No space or no quota is left, there (507) or here (ENOSPC)."""


class ListingUnreadable(StorageError):
    """The listing can't be trusted: the door shows an unreadable directory as an empty one."""


class ProtocolSurprise(StorageError):
    """The server did something that no rule allows for."""


class NoRanges(ProtocolSurprise):
    """The server answers a request for a range with the whole file."""


class NotTheFile(ProtocolSurprise):
    """An answer holds something else than the file, or the part of it, that was asked for."""

    retryable = True
    in_body = True


class NetworkError(CtaflowsError):
    """The server could not be reached, or the connection broke."""

    exit_code = 9
    retryable = True


class Stopped(CtaflowsError):
    """The work was asked to stop, as by Ctrl-C; what came so far is kept."""

    exit_code = 130


class PartialFailure(CtaflowsError):
    """Some files of many failed; the rest is done.

    Parameters
    ----------
    what : str
        What went wrong, with figures.
    report : Report or NightReport
        The result of each file.
    **where_and_hint : Any
        As for `CtaflowsError`.
    """

    exit_code = 10

    def __init__(self, what: str, *, report: Any, **where_and_hint: Any) -> None:
        super().__init__(what, **where_and_hint)
        self.report = report

    @classmethod
    def of(cls, report: Report, *, hint: str | None = None) -> Self:
        """Make the error that tells how many of a report's files failed."""
        n_failed, n_all = len(report.failed), len(report.transfers)
        first = report.failed[0]
        return cls(
            f"{n_failed} of {n_all} files failed, the first: {first.path}: {first.error}",
            report=report,
            hint=hint or "The same command again goes on with the files that failed.",
        )
