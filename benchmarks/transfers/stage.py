"""The RAM disk, and the servers of its files."""

from __future__ import annotations

import contextlib
import importlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Self

from benchmarks.transfers.data import empty

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType
    from typing import Any

    from benchmarks.transfers.workloads import Work

RAM_DISK = Path("/dev/shm")
#: Kept free for servers and other processes.
_SPARE_BYTES = 1 << 30
_SERVERS = Path(__file__).parents[2] / "tests" / "servers"


class Unavailable(Exception):
    """A server is not installed, or does not start."""


class Stage:
    """A folder on the RAM disk, with servers that are started when first needed.

    Parameters
    ----------
    place : Path
        Folder in which to create it.
    """

    def __init__(self, place: Path) -> None:
        self._left = contextlib.ExitStack()
        self.home = Path(self._left.enter_context(_folder(place)))
        self.root, self.local = self.home / "root", self.home / "local"
        self.scratch = self.home / "scratch"
        for folder in (self.root, self.local, self.scratch):
            empty(folder)
        self._kit = _real_servers()
        self._ca = self._kit.make_ca(self.home / "ca")
        self.ca_file, self.ca_dir = self._ca.ca_file, self.home / "cas"
        _hashed(self.ca_file, self.ca_dir)
        self._started: dict[str, Any] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._left.close()

    def room_bytes(self) -> int:
        """Return how many bytes may be used."""
        free = shutil.disk_usage(self.home).free
        if self.home.is_relative_to(RAM_DISK):
            free = min(free, _memory_bytes())
        return max(free - _SPARE_BYTES, 0)

    @contextlib.contextmanager
    def server(self, name: str, work: Work) -> Iterator[Any]:
        """Yield a server of `realservers`, behind a relay if the workload needs one.

        Raises
        ------
        Unavailable
            It is not installed, or does not start.
        """
        server = self._started.get(name) or self._start(name)
        if not work.rtt_ms:
            yield server
            return
        far = (self.home / "relay", server, work.rtt_ms, work.mb_per_s)
        with self._up(self._kit.delayed, *far) as relay:
            yield relay

    def revived(self, server: Any) -> Any:
        """Return the server, restarted if it has crashed."""
        if all(one.process.poll() is None for one in server.processes):
            return server
        server.stop()
        return self._start(server.name)

    def store_checksums(self, folder: Path) -> None:
        """Store the checksums that XRootD would otherwise compute on request: a dCache has them."""
        importlib.import_module("storedsums").store_all(folder)

    def versions(self) -> dict[str, str]:
        """Return the versions of the servers that were started."""
        return {name: server.version for name, server in self._started.items()}

    def _start(self, name: str) -> Any:
        started = self._up(getattr(self._kit, name), self.home / name, self.root, self._ca)
        self._started[name] = self._left.enter_context(started)
        return started

    def _up(self, start: Callable[..., Any], *words: object) -> Any:
        try:
            return start(*words)
        except (self._kit.Missing, self._kit.StartError) as why:
            raise Unavailable(str(why).partition("\n")[0]) from why


def _memory_bytes() -> int:
    """Return how much memory is available without swapping."""
    said = Path("/proc/meminfo").read_text()
    return int(said.partition("MemAvailable:")[2].split()[0]) << 10


@contextlib.contextmanager
def _folder(place: Path) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="ctaflows-bench-", dir=place) as name:
        Path(name).chmod(0o755)  # XRootD runs as another user
        yield name


def _real_servers() -> ModuleType:
    """Return tests/servers/realservers.py, with which the tests start servers too."""
    if str(_SERVERS) not in sys.path:
        sys.path.insert(0, str(_SERVERS))
    return importlib.import_module("realservers")


def _hashed(ca_file: Path, folder: Path) -> None:
    """Create a hashed CA directory for xrdcp; without openssl it is empty, and xrdcp fails."""
    folder.mkdir()
    if openssl := shutil.which("openssl"):
        words = [openssl, "x509", "-hash", "-noout", "-in", str(ca_file)]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        (folder / f"{done.stdout.strip()}.0").write_bytes(ca_file.read_bytes())
