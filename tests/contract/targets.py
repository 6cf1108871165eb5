"""The storages that these tests run against, and a directory at one of them for each test.

Where ``CTAFLOWS_TEST_DOOR_URL`` names a door, or ``CTAFLOWS_TEST_DOOR_PROFILE`` a profile, they run
against that alone; docs/contract.md says how.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import posixpath
import random
import re
import secrets
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock
from urllib.parse import quote

import pytest
from putkit import put
from sinkkit import read

from ctaflows.errors import CtaflowsError, NotFound
from ctaflows.sandbox import Quirks, Sandbox
from ctaflows.sandbox.hub import Hub
from ctaflows.storage.connect import connect
from ctaflows.storage.walk import files_below, walk
from ctaflows.storage.webdav import WebDAVStorage
from ctaflows.transport.handles import Handles
from ctaflows.transport.httpx_backend import HttpxWire

# what starts nginx, Apache and XRootD
sys.path.insert(0, str(Path(__file__).parents[1] / "servers"))

import realservers
import storedsums

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from realservers import Server
    from ways import Ways

    from ctaflows.storage.protocol import Storage

#: Set by .ci/run where it has installed the servers: then nothing is skipped.
REQUIRED = os.environ.get("STORAGE_SERVERS") == "required"
#: A site's door gets no more requests than this in a whole run: some 500, and those sent again.
MOST_REQUESTS = 600
#: What is in files; 3 MB.
DATA = random.Random(1).randbytes(3_000_000)

#: Those of the person who runs the tests: the tests themselves hide them (tests/conftest.py).
_SETTINGS = ("CTAFLOWS_", "BEARER_TOKEN", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "HOME")
_OURS = "CTAFLOWS_TEST_"
OWN = {
    name: value
    for name, value in os.environ.items()
    if name.startswith(_SETTINGS) and not name.startswith(_OURS)
}
_URL, _PROFILE, _FOLDER, WRITES_PAGE = (
    os.environ.get(_OURS + name, "")
    for name in ("DOOR_URL", "DOOR_PROFILE", "DOOR_FOLDER", "WRITE_WAYS")
)


@dataclass
class Target:
    """A storage.

    Attributes
    ----------
    name : str
        Such as ``nginx``.
    environment : dict
        With which ctaflows uses it.
    folder : str
        Path of the directory in which those of the tests are made.
    upload_folder : str
        The same as an upload names it.
    settle : Callable or None
        Called with the path of each file that was written by itself.
    requests : Counter
        Requests so far by their methods, those to pools among them.
    """

    name: str
    environment: dict[str, str]
    folder: str = ""
    upload_folder: str = ""
    settle: Callable[[str], None] | None = None
    requests: Counter[str] = field(default_factory=Counter)
    ways: Ways | None = None

    @contextlib.contextmanager
    def used(self) -> Iterator[None]:
        """Let ctaflows use it, and count the requests."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(mock.patch.dict(os.environ, self.environment))
            self._count(stack)
            if self.settle is not None:
                stack.enter_context(_settled(self.settle))
            yield

    def _count(self, stack: contextlib.ExitStack) -> None:
        lock = threading.Lock()

        def counted(real: Callable[..., Any], method: Callable[..., str]) -> Callable[..., Any]:
            def send(wire: Any, *args: Any, **how: Any) -> Any:
                with lock:
                    self.requests[method(*args)] += 1
                return real(wire, *args, **how)

            return send

        for kind, name, method in (
            (HttpxWire, "send", lambda _url, request, *_: request.method),
            (Handles, "prepared", lambda exchange, *_: exchange.hop.request.method),
        ):
            real = getattr(kind, name)
            stack.enter_context(mock.patch.object(kind, name, counted(real, method)))


def _settled(settle: Callable[[str], None]) -> contextlib.AbstractContextManager[Any]:
    real = WebDAVStorage.putting

    def putting(storage: WebDAVStorage, path: str, *args: Any, **how: Any) -> Any:
        written = yield from real(storage, path, *args, **how)
        settle(written.path)
        return written

    return mock.patch.object(WebDAVStorage, "putting", putting)


