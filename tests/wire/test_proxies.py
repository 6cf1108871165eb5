"""Variables that name proxies: heeded, passed over for exempt doors, or told as mistakes."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING

import pytest

from ctaflows.auth.renewal import TokenProvider
from ctaflows.errors import NetworkError, UsageError
from ctaflows.storage.webdav import WebDAVStorage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ctaflows.sandbox import Sandbox

NOBODY = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def names(box: Sandbox) -> list[str]:
    settings = box.settings(attempts=1)
    with WebDAVStorage(settings, TokenProvider(settings)) as door:
        return [entry.name for entry in door.list("/")]


@pytest.fixture
def file(box: Sandbox) -> str:
    (box.storage / "a.h5").write_bytes(b"x" * 10)
    return "a.h5"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("ALL_PROXY", NOBODY),
        ("ALL_PROXY", "socks5h://127.0.0.1:9"),
        ("https_proxy", "socks://127.0.0.1:9/"),
        ("https_proxy", "gibberish://"),
        ("https_proxy", "http://[::1"),
    ],
)
@pytest.mark.parametrize("exempt", ["localhost,127.0.0.1", "localhost 127.0.0.0/8 fe80::/10", "*"])
def test_a_door_that_is_exempt_is_reached_whatever_the_proxy_is(
    box: Sandbox, file: str, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, exempt: str
) -> None:
    monkeypatch.setenv(variable, value)
    monkeypatch.setenv("NO_PROXY", exempt)
    assert file in names(box)


@pytest.mark.parametrize("value", ["gibberish://p:1", "http://p:99999", "http://[::1"])
def test_a_proxy_that_can_not_be_used_is_a_mistake_in_its_variable(
    box: Sandbox, file: str, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("https_proxy", value)
    with pytest.raises(UsageError, match="https_proxy names a proxy that can't be used") as caught:
        names(box)
    assert "NO_PROXY" in (caught.value.hint or "")


def test_without_the_package_for_socks_the_variable_is_named(
    box: Sandbox, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "socksio", None)
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    with pytest.raises((UsageError, NetworkError), match="ALL_PROXY"):
        names(box)


def test_a_proxy_that_is_not_there_is_named_and_its_password_is_not(
    box: Sandbox, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://me:s3cr3t@127.0.0.1:9")
    with pytest.raises(NetworkError, match="the proxy that HTTPS_PROXY names") as caught:
        names(box)
    assert "s3cr3t" not in f"{caught.value} {caught.value.hint}"
    assert "NO_PROXY" in (caught.value.hint or "")


@pytest.fixture
def socks() -> Iterator[tuple[int, list[str]]]:
    """A SOCKS 5 proxy (RFC 1928) on loopback: its port, and the hosts that were asked for."""
    asked: list[str] = []
    server = socket.create_server(("127.0.0.1", 0))

    def pipe(one: socket.socket, other: socket.socket) -> None:
        try:
            while data := one.recv(1 << 16):
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def serve(client: socket.socket) -> None:
        client.recv(client.recv(2)[1])
        client.sendall(b"\5\0")
        kind = client.recv(4)[3]
        if kind == 3:
            host = client.recv(client.recv(1)[0]).decode()
        elif kind == 4:  # of localhost, which the client looks up itself
            assert client.recv(16) == socket.inet_pton(socket.AF_INET6, "::1")
            host = "localhost"
        else:
            host = socket.inet_ntoa(client.recv(4))
        asked.append(host)
        target = socket.create_connection((host, int.from_bytes(client.recv(2), "big")))
        client.sendall(b"\5\0\0\1\0\0\0\0\0\0")
        threading.Thread(target=pipe, args=(target, client), daemon=True).start()
        pipe(client, target)

    def accept() -> None:
        while True:
            try:
                client = server.accept()[0]
            except OSError:
                return
            threading.Thread(target=serve, args=(client,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield server.getsockname()[1], asked
    server.shutdown(socket.SHUT_RDWR)
    server.close()


@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
def test_a_socks_proxy_is_used(
    box: Sandbox,
    file: str,
    monkeypatch: pytest.MonkeyPatch,
    socks: tuple[int, list[str]],
    scheme: str,
) -> None:
    pytest.importorskip("socksio")
    port, asked = socks
    monkeypatch.setenv("ALL_PROXY", f"{scheme}://127.0.0.1:{port}")
    assert file in names(box)
    assert asked
