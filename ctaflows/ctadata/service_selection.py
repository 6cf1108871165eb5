"""Which service a call is for: the platform's download service, or the storage itself.

ctadata 0.5 and 0.6 knew the download service under the names that 0.7 gave to the storage.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any

from ctaflows.ctadata.api import APIClient
from ctaflows.ctadata.errors import TokenError
from ctaflows.errors import UsageError

if TYPE_CHECKING:
    from ctaflows.ctadata.direct.api import APIClient as DirectClient

log = logging.getLogger("ctaflows.ctadata")

_SETTINGS = ("token", "downloadservice", "certificateservice", "chunk_size")


def client(settings: dict[str, Any]) -> APIClient | DirectClient:
    """Make the client that a call with these settings is for.

    Parameters
    ----------
    settings : dict
        Keyword arguments of the call that are none of the function's own; None does not count.
    """
    given = {key: value for key, value in settings.items() if value is not None}
    dev_instance = bool(given.pop("dev_instance", False))
    if dev_instance:
        _refuse(given)
        return _direct(dev_instance=True)
    if given or has_hub_token() or os.environ.get("CTADS_URL") or _is_set("downloadservice"):
        return platform_client(given)
    log.info("no JupyterHub token: asking the storage itself")
    return _direct(dev_instance=False)


def platform_client(settings: dict[str, Any]) -> APIClient:
    """Make a client of the platform's services.

    Raises
    ------
    TypeError
        A setting that does not exist.
    """
    given = {key: value for key, value in settings.items() if value is not None}
    _refuse({key: value for key, value in given.items() if key not in _SETTINGS})
    made = APIClient()
    for key, value in given.items():
        setattr(made, key, value)
    return made


def has_hub_token() -> bool:
    """Return whether a JupyterHub token is given for all calls."""
    try:
        return bool(APIClient().token)
    except TokenError:
        return False


def has_door_token(profile: str | None = None) -> bool:
    """Return whether there is a token of the storage, valid or expired, or a stored login."""
    from ctaflows import settings as _settings
    from ctaflows.auth import tokens
    from ctaflows.auth.prefect_blocks import store_for
    from ctaflows.auth.tokens import discover

    settings = _settings.load(profile)
    if settings.token_source.startswith("block:"):
        return True
    if settings.token_source != "store" and discover() is not None:  # noqa: S105
        return True
    if settings.token_source != "environment" and store_for(settings).read() is not None:  # noqa: S105
        return True
    return tokens.discover_ctadata(settings.profile, {}) is not None


def _direct(*, dev_instance: bool) -> DirectClient:
    from ctaflows.ctadata.direct.api import APIClient as DirectClient

    return DirectClient(dev_instance=dev_instance)


def _is_set(name: str) -> bool:
    """Return whether a program has replaced a class attribute."""
    return isinstance(vars(APIClient).get(name), str)


def _refuse(unknown: dict[str, Any]) -> None:
    if unknown:
        raise UsageError(
            f"There is no such setting here: {', '.join(unknown)}",
            hint=f"Settings are {', '.join(_SETTINGS)}, or dev_instance alone.",
        )
