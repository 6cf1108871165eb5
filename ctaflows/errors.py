"""The exceptions of ctaflows: what went wrong, where, what the server said, what to do next.

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
them between processes). Its texts pass through `redact` whenever they are set: none holds a secret.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from ctaflows.model import Report

# -- what may be shown -----------------------------------------------------------------------------
#
# Of an answer, a URL or a name there is shown: nothing that this process holds or sent as a secret,
# no user, query or fragment of a URL, no control character.

_REDACTED = "[redacted]"
#: Shorter ones would take words out of every text; no issuer gives such.
_SHORTEST_SECRET = 8
#: So much of a secret is taken out where a text was cut off within it.
_SHORTEST_BEGIN = 8
#: A process that keeps a token for weeks has had thousands: those renewed long ago are of no use.
_MOST_SECRETS = 200


class _Secrets:
    """The secrets that this process holds or has sent, each in all the forms that texts have."""

    # nothing that a repr or a traceback with locals would show
    __slots__ = ("_begins", "_forms", "_lock", "_longest_first")

    def __init__(self) -> None:
        self._forms: OrderedDict[str, tuple[str, ...]] = OrderedDict()
        self._longest_first: tuple[str, ...] = ()
        self._begins: dict[str, tuple[str, ...]] = {}
        self._lock = threading.Lock()

    def add(self, secret: str) -> None:
        with self._lock:
            if secret in self._forms:
                self._forms.move_to_end(secret)
                return
            safe = secret.encode("utf-8", "surrogateescape")
            forms = {secret, quote(safe), quote(safe, safe=""), quote_plus(safe)}
            forms.add(secret.replace("/", "\\/"))  # as some servers write JSON
            self._forms[secret] = tuple(forms)
            if len(self._forms) > _MOST_SECRETS:
                self._forms.popitem(last=False)
            forms = {form for of_one in self._forms.values() for form in of_one}
            # one may hold another
            self._longest_first = tuple(sorted(forms, key=len, reverse=True))
            begins: dict[str, list[str]] = {}
            for form in self._longest_first:
                begins.setdefault(form[:_SHORTEST_BEGIN], []).append(form)
            self._begins = {begin: tuple(of_it) for begin, of_it in begins.items()}

    def taken_out(self, text: str) -> str:
        # JWTs begin alike: what does not hold a begin holds none of the secrets with it
        begins = [begin for begin in self._begins if begin in text]
        if not begins:
            return text
        for form in self._longest_first:
            if form in text:
                text = text.replace(form, _REDACTED)
        for begin in begins:
            at = text.rfind(begin)
            if at >= 0 and any(form.startswith(text[at:]) for form in self._begins[begin]):
                text = text[:at] + _REDACTED
        return text


_secrets = _Secrets()

# What the texts hold that this process never had: tokens of other processes, read back from their
# manifests and logs, and what a server makes for itself. A pool URL's dcache-http-uuid is a bearer
# capability (dCache #3736), `authz` a token in a URL.
_FORM_VALUE = re.compile(
    r"(?i)\b(authz|dcache-http-uuid|access_token|refresh_token|client_secret)=[^&\s\"'<>]+"
)
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}")
_JWT = re.compile(r"eyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*)?")
# user and password end at the last @, as for urllib
_USERINFO = re.compile(r"(?i)\b([a-z][a-z0-9+.-]{0,30}://)[^/\s]*@")
_URL = re.compile(r"://[^\s\"'<>]*[^\s\"'<>:;,.]")
_QUERY = re.compile(r"[?#].*")
#: In a text with a URL in it: that of a URL with a blank. Elsewhere it may be a file's name.
_BARE_QUERY = re.compile(r"\?[\w.~%-]+=[^\s\"'<>]*")
_MAX_SAID = 300


def register_secret(secret: str | None) -> None:
    """Have a token, a password or a client's secret taken out of every text, see `redact`.

    To be called where one is obtained, and where one is sent.

    Parameters
    ----------
    secret : str or None
        The secret as it is sent; None where there is none.
    """
    if secret is not None and len(secret) >= _SHORTEST_SECRET:
        _secrets.add(secret)


def printable(text: str) -> str:
    """Replace a text's control characters, by which a server could control a terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in text)


def redact(text: str) -> str:
    """Return what may be shown of an answer, a URL or a name.

    Parameters
    ----------
    text : str
        Any text for a message, a log or a report.

    Returns
    -------
    str
        The same text without secrets of this process (see `register_secret`), without user,
        password, query and fragment of URLs, without what looks like a token, and with no control
        characters but line ends.
    """
    text = _USERINFO.sub(rf"\1{_REDACTED}@", _secrets.taken_out(text))
    before, mark, rest = text.partition("://")
    if mark:
        rest = _URL.sub(lambda url: _QUERY.sub("", url[0]), mark + rest)
        text = before + _BARE_QUERY.sub("", rest)
    text = _FORM_VALUE.sub(rf"\1={_REDACTED}", text)
    text = _BEARER.sub(rf"\1 {_REDACTED}", text)
    return printable(_JWT.sub(_REDACTED, text))


# -- the errors ------------------------------------------------------------------------------------

_TEXTS = frozenset({"what", "where", "said", "hint"})


