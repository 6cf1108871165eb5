"""A throwaway PostgreSQL cluster on loopback, from Debian's packages.

::

    with postgres(tmp_path) as database:
        env["PREFECT_API_DATABASE_CONNECTION_URL"] = database.url("postgresql+asyncpg")

It runs as a child of ours (as nobody where we are root: PostgreSQL refuses root), keeps nothing,
and syncs nothing to disk. Seen to work with PostgreSQL 15.18.

``python tests/servers/realpostgres.py FOLDER`` starts one and says where, until Ctrl-C.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from serverprocess import (
    Missing,
    Running,
    StartError,
    _prefix,
    free_ports,
    start,
    version_of,
    wait_for,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Database", "Missing", "StartError", "postgres"]

#: Debian keeps the server's programs out of PATH (postgresql-common, PgCommon.pm).
PROGRAMS = Path("/usr/lib/postgresql")
USER, DATABASE = "ctaflows", "postgres"


@dataclass
class Database:
    """A running cluster.

    Attributes
    ----------
    version : str
        As the program itself says.
    port : int
        On 127.0.0.1.
    password : str
        Of the superuser `USER`, made for this cluster.
    home : Path
        Its data and log.
    """

    version: str
    port: int
    password: str
    home: Path
    process: Running

    def url(self, scheme: str = "postgresql") -> str:
        """Return the URL of the database, with user and password."""
        return f"{scheme}://{USER}:{self.password}@127.0.0.1:{self.port}/{DATABASE}"

    def psql(self, statement: str) -> str:
        """Run a statement, and return its result, a line for each row."""
        command = [_program("psql"), "-X", "-A", "-t", "-d", self.url(), "-c", statement]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        if done.returncode:
            raise RuntimeError(done.stderr)
        return done.stdout.strip()

    def stop(self) -> None:
        """End its processes; a second time does nothing."""
        self.process.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


def postgres(home: Path) -> Database:
    """Make and start a cluster below a folder.

    Raises
    ------
    Missing
        The package is not installed.
    StartError
        It did not come up; the text has the end of its log.
    """
    initdb, server = _program("initdb"), _program("postgres")
    home.mkdir(parents=True, exist_ok=True)
    data, password = home / "data", secrets.token_urlsafe(16)
    _make(initdb, home, data, password)
    for attempt in range(3):
        (port,) = free_ports(1)
        command = [server, "-D", str(data), "-p", str(port), "-c", "listen_addresses=127.0.0.1"]
        command += ["-c", "unix_socket_directories=", "-c", "fsync=off"]
        process = start("postgres", command, home)
        database = Database(version_of([server, "--version"]), port, password, home, process)
        try:
            wait_for(lambda d=database: _answers(d), [process])
        except BaseException as why:
            database.stop()
            if attempt == 2 or not re.search("Address already in use", str(why)):
                raise
        else:
            return database
    raise AssertionError("not reached")


def _make(initdb: str, home: Path, data: Path, password: str) -> None:
    secret = home / "password"
    secret.touch(mode=0o600)
    secret.write_text(password)
    command = [initdb, "-D", str(data), "-U", USER, "-A", "scram-sha-256", "-N", "-E", "UTF8"]
    command += ["--locale=C.UTF-8", f"--pwfile={secret}"]
    done = subprocess.run(
        [*_prefix(), *command], cwd=home, capture_output=True, text=True, check=False, timeout=240
    )
    secret.unlink()
    if done.returncode:
        raise StartError(f"initdb ended with {done.returncode}\n{done.stdout}{done.stderr}")


def _answers(database: Database) -> bool:
    try:
        return database.psql("select 1") == "1"
    except RuntimeError:
        return False


def _program(name: str) -> str:
    """Return the path of a program of the newest installed version."""
    found = [p for p in PROGRAMS.glob(f"*/bin/{name}") if os.access(p, os.X_OK)]
    if not found:
        raise Missing("postgresql", name)
    return str(max(found, key=lambda p: int(p.parts[-3]) if p.parts[-3].isdigit() else 0))


@contextlib.contextmanager
def _until_stopped() -> Iterator[None]:
    import signal

    yield
    with contextlib.suppress(KeyboardInterrupt):
        signal.pause()


if __name__ == "__main__":
    with postgres(Path(sys.argv[1]).absolute()) as running, _until_stopped():
        print(running.url("postgresql+asyncpg"), flush=True)
