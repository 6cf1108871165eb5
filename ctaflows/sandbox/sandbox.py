"""The sandbox: a door, its pool and an issuer on loopback, and a profile with which to use them."""

from __future__ import annotations

import contextlib
import json
import math
import os
import secrets
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ctaflows.sandbox.application import Application
from ctaflows.sandbox.door import Door
from ctaflows.sandbox.faults import Clock, Fault, FaultBook, PoolState
from ctaflows.sandbox.issuer import REALM, Issuer
from ctaflows.sandbox.messages import RequestLog
from ctaflows.sandbox.pool import Pool, PoolUrls
from ctaflows.sandbox.quirks import Quirks
from ctaflows.sandbox.server import LOOPBACK, Certificates, LoopbackServer
from ctaflows.sandbox.storage import UPLOADING, Storage
from ctaflows.sandbox.tokens import SCOPE, SUBJECT, Client, Logins, Tokens
from ctaflows.settings import Settings

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable

    from ctaflows.sandbox.messages import Request, Response

    _Handle = Callable[[Request], Response]
    _Note = Callable[[Request, Response], None]

_PROFILE = "sandbox"
_STORED = ("access_token", "refresh_token", "expires_in", "scope", "token_type")


class Sandbox:
    """A dCache-like door, its pool and an OpenID Connect issuer on 127.0.0.1.

    The servers run from construction until the ``with`` block is left or `close` is called.

    Parameters
    ----------
    root : Path or str, optional
        Folder for all files, kept at the end; by default a temporary one.
    quirks : Quirks, optional
        Which peculiarities of dCache and Keycloak to imitate.
    faults : iterable of Fault or str, optional
        Faults to inject, see `ctaflows.sandbox.parse`.
    token_lifetime_s : float, optional
        Lifetime of an access token, seconds.
    ports : tuple of int, optional
        Ports of door, pool and issuer; 0 means any free one.
    host : str, optional
        Host name of the servers.

    Attributes
    ----------
    door_url, pool_url, issuer_url : str
        URLs of the servers, without a trailing slash.
    ca_file : Path
        CA certificate in PEM.
    storage : Path
        Folder that is the door's ``/``; files may be read and written directly.
    work_dir, config_dir : Path
        Folder of all files; folder to use as ``CTAFLOWS_CONFIG_DIR``.
    client_id, client_secret : str
        Credentials of the issuer's client.
    requests : RequestLog
        All requests so far.
    faults : FaultBook
        Faults still to be injected.

    Raises
    ------
    UsageError
        There is no such fault, or a port is taken.
    """

    def __init__(
        self,
        root: Path | str | None = None,
        *,
        quirks: Quirks | None = None,
        faults: Iterable[Fault | str] = (),
        token_lifetime_s: float = 3600,
        ports: tuple[int, int, int] = (0, 0, 0),
        host: str = "localhost",
    ) -> None:
        self.quirks = quirks = quirks or Quirks()
        self.faults = FaultBook(faults)
        self.requests = RequestLog()
        self.client_id, self.client_secret = "sandbox-client", secrets.token_urlsafe(24)
        self._closing = threading.Event()
        with contextlib.ExitStack() as stack:
            self.work_dir = self._work_dir(root, stack)
            self.storage = self._folder("storage")
            self.config_dir = self._folder("config", mode=0o700)
            certificates = Certificates(self._folder("tls", mode=0o700), host)
            self.ca_file = certificates.ca_file
            self._tokens = Tokens(token_lifetime_s, quirks)
            self._clock = Clock()
            self._pool = PoolState(self._clock)
            self._store = Storage(self.storage, self._folder("incoming"), quirks, self._pool)
            self._pool_urls = pool_urls = PoolUrls(quirks, self._clock)
            self._issuer = Issuer(self._tokens, Client(self.client_id, self.client_secret), quirks)
            logins = Logins(self._tokens, quirks, self._clock)
            door = Door(self._store, pool_urls, logins, quirks)
            pool = Pool(self._store, pool_urls, quirks)

            tls = certificates.server_context()
            parts: dict[str, tuple[_Handle, _Note, ssl.SSLContext | None]] = {
                "door": (door.handle, door.note, None if quirks.door_uses_http else tls),
                "pool": (pool.handle, _nothing, None if quirks.pool_uses_http else tls),
                "issuer": (self._issuer.handle, _nothing, tls),
            }
            urls: list[str] = []
            servers: list[LoopbackServer] = []
            stack.callback(self._closing.set)
            for port, (name, (handle, note, context)) in zip(ports, parts.items(), strict=True):
                app = Application(name, handle, self.faults, self.requests, self._closing, note)
                threads = 12 if name == "issuer" else 40
                title = "Keycloak" if name == "issuer" else quirks.server
                server = LoopbackServer(
                    f"{title} (sandbox)", app, port=port, context=context, threads=threads,
                    sends_date=name != "pool",  # seen, dCache 11.2.5
                )  # fmt: skip
                servers.append(server)
                stack.callback(server.close)
                # HttpTransferService.java:70, dCache 12.1: with http a pool URL has an IP address
                where = host if context else LOOPBACK
                urls.append(f"http{'s' if context else ''}://{where}:{server.port}")
            self.door_url, self.pool_url, issuer_origin = urls
            self.issuer_url = issuer_origin + REALM
            door.origin, door.pool_origin = self.door_url, self.pool_url
            self._tokens.issuer = self.issuer_url
            self._write_config()
            for server in servers:
                stack.callback(server.stop)
            stack.callback(self._clock.close)
            stack.callback(self._closing.set)
            self._stack = stack.pop_all()

    def _work_dir(self, root: Path | str | None, stack: contextlib.ExitStack) -> Path:
        if root is None:
            temporary = tempfile.TemporaryDirectory(prefix="ctaflows-sandbox-")
            return Path(stack.enter_context(temporary)).resolve()
        folder = Path(root).expanduser().resolve()
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _folder(self, name: str, mode: int = 0o755) -> Path:
        folder = self.work_dir / name
        folder.mkdir(mode=mode, parents=True, exist_ok=True)
        return folder

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the servers and delete a temporary folder; a second call does nothing."""
        self._stack.close()

    # -- for clients -------------------------------------------------------------------------

    def settings(self, **changes: Any) -> Settings:
        """Return settings for the sandbox, with pauses and timeouts short enough for tests.

        Parameters
        ----------
        **changes : Any
            Fields of `Settings` to set to other values.

        Returns
        -------
        Settings
            The settings.
        """
        settings = Settings(
            profile=_PROFILE,
            config_dir=self.config_dir,
            door_url=self.door_url,
            issuer_url=self.issuer_url,
            client_id=self.client_id,
            client_secret=self.client_secret,
            client_secret_file=self.config_dir / "client_secret",
            ca_file=self.ca_file,
            token_source="store",  # noqa: S106
            backoff_s=0.01,
            attempts=5,
            busy_s=0.05,
            connect_timeout_s=5.0,
            stall_timeout_s=5.0,
            listing_timeout_s=5.0,
        )
        return settings.replace(**changes)

    def _write_config(self) -> None:
        secret_file = self.config_dir / "client_secret"
        _write_private(secret_file, self.client_secret)
        values = {
            "door_url": self.door_url,
            "issuer_url": self.issuer_url,
            "client_id": self.client_id,
            "client_secret_file": str(secret_file),
            "ca_file": str(self.ca_file),
            # so that the token of a real door in BEARER_TOKEN is not used
            "token_source": "store",
        }
        lines = [f'default_profile = "{_PROFILE}"', "", f"[profiles.{_PROFILE}]"]
        lines += [f"{k} = {json.dumps(v)}" for k, v in values.items()]
        (self.config_dir / "config.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")
        store = self._folder("config/tokens", mode=0o700) / f"{_PROFILE}.json"
        _write_private(store, json.dumps(self.tokens()))

    # -- the issuer --------------------------------------------------------------------------

    def issue_token(
        self, lifetime_s: float | None = None, scope: str = SCOPE, subject: str = SUBJECT
    ) -> str:
        """Return a new access token.

        Parameters
        ----------
        lifetime_s : float, optional
            Lifetime in seconds, by default `token_lifetime_s`; a negative one gives an expired
            token.
        scope, subject : str
            Claims ``scope`` and ``sub`` of the token.

        Returns
        -------
        str
            The token, a JWT.
        """
        return self._tokens.access(lifetime_s, scope, subject)

    def tokens(self) -> dict[str, Any]:
        """Return a new access and refresh token, as the dict that the token store keeps."""
        pair = self._tokens.pair(SCOPE, SUBJECT)
        return {key: pair[key] for key in _STORED} | {"obtained_at": time.time()}

    def revoke(self, token: str) -> None:
        """Revoke a token: the door refuses it from now on; a refresh token ends its session too."""
        self._tokens.revoke(token)

    def change_key(self) -> None:
        """Let the issuer sign with a new key, which the door does not know until `advance`."""
        self._tokens.change_key()

    def approve(self, user_code: str) -> bool:
        """Approve a device login; return False if there is none with that code."""
        return self._issuer.decide(user_code, is_approved=True)

    def deny_login(self, user_code: str) -> bool:
        """Deny a device login; return False if there is none with that code."""
        return self._issuer.decide(user_code, is_approved=False)

    # -- the storage -------------------------------------------------------------------------

    def put(self, path: str, data: bytes) -> Path:
        """Write a file below `storage` and return its local path."""
        file = self.storage / path.strip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)
        file.write_bytes(data)
        self._store.forget(path)
        return file

    def link(self, path: str, target: str) -> Path:
        """Make a symbolic link below `storage`.

        As with dCache, a listing shows it as a small file without checksum, while a request for
        the link itself is about its target, except that DELETE and MOVE fail.

        Parameters
        ----------
        path : str
            Path of the link at the door; missing parents are made.
        target : str
            Text of the link: a path at the door, or one relative to the link's directory. It need
            not exist.

        Returns
        -------
        Path
            Local path of the link.

        Raises
        ------
        FileExistsError
            There is something at `path` already.
        """
        return self._store.link(path, target)

    def deny(self, path: str) -> None:
        """Make a path unreadable: a directory is then listed as empty, GET returns 403."""
        self._store.denied.add(self._store.normal(path))

    def locality(self, path: str, locality: str) -> None:
        """Set the FileLocality of a file, such as ``NEARLINE``."""
        self._store.localities[self._store.normal(path)] = locality

    def uploading(self, path: str) -> None:
        """Mark the upload of a file as incomplete."""
        self._store.flaws[self._store.normal(path)] = UPLOADING

    # -- faults that last a time -------------------------------------------------------------

    def advance(self, seconds: float) -> None:
        """Let time pass for door and pool: for what they remember, hold or block.

        Parameters
        ----------
        seconds : float
            How much; the lifetime of tokens is not affected.
        """
        self._clock.advance(seconds)

    def restart_pool(self, away_s: float = 10.0, unavailable_s: float = 10.0) -> None:
        """Restart the pool: its connections break, and all that it was doing ends.

        Parameters
        ----------
        away_s : float, optional
            Seconds for which the door answers GET and PUT with 500 at once.
        unavailable_s : float, optional
            Seconds, after those, for which all files are UNAVAILABLE, and the door holds each GET
            until they are over.
        """
        self._pool.restart((away_s, "away"), (unavailable_s, "unavailable"))
        self._pool_urls.clear()

    def kill_pool(self, away_s: float = 240.0, held_s: float = 180.0) -> None:
        """Let the pool die, until `restart_pool`; its files remain ONLINE.

        Parameters
        ----------
        away_s : float, optional
            Seconds for which the door answers GET and PUT with 500 at once.
        held_s : float, optional
            Seconds for which the door holds each GET after those, before it answers with 500.
        """
        self._pool.held_s = held_s
        self._pool.restart((away_s, "away"), (math.inf, "dead"))
        self._pool_urls.clear()

    def fill_pool(self, free_bytes: float, gap_bytes: float = 4 << 30) -> None:
        """Set the free space of the pool.

        An upload is refused with 507 if `free_bytes` are less than `gap_bytes`. Else the door
        redirects it, even if it is larger than `free_bytes`: then the pool reads nothing and says
        nothing, and keeps a thread for it, until `restart_pool`. With four of those it answers
        nobody.

        Parameters
        ----------
        free_bytes : float
            Free space; ``math.inf`` for as much as needed.
        gap_bytes : float, optional
            Free space that the pool keeps.
        """
        self._pool.free_bytes, self._pool.gap_bytes = free_bytes, gap_bytes


def _nothing(*_: object) -> None:
    """Ignore a request and its response."""


def _write_private(file: Path, text: str) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
