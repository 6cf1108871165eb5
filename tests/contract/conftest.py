"""Fixtures: each storage in turn, its ways, a directory for each test; the table at the end."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
import targets
from targets import Place, Target
from ways import Ways, probe, table

from ctaflows.storage.connect import connect

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ctaflows.storage.protocol import Storage

_MARKS = dict.fromkeys(targets.SERVERS, pytest.mark.servers) | {
    "sandbox-proxying": pytest.mark.slow  # the sandbox that redirects shows the like
}
_PARAMETERS = [pytest.param(name, marks=_MARKS.get(name, ())) for name in targets.NAMES]


def pytest_configure() -> None:
    targets.check_environment()


@pytest.fixture(scope="session", params=_PARAMETERS)
def target(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Target]:
    """A storage, which gets no more requests than a site would bear."""
    home = tmp_path_factory.mktemp(request.param)
    with targets.target(request.param, home) as target:
        yield target
    n_requests = target.requests.total()
    assert n_requests <= targets.MOST_REQUESTS, f"{n_requests} requests: {target.requests}"


@pytest.fixture(scope="session")
def above(target: Target) -> Iterator[Place]:
    """A directory at the storage for all tests."""
    with targets.session_place(target) as place:
        yield place


@pytest.fixture(autouse=True)
def in_use(
    target: Target, own_environment: None, monkeypatch: pytest.MonkeyPatch, record_property: Any
) -> Iterator[None]:
    """The storage is that of the profile in use, and pauses are short where it is ours."""
    for name in ("CTADS_URL", "JUPYTERHUB_API_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    if target.name != "door":
        monkeypatch.setenv("CTAFLOWS_BACKOFF_S", "0.01")
        monkeypatch.setenv("CTAFLOWS_ATTEMPTS", "5")
        monkeypatch.setenv("CTAFLOWS_BUSY_S", "0.05")
    before = target.requests.copy()
    with target.used():
        yield
    record_property("contract requests", {target.name: dict(target.requests - before)})


@pytest.fixture
def storage(in_use: None, above: Place) -> Iterator[Storage]:
    """The storage, with what earlier tests have learned of it."""
    storage = connect().told_by(above.storage)
    yield storage
    above.storage.told_by(storage)


@pytest.fixture
def shelf(storage: Storage, above: Place) -> Place:
    """The directory for all tests, with files that many of them read and none changes."""
    above.storage = storage
    return above


@pytest.fixture
def place(storage: Storage, above: Place) -> Iterator[Place]:
    """A directory for one test at the storage, not there yet, removed with all that is in it."""
    place = targets.new_place(storage, above)
    yield place
    place.clear()


@pytest.fixture
def ways(target: Target, storage: Storage, above: Place, record_property: Any) -> Ways:
    """The storage's ways, found out by the first test that asks for them."""
    if target.ways is None:
        place = targets.new_place(storage, above)
        target.ways = probe(place)
        place.clear()
    record_property("contract ways", {target.name: target.ways.to_dict()})
    return target.ways


@pytest.fixture
def here(in_use: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The working directory, a new one."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return work


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the ways of the storages side by side; they come with the tests' results."""
    found: dict[str, Ways] = {}
    requests: dict[str, Counter[str]] = {}
    for reports in terminalreporter.stats.values():
        for key, values in (p for r in reports for p in getattr(r, "user_properties", ())):
            for name, value in values.items() if key.startswith("contract ") else ():
                if key == "contract ways":
                    found[name] = Ways.from_dict(value)
                else:
                    requests.setdefault(name, Counter()).update(value)
    if not found:
        return
    terminalreporter.section("contract: the ways of the storages")
    order = [name for name in targets.NAMES if name in found]
    for line in table({name: found[name].cells() for name in order}):
        terminalreporter.write_line(line)
    terminalreporter.write_line("")
    for name in order:
        counts = ", ".join(f"{n} {method}" for method, n in requests[name].most_common())
        terminalreporter.write_line(f"this {name}: {found[name].summary()}")
        terminalreporter.write_line(f"  {requests[name].total()} requests: {counts}")
