"""Prefect's server goes away in the middle of a run, and comes back."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
import urllib.request
from typing import TYPE_CHECKING

import pytest
from controlkit import SLOW_BYTES, arrived, make_night, parts_bytes
from serverkit import PrefectServer, free_port, process, wait_until

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

    from ctaflows.sandbox import Sandbox


#: The server is away so long at least; what it takes to start it again comes on top.
AWAY_S = float(os.environ.get("CTAFLOWS_TEST_AWAY_S", "0"))


@contextlib.contextmanager
def server(home: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A server that others don't depend on; begun anew it has the same database."""
    env = {
        **os.environ,
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_LOGGING_LEVEL": "WARNING",
    }
    env.pop("PREFECT_API_URL", None)
    command = [sys.executable, "-m", "prefect", "server", "start", "--no-ui"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    log = home / "server.log"
    with process(command, log, env=env) as child:

        def healthy() -> bool:
            assert child.poll() is None, log.read_text()
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/health", timeout=2) as it:
                    return bool(it.status == 200)
            except OSError:
                return False

        wait_until(healthy, "the Prefect server's health", 200)
        yield child


@pytest.mark.servers
def test_the_transfer_goes_on_and_the_end_is_recorded(
    box: Sandbox, here: Path, tmp_path: Path
) -> None:
    from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

    home, port, log = tmp_path / "prefect", free_port(), tmp_path / "run.log"
    home.mkdir()
    url = f"http://127.0.0.1:{port}/api"
    night = make_night(
        box, rate_bytes_s=2_000_000 if AWAY_S < 10 else SLOW_BYTES // int(2 * AWAY_S)
    )
    env = {**os.environ, "PREFECT_API_URL": url, "PREFECT_HOME": str(home)}
    words = ["run", "fetch-dl1", "--date", "20241114", "--no-inspect"]
    with contextlib.ExitStack() as stack:
        with server(home, port) as first:
            run = stack.enter_context(
                process([sys.executable, "-m", "ctaflows", *words], log, cwd=here, env=env)
            )
            wait_until(lambda: parts_bytes(here) > 300_000, "bytes", 120)
            os.killpg(first.pid, signal.SIGKILL)
        gone_at, before = time.monotonic(), parts_bytes(here)
        wait_until(
            lambda: parts_bytes(here) > before + 3_000_000, "bytes without a server", 60 + AWAY_S
        )
        wait_until(lambda: time.monotonic() - gone_at > AWAY_S, "time", AWAY_S + 60)
        assert run.poll() is None
        assert parts_bytes(here) < SLOW_BYTES
        stack.enter_context(server(home, port))
        print(f"the server was away for {time.monotonic() - gone_at:.0f} s")
        assert run.wait(200 + AWAY_S) == 0, log.read_text()
        assert arrived(here) == night
        with temporary_settings({PREFECT_API_URL: url, PREFECT_HOME: home}):
            (recorded,) = PrefectServer(url, home).flow_runs()
            assert recorded.state.is_completed(), recorded.state
            assert recorded.name == "fetch-dl1-20241114"
