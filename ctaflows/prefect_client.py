"""Prefect's client as ctaflows uses it, and its errors as ours.

Prefect is imported only within the functions here.
"""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any

from ctaflows.errors import (
    AlreadyExists,
    CtaflowsError,
    NetworkError,
    NotFound,
    ProtocolSurprise,
    Refused,
    UsageError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

#: So long the server is waited for before a run begins, seconds.
ANSWER_S = 20.0
_CAN_NOT_ANSWER = frozenset({408, 429, 500, 502, 503, 504})
_HINT = "Is the Prefect server there? See PREFECT_API_URL, and `prefect config view`."

# -- errors ----------------------------------------------------------------------------------------


def prefect_error(
    why: BaseException, what: str, *, where: str | None = None, hint: str = _HINT
) -> CtaflowsError | None:
    """Return our error for one of Prefect's client, None for any other.

    What the server says is left out: it may repeat what was sent to it.

    Parameters
    ----------
    why : BaseException
        What was raised. Prefect 3.9.1 raises httpx's errors, and a RuntimeError in place of those
        that its first request meets (client/orchestration: raise_for_api_version_mismatch).
    what : str
        What can't be done, a clause.
    where : str, optional
        The object at the server; None means the server's address.
    hint : str
        What to do where no server answers.
    """
    where = where or server_url()
    chain = _chain(why)
    is_first_request = isinstance(why, RuntimeError) and str(why).startswith("Failed to reach API")
    status = next(filter(None, map(_status, chain)), None)
    if _is_of_client(why) or is_first_request:
        cause = next(filter(_is_of_client, chain), chain[-1])
        said = f"{type(cause).__name__} {status or ''}".strip()
        if status in (401, 403):
            return Refused(
                f"{what}: the Prefect server refuses us",
                where=where,
                said=said,
                hint=f"Set PREFECT_API_KEY or PREFECT_API_AUTH_STRING to what it wants. {hint}",
                status=status,
            )
        if type(cause).__name__ in ("InvalidURL", "UnsupportedProtocol"):
            said = str(cause)
            hint = "Mend PREFECT_API_URL: http://host:4200/api"
            return UsageError(f"{what}: this is no address", where=where, said=said, hint=hint)
        if status in _CAN_NOT_ANSWER or (status is None and _is_of_client(cause)):
            if type(cause).__name__ == "ConnectError":  # its text is the system's
                said += f": {cause}"
            return NetworkError(
                f"{what}: no Prefect server answers",
                where=where,
                said=said,
                hint=hint,
                status=status,
            )
        return ProtocolSurprise(
            f"{what}: what answers is no Prefect API, or of another version",
            where=where,
            said=said,
            hint=hint,
            status=status,
        )
    return _other_error(why, what, where, hint)


def _other_error(
    why: BaseException, what: str, where: str | None, hint: str
) -> CtaflowsError | None:
    """Return our error for one that Prefect itself makes up."""
    name = type(why).__name__
    if isinstance(why, RuntimeError) and "ephemeral Prefect API server" in str(why):
        hint = f"Is the machine very busy, or PREFECT_HOME not writable? {hint}"
        said = str(why).partition(" stdout:")[0]
        return NetworkError(
            f"{what}: the temporary server does not start", where=where, said=said, hint=hint
        )
    if isinstance(why, RuntimeError) and str(why).startswith("Found incompatible versions"):
        hint = "Install a Prefect of the server's major version."
        return UsageError(f"{what}: the server's version differs", said=str(why), hint=hint)
    if not type(why).__module__.startswith("prefect.exceptions"):
        return None
    if name == "ObjectNotFound":
        return NotFound(f"{what}: the server has no such thing", where=where, said=name, hint=hint)
    if name == "ObjectAlreadyExists":
        return AlreadyExists(f"{what}: it is there already", where=where, said=name)
    if name in ("ParameterTypeError", "ParameterBindError", "SignatureMismatchError"):
        return UsageError(f"{what}: a parameter can't be used", said=str(why))
    return None


@contextlib.contextmanager
def prefect_errors(what: str, *, where: str | None = None, hint: str = _HINT) -> Iterator[None]:
    """Turn the errors of requests to Prefect's server into ours; parameters as of `prefect_error`.

    Raises
    ------
    Refused, NetworkError, NotFound, AlreadyExists, UsageError
        The server wants a login; it does not answer; it has no such object, has it already; its
        address is none.
    ProtocolSurprise
        Something else answers, or a server of another version.
    """
    try:
        yield
    except CtaflowsError:
        raise
    except Exception as why:
        error = prefect_error(why, what, where=where, hint=hint)
        if error is None and isinstance(why, ValueError):  # an answer that can't be understood
            said = type(why).__name__
            error = ProtocolSurprise(what, where=where or server_url(), said=said, hint=hint)
        if error is None:
            raise
        raise error from None


def _chain(why: BaseException) -> list[BaseException]:
    """Return an error and its causes."""
    chain = [why]
    while (cause := chain[-1].__cause__) is not None and cause not in chain:
        chain.append(cause)
    return chain


def _status(why: BaseException) -> int | None:
    status = getattr(getattr(why, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def _is_of_client(why: BaseException) -> bool:
    """Is it one of httpx, of Prefect's for an HTTP status, or of a socket?"""
    if isinstance(why, ConnectionError | TimeoutError):
        return not isinstance(why, BrokenPipeError)  # that of our own output
    return any(kind.__module__.partition(".")[0] == "httpx" for kind in type(why).__mro__)


def server_url() -> str | None:
    """Return the address of the server that is configured, None where Prefect is not in use yet."""
    settings = sys.modules.get("prefect.settings")
    url = settings.PREFECT_API_URL.value() if settings is not None else None
    return str(url) if url else None


# -- the client ------------------------------------------------------------------------------------


def check_server(what: str, hint: str) -> None:
    """Raise if no Prefect server answers at the address that is configured; parameters as above.

    It is asked once and not waited for as long as Prefect does, which tries for minutes. The answer
    is one that a run needs: in this process it is not asked for again.
    """
    try:
        import prefect.context  # noqa: F401  reads all settings
    except ValueError as why:  # pydantic's; its text repeats the values, an API key among them
        told: Any = getattr(why, "errors", list)
        raise UsageError(
            f"{what}: Prefect's settings can't be used",
            said="; ".join(str(error["msg"]) for error in told()),
            hint="Mend the variables PREFECT_…, such as PREFECT_API_URL, or Prefect's profile.",
        ) from None
    if server_url() is None:
        return
    with (
        setting("api", "request_timeout", ANSWER_S),
        prefect_errors(what, hint=hint),
        impatient_client() as client,
    ):
        client.raise_for_api_version_mismatch_once()


@contextlib.contextmanager
def impatient_client() -> Iterator[Any]:
    """Yield a client of Prefect's server that does not retry; the usual one does for a minute."""
    from prefect.client.orchestration import get_client

    with setting("client", "max_retries", 0), get_client(sync_client=True) as client:
        yield client


@contextlib.contextmanager
def setting(group: str, name: str, value: Any) -> Iterator[None]:
    """Change one of Prefect's settings within a block, such as ``client.max_retries``.

    Prefect's own `temporary_settings` loads all settings again from environment and files, which
    takes 0.2 s of CPU (prefect 3.9.1, settings/models/root.py: copy_with_update).
    """
    from prefect.context import SettingsContext, get_settings_context

    now = get_settings_context()
    changed = getattr(now.settings, group).model_copy(update={name: value})
    settings = now.settings.model_copy(update={group: changed})
    with SettingsContext(profile=now.profile, settings=settings):
        yield