class CtaflowsError(Exception):
    """Base of all errors that ctaflows raises.

    Parameters
    ----------
    what : str
        What went wrong, a clause without a full stop.
    where : str, optional
        The path or URL concerned.
    said : str, optional
        The reason that the server or the operating system gave.
    hint : str, optional
        What to do next, a whole sentence; by default the class's `default_hint`.
    status : int, optional
        HTTP status, where there was one.
    retry_after_s : float, optional
        Pause that the server asked for by Retry-After, seconds.
    """

    exit_code = 1
    #: May the same request succeed later without any change?
    retryable = False
    #: Was it raised after a response's headers? The reader of the body decides then what to do.
    in_body = False
    #: Was it raised since no token could be had, as where the issuer does not answer?
    lacks_token = False
    default_hint: str | None = None

    what: str = ""
    where: str | None = None
    said: str | None = None
    hint: str | None = None

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
        self.what = what
        self.where = where
        self.said = said
        self.hint = hint or self.default_hint
        self.status = status
        self.retry_after_s = retry_after_s

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in _TEXTS:
            super().__setattr__(name, value)
            return
        text = redact(value) if value else None
        if text and name != "hint":  # a hint may have several lines
            text = text.replace("\n", " ")
        super().__setattr__(name, text[:_MAX_SAID] if text and name == "said" else text)
        self.args = (str(self),)

    def __str__(self) -> str:
        text = self.what or ""
        if self.where:
            text += f": {self.where}"
        if self.said:
            text += f" (said: {self.said})"
        return text

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.__dict__.copy()))


def concerns_all(error: CtaflowsError) -> bool:
    """Return whether any other request would fail alike: stopped, or without an accepted token.

    403 is about one path.
    """
    if isinstance(error, Stopped) or error.lacks_token:
        return True
    return isinstance(error, AuthError) and error.status != 403


def error_text(error: BaseException) -> str:
    """Return an error's text for reports and manifests: ``ErrorClass: message``."""
    return f"{type(error).__name__}: {redact(str(error))}"


def _rebuild(kind: type[CtaflowsError], state: dict[str, Any]) -> CtaflowsError:
    """Return an unpickled error, without a call of its class, whose arguments may differ."""
    error = kind.__new__(kind)
    error.__dict__.update(state)
    error.args = (str(error),)
    return error


class UsageError(CtaflowsError):
    """An argument, an option or a setting is wrong, or a local file can't be used."""

    exit_code = 2


class NotFound(CtaflowsError):
    """There is nothing at the path."""

    exit_code = 3


class AlreadyExists(CtaflowsError):
    """There is something at the path, and it was not to be replaced."""

    exit_code = 4


class AuthError(CtaflowsError):
    """The authentication or the authorization failed."""

    exit_code = 5


class TokenMissing(AuthError):
    """No token was found."""

    default_hint = "Log in: ctaflows token login. Or set BEARER_TOKEN or BEARER_TOKEN_FILE."


class TokenExpired(AuthError):
    """The token has expired and can't be renewed."""

    default_hint = "Log in again: ctaflows token login."


class LoginNeeded(AuthError):
    """The issuer does not renew the token: a person must log in again."""

    default_hint = "Log in again: ctaflows token login."


class Refused(AuthError):
    """Access is denied: the token is not accepted (401) or lacks the right (403)."""


class FileOffline(CtaflowsError):
    """The file exists, but its bytes are not on disk now."""

    exit_code = 6


class Nearline(FileOffline):
    """The file is on tape and must be staged first."""


class Staging(FileOffline):
    """The storage is staging the file from tape to disk (202)."""

    retryable = True
    in_body = True


class Lost(FileOffline):
    """The storage reports that the file's bytes are lost or unavailable."""


class IntegrityError(CtaflowsError):
    """The bytes differ from what the storage announced."""

    exit_code = 7


class SizeMismatch(IntegrityError):
    """The number of bytes differs from the announced size."""


class ChecksumMismatch(IntegrityError):
    """The checksum of the file differs from the storage's."""


class Truncated(IntegrityError):
    """The file or the response ends before its announced length."""


class SourceChanged(IntegrityError):
    """The remote file was replaced while it was read."""


class NotHDF5(IntegrityError):
    """The file has the name of an HDF5 file, but not its first bytes."""


class StorageError(CtaflowsError):
    """The storage could not carry out the request."""

    exit_code = 8


class DoorBusy(StorageError):
    """The server is overloaded or failing for now (408, 500, 502 to 504)."""

    retryable = True


class RateLimited(StorageError):
    """The server asks for fewer requests (429)."""

    retryable = True


class NoSpace(StorageError):
    """No space or quota is left, at the storage (507) or locally (ENOSPC, EDQUOT)."""


class ListingUnreadable(StorageError):
    """The answer is no listing, is incomplete, or says that the directory can't be listed.

    A dCache door shows most directories that it can't list as empty instead, which is no error:
    see `storage.walk.walk`, `on_empty`.
    """


class ProtocolSurprise(StorageError):
    """The server's response breaks the protocol, or is not supported."""


class NoRanges(ProtocolSurprise):
    """The server answers a range request with the whole file."""


class NotTheFile(ProtocolSurprise):
    """A response has something else than the requested file, or range of it."""

    retryable = True
    in_body = True


class NetworkError(CtaflowsError):
    """The server can't be reached, or the connection broke."""

    exit_code = 9
    retryable = True


class Stopped(CtaflowsError):
    """The work was stopped, such as by Ctrl-C; bytes received so far are kept."""

    exit_code = 130


class PartialFailure(CtaflowsError):
    """Some files of several failed; the others succeeded.

    Parameters
    ----------
    what : str
        What went wrong, with numbers.
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
        """Return the error for a report with failed files: their number, and the first."""
        n_failed, n_all = len(report.failed), len(report.transfers)
        first = report.failed[0]
        return cls(
            f"{n_failed} of {n_all} files failed, the first: {first.path}: {first.error}",
            report=report,
            hint=hint or "The same command again goes on with the files that failed.",
        )