def check_environment() -> None:
    """Refuse a door that is not named in full."""
    if _URL and _PROFILE:
        raise pytest.UsageError(f"Set {_OURS}DOOR_URL or {_OURS}DOOR_PROFILE, not both.")
    if (_URL or _PROFILE) and not _FOLDER.startswith("/"):
        raise pytest.UsageError(
            f"Set {_OURS}DOOR_FOLDER to a directory of that door, such as /users/me, in which the "
            "tests may make one of their own."
        )


# -- which there are -------------------------------------------------------------------------------


@contextlib.contextmanager
def sandbox(name: str, quirks: Quirks) -> Iterator[Target]:
    """Start a sandbox."""
    with Sandbox(quirks=quirks) as box:
        yield Target(name, {"CTAFLOWS_CONFIG_DIR": str(box.config_dir)})


@contextlib.contextmanager
def service() -> Iterator[Target]:
    """Start a download service, whose storage is a sandbox's."""
    with Sandbox() as box, Hub(box) as hub:
        token = hub.add_user("Jane.Doe2@example.org")
        environment = {
            **hub.environment(token),
            "CTAFLOWS_CONFIG_DIR": str(box.config_dir),
            "CTAFLOWS_PROFILE": "platform",
            "CTAFLOWS_CA_FILE": str(box.ca_file),
        }
        yield Target("service", environment, folder="/lst/users/jane_doe__example_org")


@contextlib.contextmanager
def server(name: str, home: Path) -> Iterator[Target]:
    """Start one of the servers that Debian has, or skip the tests that need it."""
    make = getattr(realservers, name)
    try:
        started: Server = make(home / "home", home / "root", realservers.make_ca(home / "ca"))
    except realservers.Missing as why:
        if REQUIRED:
            raise
        pytest.skip(str(why))

    def store(path: str) -> None:
        """Keep a checksum beside a file before it is asked for: XRootD's answer may be wrong."""
        file = started.root / path.lstrip("/")
        if file.is_file():
            storedsums.store(file)

    with started:
        environment = {
            "CTAFLOWS_CONFIG_DIR": str(home / "config"),
            "CTAFLOWS_DOOR_URL": started.url,
            "CTAFLOWS_CA_FILE": str(started.ca_file),
            "BEARER_TOKEN": "a-token.for-the-door.alone",
            # an answer about a checksum may never come, see `storedsums`
            "CTAFLOWS_STALL_TIMEOUT_S": "15",
        }
        yield Target(name, environment, settle=store if name == "xrootd" else None)


@contextlib.contextmanager
def named(home: Path) -> Iterator[Target]:
    """Take the door that the environment names, with the settings and the token of its user."""
    environment = dict(OWN)
    if _PROFILE:
        environment["CTAFLOWS_PROFILE"] = _PROFILE
    else:  # no login of a profile is for another door
        environment.pop("CTAFLOWS_PROFILE", None)
        environment |= {
            "CTAFLOWS_CONFIG_DIR": str(home),
            "CTAFLOWS_DOOR_URL": _URL,
            "CTAFLOWS_TOKEN_SOURCE": "environment",
        }
    yield Target("door", environment, folder=_FOLDER.rstrip("/"), upload_folder=_FOLDER.rstrip("/"))


#: Quick ones, and those that need a server.
SANDBOXES = ("sandbox", "sandbox-proxying", "service")
SERVERS = ("nginx", "apache", "xrootd")
NAMES = ("door",) if _URL or _PROFILE else SANDBOXES + SERVERS


def target(name: str, home: Path) -> contextlib.AbstractContextManager[Target]:
    """Return one of `NAMES`, which is there within a block."""
    proxying = replace(Quirks(), redirect_reads=False, redirect_writes=False)
    if name == "door":
        return named(home)
    if name == "service":
        return service()
    if name in SANDBOXES:
        return sandbox(name, proxying if "proxying" in name else Quirks())
    return server(name, home)


# -- directories -----------------------------------------------------------------------------------

_numbers = itertools.count(1)
#: A name that every server lists.
_PLAIN = re.compile(r"\w[\w.-]*", re.ASCII)


