"""Starts a storage server's processes, waits for them, and ends them."""

from __future__ import annotations

import atexit
import http.client
import os
import random
import re
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

#: Longest wait for a server; it only ends what hangs.
START_S = 120.0
STOP_S = 10.0
ANSWER_S = 2.0


class Missing(Exception):
    """Raised where a program is not installed; the text names its Debian package."""

    def __init__(self, package: str, what: str) -> None:
        self.package = package
        super().__init__(f"the Debian package {package} is not installed (no {what})")


class StartError(RuntimeError):
    """Raised where a server does not start; the text has the end of its log."""


def program(name: str, package: str) -> str:
    """Return the path of a program, also from the superuser's directories."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin:/sbin")
    if found is None:
        raise Missing(package, name)
    return found


def version_of(command: list[str]) -> str:
    """Return the version that a program prints."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = re.search(r"\d+(\.\d+)+", done.stdout + done.stderr)
    return said.group() if said else "unknown"


def free_ports(n: int) -> list[int]:
    """Return free loopback ports.

    They lie below the range from which Linux takes the ports of outgoing connections, of which a
    test or benchmark opens many.
    """
    ports: list[int] = []
    while len(ports) < n:
        port = random.randint(12_000, 32_000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("", port))
            except OSError:
                continue
        if port not in ports:
            ports.append(port)
    return ports


def _prefix() -> list[str]:
    """Return the start of a command that makes it end with this process, and not run as root.

    XRootD refuses to run as root and Apache to serve as root, but the folders of a test are root's
    own: so the user gets the right to write where root may.
    """
    flags = []
    # the kernel watches the thread that starts a process; only the main thread's end is ours
    if threading.current_thread() is threading.main_thread():
        flags.append("--pdeathsig=TERM")
    if os.geteuid() == 0:
        rights = "+dac_override,+fowner"
        flags += ["--reuid=65534", "--regid=65534", "--clear-groups"]
        flags += [f"--inh-caps={rights}", f"--ambient-caps={rights}"]
    return [program("setpriv", "util-linux"), *flags] if flags else []


@dataclass
class Running:
    """A process in a session of its own."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def check(self) -> None:
        """Raise if the process has ended."""
        code = self.process.poll()
        if code is not None:
            raise StartError(f"{self.name} ended with {code}\n{tail(self.log)}")

    def stop(self) -> None:
        """End the process and all that it started."""
        atexit.unregister(self.stop)
        for how in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.process.pid, how)
            except ProcessLookupError:
                break
            if _ended(self.process):
                break
        self.process.wait(STOP_S)


def _ended(process: subprocess.Popen[bytes]) -> bool:
    """Wait until no process of the session's group is left."""
    deadline = time.monotonic() + STOP_S
    while time.monotonic() < deadline:
        process.poll()
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.01)
    return False


def start(name: str, command: Sequence[str], home: Path, *, log: Path | None = None) -> Running:
    """Start a process that ends with this one, even if this is killed.

    Parameters
    ----------
    log : Path, optional
        Where the server itself logs; its output always goes to ``home/name.out``.
    """
    out = home / f"{name}.out"
    env = {"PATH": os.defpath, "HOME": str(home), "LC_ALL": "C.UTF-8"}
    with out.open("ab") as stream:
        process = subprocess.Popen(
            [*_prefix(), *command], cwd=home, env=env, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT,
        )  # fmt: skip
    running = Running(name, process, log or out)
    atexit.register(running.stop)
    return running


def tail(log: Path, n_lines: int = 20) -> str:
    """Return the end of a log."""
    text = log.read_text(errors="replace") if log.exists() else "(no log)"
    return f"{log}:\n" + "\n".join(text.splitlines()[-n_lines:])


def wait_for(answers: Callable[[], bool], processes: Sequence[Running]) -> None:
    """Wait until a server answers; raise with the end of its log if it doesn't."""
    deadline = time.monotonic() + START_S
    while True:
        for one in processes:
            one.check()
        if answers():
            return
        if time.monotonic() > deadline:
            logs = "\n".join(tail(one.log) for one in processes)
            raise StartError(f"{processes[0].name}: no answer within {START_S:.0f} s\n{logs}")
        time.sleep(0.02)


def status(port: int, ca_file: Path | None, method: str, path: str) -> int | None:
    """Return the HTTP status of a server on loopback; None if it does not answer."""
    connection: http.client.HTTPConnection
    if ca_file is None:
        connection = http.client.HTTPConnection("localhost", port, timeout=ANSWER_S)
    else:
        context = ssl.create_default_context(cafile=ca_file)
        connection = http.client.HTTPSConnection(
            "localhost", port, timeout=ANSWER_S, context=context
        )
    try:
        connection.request(method, path, headers={"Depth": "0"})
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
