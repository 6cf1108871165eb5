"""One door for each profile and process, shared by all that happens in it."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ctaflows import settings as _settings
from ctaflows.auth.renewal import TokenProvider
from ctaflows.storage.webdav import WebDAVStorage

if TYPE_CHECKING:
    from ctaflows.settings import Settings

_doors: dict[tuple[int, int], tuple[Settings, WebDAVStorage]] = {}
_lock = threading.Lock()


def connect(profile: str | None = None, **flags: Any) -> WebDAVStorage:
    """Give the door of a profile.

    The settings are read at each call; the connections are kept as long as the settings stay the
    same. A process made by fork gets a door of its own, since sockets can't be shared.

    Parameters
    ----------
    profile : str, optional
        See `settings.load`.
    **flags : Any
        Settings that win over all others, such as ``transfers``; those that are None do not count.
    """
    settings = _settings.load(profile, **flags)
    key = (os.getpid(), hash(settings))
    with _lock:
        if key not in _doors or _doors[key][0] != settings:
            _doors[key] = (settings, WebDAVStorage(settings, TokenProvider(settings)))
        return _doors[key][1]


def reconnect(door: WebDAVStorage, n_transfers: int) -> WebDAVStorage:
    """Give a door to the same place for a process made by fork, since sockets can't be shared.

    Parameters
    ----------
    door : WebDAVStorage
        That of the first process.
    n_transfers : int
        How many files the new one may move at once.
    """
    settings = replace(door.settings, transfers=n_transfers)
    return WebDAVStorage(settings, TokenProvider(settings)).told_by(door)
