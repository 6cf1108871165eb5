"""A WebDAV server with a generated night, and a Prefect server."""

from __future__ import annotations

import contextlib
import importlib
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.transfers.data import empty

if TYPE_CHECKING:
    from collections.abc import Iterator

RAM_DISK = Path("/dev/shm")
_SERVERS = Path(__file__).parents[2] / "tests" / "servers"
NIGHT = "cta/DL1/20241114/v0.1/tailcut84"
FILE_BYTES = 20_000


def kit(name: str) -> Any:
    """Return a module of tests/servers, with which the tests start servers too."""
    if str(_SERVERS) not in sys.path:
        sys.path.insert(0, str(_SERVERS))
    return importlib.import_module(name)


def make_night(root: Path, n_files: int) -> None:
    """Write a night of small files, of many subruns."""
    folder = root / NIGHT
    folder.mkdir(parents=True)
    noise = os.urandom(FILE_BYTES)
    for n in range(n_files):
        name = f"dl1_LST-1.Run{10_000 + n // 200:05}.{n % 200:04}.h5"
        (folder / name).write_bytes(f"{n:8}".encode() + noise[8:])
    for below in (root, *(p for p in root.rglob("*") if p.is_dir())):
        below.chmod(0o777)  # nginx runs as another user


@contextlib.contextmanager
def night_door(
    kind: str, home: Path, n_files: int, rtt_ms: float = 0.0
) -> Iterator[dict[str, str]]:
    """Serve a night, and yield the environment variables with which ctaflows finds it."""
    if kind == "sandbox":
        with _sandbox(home, n_files) as env:
            yield env
        return
    root = home / "root"
    empty(root)
    make_night(root, n_files)
    real = kit("realservers")
    with contextlib.ExitStack() as stack:
        near = real.nginx(home / "nginx", root, real.make_ca(home / "ca"))
        server = stack.enter_context(near)
        if rtt_ms:
            server = stack.enter_context(real.delayed(home / "relay", server, rtt_ms))
        config = home / "config"
        config.mkdir()
        yield {
            "CTAFLOWS_CONFIG_DIR": str(config),
            "CTAFLOWS_DOOR_URL": server.url,
            "CTAFLOWS_CA_FILE": str(server.ca_file),
            "BEARER_TOKEN": "none-is-asked-for",
        }


@contextlib.contextmanager
def _sandbox(home: Path, n_files: int) -> Iterator[dict[str, str]]:
    """Run a sandbox in a separate process, so that it has its own interpreter lock."""
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from ctaflows.sandbox import Sandbox\n"
        "from benchmarks.prefect.servers import make_night\n"
        f"with Sandbox({str(home / 'sandbox')!r}) as box:\n"
        f"    make_night(box.storage, {n_files})\n"
        "    print(box.config_dir, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        yield {"CTAFLOWS_CONFIG_DIR": child.stdout.readline().strip()}
    finally:
        child.stdin.close()
        child.wait(60)


@contextlib.contextmanager
def database(kind: str, home: Path) -> Iterator[dict[str, str]]:
    """Yield the environment variables with which Prefect's server finds its database."""
    if kind == "sqlite":
        yield {}
    elif kind == "postgres":
        with kit("realpostgres").postgres(home / "postgres") as started:
            yield {"PREFECT_API_DATABASE_CONNECTION_URL": started.url("postgresql+asyncpg")}
    else:
        yield {"PREFECT_API_DATABASE_CONNECTION_URL": kind}


@contextlib.contextmanager
def prefect_server(home: Path, env: dict[str, str]) -> Iterator[tuple[str, int]]:
    """Start a Prefect server; yield the URL of its API and its process id."""
    port = kit("serverprocess").free_ports(1)[0]
    url = f"http://127.0.0.1:{port}/api"
    home.mkdir(parents=True)
    command = [sys.executable, "-m", "prefect", "server", "start", "--no-ui"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    own = {"PREFECT_HOME": str(home), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    with (home / "server.log").open("wb") as log:
        child = subprocess.Popen(
            command, stdout=log, stderr=log, env={**os.environ, **env, **own}
        )  # fmt: skip
        try:
            _wait_for(f"{url}/health", child, home / "server.log")
            yield url, child.pid
        finally:
            child.terminate()
            child.wait(60)


def cpu_s(pid: int) -> float:
    """Return the CPU seconds a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _wait_for(url: str, child: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        if child.poll() is not None:
            break
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2):
            return
        time.sleep(0.2)
    sys.exit(f"benchmarks.prefect: the Prefect server does not answer\n{log.read_text()[-2000:]}")