@dataclass
class Place:
    """A directory at a storage, made with the first file in it, or by a test.

    Attributes
    ----------
    at : str
        Its path.
    to : str
        The same as an upload names it.
    made : set of str
        Paths of files that were written, whatever a listing shows of odd names.
    """

    storage: Storage
    at: str
    to: str
    made: set[str] = field(default_factory=set)
    _kept: dict[int, str] = field(default_factory=dict)

    def put(self, name: str, data: bytes = b"x") -> str:
        """Write a file by its name, in a directory that may be missing, and return its path."""
        self.made.add(f"{self.at}/{name}")
        try:
            put(self.storage, f"{self.to}/{name}", data)
        except CtaflowsError as why:
            if why.status not in (404, 409):  # Apache 2.4 makes no directories
                raise
            self.storage.mkdir(posixpath.dirname(f"{self.at}/{name}"), parents=True, exist_ok=True)
            put(self.storage, f"{self.to}/{name}", data)
        return f"{self.at}/{name}"

    def kept(self, size: int) -> str:
        """Return the path of a file of so many bytes of `DATA`, written when first asked for."""
        if size not in self._kept:
            self._kept[size] = self.put(f"{size}.h5", DATA[:size])
        return self._kept[size]

    def names(self) -> list[str]:
        """Return the names of all files below, from the directory on."""
        found = files_below(self.storage, self.at)
        return sorted(entry.path.removeprefix(f"{self.at}/") for entry in found)

    def wait_for_removal(self) -> None:
        """Wait until no temporary file is there any more.

        A dCache door that does not redirect makes the entry of an upload that was stopped before it
        began, and removes it some 0.4 s later (seen with 12.0.1).
        """
        deadline = time.monotonic() + 10
        while any(".part" in name for name in self.names()) and time.monotonic() < deadline:
            time.sleep(0.05)

    def files(self) -> dict[str, bytes]:
        """Return all files below, read one by one."""
        return {name: read(self.storage, f"{self.at}/{name}") for name in self.names()}

    def clear(self) -> None:
        """Remove what is listed in the directory and what was written there, by its paths.

        Both, since servers list odd names otherwise, or not at all. XRootD 5.5 writes them into
        listings as they are, so that one that looks encoded is read as another: it is removed by
        what it looks like.
        """
        # twice, since XRootD 5.5 fails to remove something now and then
        if self.storage.can_remove and self._clear() and (why := self._clear()):
            left = {entry.path for entry in walk(self.storage, self.at)}
            pytest.fail(f"left at the storage: {self.at} {left}: {why}")

    def _clear(self) -> dict[str, CtaflowsError]:
        """Remove all of it once, and return why some directories are not."""
        try:
            listed = {entry.path: entry.is_dir for entry in walk(self.storage, self.at)}
        except NotFound:  # no test has made it
            return {}
        files = {path for path, is_dir in listed.items() if not is_dir}
        directories = sorted(listed.keys() - files, key=len, reverse=True)
        odd = {path for path in self.made if not _PLAIN.fullmatch(posixpath.basename(path))}
        left = self._delete(sorted(files | odd), is_dir=False).keys() & files
        looks_like = {f"{posixpath.dirname(p)}/{quote(posixpath.basename(p))}" for p in left}
        self._delete(looks_like - files, is_dir=False)
        return self._delete([*directories, self.at], is_dir=True)

    def _delete(self, paths: Iterable[str], *, is_dir: bool) -> dict[str, CtaflowsError]:
        """Remove files, or directories, and return why some are not."""
        left = {}
        for path in paths:
            try:
                self.storage.delete(path, is_dir=is_dir)
            except CtaflowsError as why:
                left[path] = why
        return left


@contextlib.contextmanager
def session_place(target: Target) -> Iterator[Place]:
    """Make a directory for all tests, and remove it at the end, if it shows nothing."""
    name = f"ctaflows-contract-{secrets.token_hex(4)}"
    with target.used():
        storage = connect()
        place = Place(storage, f"{target.folder}/{name}", f"{target.upload_folder}/{name}")
        if storage.can_rename:
            storage.mkdir(place.at)
        elif target.name == "door":
            raise pytest.UsageError(
                f"The {storage.title} can't remove files, so that these tests would leave theirs."
            )
    yield place
    with target.used():
        place.storage = connect()
        place.clear()


def new_place(storage: Storage, above: Place) -> Place:
    """Return a directory for one test, which is not there yet."""
    name = f"{next(_numbers)}"
    return Place(storage, f"{above.at}/{name}", f"{above.to}/{name}")
