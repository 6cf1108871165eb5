"""One storage for each settings and process, shared by all that happens in it."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

from ctaflows import settings as _settings
from ctaflows.auth.renewal import TokenProvider
from ctaflows.errors import TokenMissing
from ctaflows.storage.webdav import WebDAVStorage

if TYPE_CHECKING:
    from ctaflows.settings import Settings
    from ctaflows.storage.protocol import Storage

_storages: dict[tuple[int, int], tuple[Settings, Storage]] = {}
_lock = threading.Lock()


def connect(profile: str | None = None, **flags: Any) -> Storage:
    """Return the storage of a profile: a WebDAV door, or a platform's download service.

    The settings are read at each call; the connections are kept as long as the settings stay the
    same. A process made by fork gets a storage of its own, since sockets can't be shared.

    Parameters
    ----------
    profile : str, optional
        See `settings.load`; its ``storage`` says which kind it is.
    **flags : Any
        Settings that win over all others, such as ``transfers``; those that are None do not count.

    Raises
    ------
    TokenMissing
        It is a download service, and nobody gave a token of its hub.
    """
    settings = _settings.load(profile, **flags)
    key = (os.getpid(), hash(settings))
    with _lock:
        if key not in _storages or _storages[key][0] != settings:
            _storages[key] = (settings, _connected(settings))
        return _storages[key][1]


def _connected(settings: Settings) -> Storage:
    if settings.storage == "webdav":
        return WebDAVStorage(settings, TokenProvider(settings))
    from ctaflows.storage.download_service import DownloadServiceStorage

    if settings.hub_token is None:
        raise TokenMissing(
            "There is no JupyterHub token",
            where=settings.service_url,
            hint="Set JUPYTERHUB_API_TOKEN to one of the hub's (its control panel, Token), where "
            "the flow runs, or put it into the block.",
        )
    return DownloadServiceStorage(
        settings, settings.service_url, settings.hub_token, chunk_bytes=settings.chunk_bytes
    )
