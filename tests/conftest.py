"""Fixtures and hooks of all tests: an isolated environment, and a sandbox."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import examples
import pytest

from ctaflows.sandbox import Sandbox
from ctaflows.sandbox.server import Certificates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

OTHERS = (
    "CTAFLOWS_",
    "CTADS_",
    "CTACS_",
    "JUPYTERHUB_",
    "BEARER_TOKEN",
    "SSL_CERT",
    "X509_",
    "HTTP_PROXY",
    "HTTPS_PROXY",
)


def pytest_configure() -> None:
    """Restore the default handling of Ctrl-C, which a shell's & makes processes ignore.

    And let Hypothesis try as many examples as the environment says, and judge no time.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    examples.apply()


#: Fixtures of tests/servers and tests/deployments behind which real servers stand.
REAL_SERVERS = {"server", "cluster", "authority", "start_server", "database", "slurm", "site"}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark tests by what they need; where processes share them, let what takes long begin first."""
    for item in items:
        is_there = item.path.parent.name in ("servers", "deployments")
        if is_there and REAL_SERVERS & set(getattr(item, "fixturenames", ())):
            item.add_marker("servers")
        if getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
            item.add_marker("repeats")
    if hasattr(config, "workerinput"):
        import sharing

        items.sort(key=lambda item: sharing.rank(item.nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Share tests in groups of those that use the same server or module."""
    import sharing

    return sharing.Sharing(config, log)


@pytest.fixture(autouse=True)
def own_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Hide the settings and tokens of the user who runs the tests."""
    others = OTHERS if request.path.parent.name == "prefect" else (*OTHERS, "PREFECT_")
    for name in list(os.environ):
        if name.startswith(others):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home" / ".config"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))


@pytest.fixture(autouse=True)
def closed_doors() -> Iterator[None]:
    """Close the connections that a test has opened: thousands of tests would use up all sockets."""
    yield
    connect = sys.modules.get("ctaflows.storage.connect")
    if connect is not None:
        storages, connect._storages = connect._storages, {}
        for _, door in storages.values():
            door.close()


@pytest.fixture
def without_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write pages of nights without their five pictures, which take a second and a half to draw."""
    monkeypatch.setattr("ctaflows.dl1.report.plots.pictures_of", lambda _inspections: ())


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """The certificates of all sandboxes: making them takes as long as the rest of a sandbox."""
    return Certificates(tmp_path_factory.mktemp("tls"), "localhost")


@pytest.fixture
def box(certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """A sandbox for one test."""

    def copied(folder: Path, _host: str) -> Certificates:
        shutil.copytree(certificates.ca_file.parent, folder, dirs_exist_ok=True)
        return certificates

    with monkeypatch.context() as patch:
        patch.setattr("ctaflows.sandbox.sandbox.Certificates", copied)
        sandbox = Sandbox()
    with sandbox:
        yield sandbox


@pytest.fixture
def here(box: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The sandbox is the profile in use, pauses are short, the working directory is a new one."""
    monkeypatch.setenv("CTAFLOWS_CONFIG_DIR", str(box.config_dir))
    monkeypatch.setenv("CTAFLOWS_BACKOFF_S", "0.01")
    monkeypatch.setenv("CTAFLOWS_ATTEMPTS", "5")
    monkeypatch.setenv("CTAFLOWS_BUSY_S", "0.05")
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return work


@dataclass
class Held:
    """Token answers that are held back: made, so that a refresh token is used up, but not sent."""

    made: threading.Event = field(default_factory=threading.Event)
    sent: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    """Hold the token answers of the sandbox's issuer back until `sent` is set."""
    from ctaflows.sandbox import issuer

    held, real = Held(), issuer.call_wsgi

    def call(application: Any, environ: dict[str, Any]) -> Any:
        response = real(application, environ)
        if environ["PATH_INFO"].endswith("/token") and response.status == 200:
            held.made.set()
            held.sent.wait(60)
        return response

    monkeypatch.setattr(issuer, "call_wsgi", call)
    yield held
    held.sent.set()


@pytest.fixture
def issuer_says(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make the sandbox's issuer answer every request with a status."""
    from ctaflows.sandbox import issuer
    from ctaflows.sandbox.messages import Response

    def says(status: int, path: str = "") -> None:
        real = issuer.call_wsgi

        def call(application: Any, environ: dict[str, Any]) -> Any:
            if not environ["PATH_INFO"].endswith(path):
                return real(application, environ)
            body = b'{"message": "Realm does not exist"}'
            return Response(status, headers={"Content-Type": "application/json"}, body=body)

        monkeypatch.setattr(issuer, "call_wsgi", call)

    return says
