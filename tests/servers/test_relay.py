"""The relay: nothing changed but the time. Upper limits of time are left to benchmarks."""

from __future__ import annotations

import contextlib
import http.client
import os
import ssl
import time
from typing import TYPE_CHECKING

import pytest
import realservers
import relay

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from realservers import Server

DATA = os.urandom(2_000_000)


@contextlib.contextmanager
def connected(server: Server) -> Iterator[http.client.HTTPSConnection]:
    context = ssl.create_default_context(cafile=server.ca_file)
    with contextlib.closing(
        http.client.HTTPSConnection("localhost", server.port, context=context)
    ) as connection:
        connection.connect()
        yield connection


def exchange(
    connection: http.client.HTTPSConnection, method: str, path: str, body: bytes | None = None
) -> tuple[bytes, float]:
    """Send a request; give the answer's body and how many seconds it took."""
    started = time.monotonic()
    connection.request(method, path, body=body)
    answer = connection.getresponse().read()
    return answer, time.monotonic() - started


def test_bytes_pass_both_ways_unchanged(server: Server, tmp_path: Path) -> None:
    with realservers.delayed(tmp_path, server, 2.0) as relayed, connected(relayed) as connection:
        exchange(connection, "PUT", "/relayed", DATA)
        assert (server.root / "relayed").read_bytes() == DATA
        assert exchange(connection, "GET", "/relayed")[0] == DATA


ONE = pytest.mark.parametrize("server", ["nginx"], indirect=True)


@ONE
def test_each_way_takes_half_a_round_trip(server: Server, tmp_path: Path) -> None:
    (server.root / "small").write_bytes(b"x")
    with realservers.delayed(tmp_path, server, 100.0) as relayed:
        started = time.monotonic()
        with connected(relayed) as connection:
            # TCP's handshake and TLS 1.3's, one round trip each
            assert time.monotonic() - started >= 0.2
            assert exchange(connection, "GET", "/small")[1] >= 0.1


@ONE
def test_slow_start(server: Server, tmp_path: Path) -> None:
    """14,600 bytes at first, doubled each time: 2 MB need eight round trips."""
    (server.root / "large").write_bytes(DATA)
    with realservers.delayed(tmp_path, server, 50.0) as relayed, connected(relayed) as connection:
        data, seconds = exchange(connection, "GET", "/large")
        assert data == DATA
        assert seconds >= 7 * 0.05


@ONE
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_the_cap_is_a_connection_s_own(server: Server, tmp_path: Path, method: str) -> None:
    (server.root / "large").write_bytes(DATA)
    body = DATA if method == "PUT" else None
    with (
        realservers.delayed(tmp_path, server, 0.0, 10.0) as relayed,
        connected(relayed) as connection,
    ):
        counted = len(DATA) - 2 * relay.READ_BYTES  # what is read at once leaves at once
        assert exchange(connection, method, "/large", body)[1] >= counted / 10e6


@ONE
def test_a_relay_s_end_is_not_the_server_s(server: Server, tmp_path: Path) -> None:
    (server.root / "small").write_bytes(b"x")
    with realservers.delayed(tmp_path, server, 1.0) as relayed:
        pass
    with pytest.raises(OSError), connected(relayed):  # noqa: PT011  refused or reset
        pass
    with connected(server) as connection:
        assert exchange(connection, "GET", "/small")[0] == b"x"
