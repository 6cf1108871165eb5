"""The exceptions that ctadata's users catch, with what ours know: hint, exit code, report."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar

from ctaflows.errors import (
    AuthError,
    CtaflowsError,
    LoginNeeded,
    Refused,
    TokenExpired,
)

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
R = TypeVar("R")


class _Compatible(CtaflowsError):
    """Base of those that stand for one of ours."""

    @classmethod
    def of(cls, why: CtaflowsError, *, hint: str | None = None) -> Self:
        """Make the exception that stands for an error of ours."""
        error = cls(
            why.what,
            where=why.where,
            said=why.said,
            hint=hint or why.hint,
            status=why.status,
            retry_after_s=why.retry_after_s,
        )
        error.exit_code = why.exit_code
        error.retryable = why.retryable
        error.report = getattr(why, "report", None)
        return error

    def __init__(self, what: str, **details: Any) -> None:
        super().__init__(what, **details)
        #: The result of each file, where some of many failed.
        self.report: Any = None
        if self.hint:
            self.add_note(self.hint)  # tracebacks in notebooks show it


class DirectApiError(_Compatible):
    """Base of all that the direct API raises."""


class StorageException(DirectApiError):
    """The storage, or the way to it, failed."""

    exit_code = 8


class TokenError(DirectApiError):
    """There is no token that could be used."""

    exit_code = 5


class TokenExpiredError(TokenError):
    """The token's life is over."""


class ClientSecretNotFound(DirectApiError):
    """Nobody gave the OpenID Connect client's secret."""

    exit_code = 5


class CertificateError(_Compatible):
    """A certificate can't be sent, or the service did not take it."""

    exit_code = 2


def as_ctadata(why: CtaflowsError) -> CtaflowsError:
    """Choose the exception by which ctadata's users know an error."""
    if isinstance(why, _Compatible):
        return why
    if isinstance(why, TokenExpired | LoginNeeded):
        return TokenExpiredError.of(why)
    if isinstance(why, AuthError) and not isinstance(why, Refused):
        return TokenError.of(why)
    return StorageException.of(why)


def translated(operation: Callable[P, R]) -> Callable[P, R]:
    """Let an operation raise ctadata's exceptions in place of ours."""

    @functools.wraps(operation)
    def translating(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return operation(*args, **kwargs)
        except _Compatible:
            raise
        except CtaflowsError as why:
            raise as_ctadata(why) from why

    return translating
