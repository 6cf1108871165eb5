"""The kit itself: it says what is missing, tells why a start failed, leaves nothing behind."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import realservers
import serverprocess

if TYPE_CHECKING:
    from collections.abc import Callable

    from realservers import CA, Server


def alive(home: Path) -> list[str]:
    """Give the processes that work below a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            if str(home) in words or str(home) in str((process / "cwd").readlink()):
                found.append(words)
        except OSError:
            continue
    return found


@pytest.mark.parametrize("name", ["nginx", "apache", "xrootd", "xrootd_cluster"])
def test_no_process_is_left_behind(
    name: str,
    tmp_path_factory: pytest.TempPathFactory,
    authority: CA,
    start_server: Callable[..., Server],
) -> None:
    folder = tmp_path_factory.mktemp("kit")  # short: the path of XRootD's socket has 107 bytes
    server = start_server(name, folder / "home", folder / "root", authority)
    assert alive(folder)
    server.stop()
    assert alive(folder) == []
    server.stop()


KILLED = """
import os, signal, sys
from pathlib import Path
import realservers
home = Path(sys.argv[1])
realservers.nginx(home / "home", home / "root", realservers.make_ca(home))
print("up", flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_nor_when_the_test_run_is_killed(
    tmp_path: Path, authority: CA, start_server: Callable[..., Server]
) -> None:
    start_server("nginx", tmp_path / "home", tmp_path / "root", authority).stop()  # is it there?
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)], cwd=Path(__file__).parent,
        text=True, capture_output=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.stdout == "up\n", done.stderr
    assert done.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 60
    while alive(tmp_path):
        assert time.monotonic() < deadline, alive(tmp_path)
        time.sleep(0.05)


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(serverprocess.shutil, "which", lambda *a, **k: None)
    ca = realservers.make_ca(tmp_path)
    packages = {"nginx": "nginx-extras", "apache": "apache2", "xrootd": "xrootd-server"}
    for name, package in packages.items():
        with pytest.raises(realservers.Missing, match=f"package {package} is"):
            getattr(realservers, name)(tmp_path / "home", tmp_path / "root", ca)


def test_a_failed_start_shows_the_log(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    authority: CA,
    start_server: Callable[..., Server],
) -> None:
    start_server("nginx", tmp_path / "home", tmp_path / "root", authority).stop()
    monkeypatch.setattr(realservers, "NGINX", type(realservers.NGINX)("no_such_setting on;"))
    with pytest.raises(realservers.StartError, match="no_such_setting"):
        realservers.nginx(tmp_path / "home", tmp_path / "root", authority)
    assert alive(tmp_path) == []


def test_a_port_that_was_taken_is_left(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    authority: CA,
    start_server: Callable[..., Server],
) -> None:
    with start_server("nginx", tmp_path / "home", tmp_path / "root", authority) as first:
        ports = iter([[first.port, first.port + 1]])
        pick = realservers.free_ports
        monkeypatch.setattr(realservers, "free_ports", lambda n: next(ports, None) or pick(n))
        with realservers.nginx(tmp_path / "2", tmp_path / "root", authority) as second:
            assert second.port != first.port
