"""The limit on batches at a door: across processes, and never in the way of a transfer."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from serverkit import wait_until

from ctaflows import cancel
from ctaflows.errors import Stopped
from ctaflows.tasks import fetch_files
from ctaflows.tracking import concurrency_limit
from ctaflows.tracking.concurrency_limit import limit_name, limited
from ctaflows.tracking.flow import flow
from ctaflows.tracking.task import task

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ctaflows.sandbox import Sandbox

DOOR = "https://door.example.org:2880/base"
BATCH = """
import sys, time
from ctaflows.tracking.concurrency_limit import limited
from ctaflows.tracking.flow import flow

@flow(name="one-batch")
def one_batch():
    with limited(sys.argv[1]):
        print("in", time.time(), flush=True)
        time.sleep(1.0)
        print("out", time.time(), flush=True)

one_batch.tracked()
"""


@pytest.fixture(autouse=True)
def forgetful(prefect_server: Any) -> Iterator[None]:
    """Nobody remembers from the test before that a limit was absent."""
    concurrency_limit._absent.clear()
    yield
    concurrency_limit._absent.clear()


@pytest.fixture
def limit(prefect_server: Any) -> Any:
    """Make the limit of a door as an operator does; look at it."""
    from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate

    class Limits:
        def make(self, door_url: str, n_slots: int) -> None:
            self.name = limit_name(door_url)
            wanted = GlobalConcurrencyLimitCreate(name=self.name, limit=n_slots)
            with prefect_server.client as client:
                client.create_global_concurrency_limit(wanted)

        def n_taken(self) -> int:
            with prefect_server.client as client:
                return client.read_global_concurrency_limit_by_name(self.name).active_slots

    limits = Limits()
    yield limits
    with prefect_server.client as client:
        client.delete_global_concurrency_limit_by_name(limits.name)


def test_the_name_tells_the_door() -> None:
    assert limit_name("https://dcache.example.org:2880/cta") == "ctaflows-dcache.example.org"
    assert limit_name("https://[::1]:2880") == "ctaflows-::1"


def test_outside_a_run_nobody_is_asked() -> None:
    with limited("https://nobody.example.org"):
        pass
    assert not concurrency_limit._absent


def test_without_a_limit_nothing_is_held(prefect_server: Any) -> None:
    @flow
    def batches() -> None:
        for _ in range(3):
            with limited(DOOR):
                pass

    batches.tracked()
    assert limit_name(DOOR) in concurrency_limit._absent


@pytest.mark.slow
def test_it_holds_across_processes(prefect_server: Any, limit: Any, tmp_path: Path) -> None:
    limit.make(DOOR, 1)
    script = tmp_path / "batch.py"
    script.write_text(BATCH)
    command = [sys.executable, str(script), DOOR]
    batches = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [batch.communicate(timeout=200)[0].split() for batch in batches]
    assert [batch.returncode for batch in batches] == [0, 0]
    (first_in, first_out), (second_in, _) = sorted((float(w[1]), float(w[3])) for w in said)
    assert first_in < first_out <= second_in
    wait_until(lambda: limit.n_taken() == 0, "free slots")


def test_a_batch_takes_one_slot_and_gives_it_back(
    prefect_server: Any, limit: Any, box: Sandbox, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ctaflows.transfer import batch

    box.put("/a.h5", b"x" * 1000)
    limit.make(box.settings().door_url, 1)
    seen: list[int] = []
    real = batch.fetch_many

    def looking(*args: Any, **kwargs: Any) -> Any:
        seen.append(limit.n_taken())
        with limited(box.settings().door_url):  # within a batch: no second slot, no deadlock
            return real(*args, **kwargs)

    monkeypatch.setattr(batch, "fetch_many", looking)

    @flow
    def night() -> None:
        fetch_files.submit(["/a.h5"], here).result()

    night.tracked()
    assert seen == [1]
    assert limit.n_taken() == 0
    assert (here / "a.h5").exists()


def test_threads_wait_for_their_turn(prefect_server: Any, limit: Any) -> None:
    limit.make(DOOR, 2)
    n_now, most, lock = 0, 0, threading.Lock()
    pair = threading.Barrier(2, timeout=120)

    @task
    def batch() -> None:
        nonlocal n_now, most
        with limited(DOOR):
            with lock:
                n_now += 1
                most = max(most, n_now)
            pair.wait()
            with lock:
                n_now -= 1

    @flow
    def night() -> None:
        for future in [batch.submit() for _ in range(4)]:
            future.result()

    night.tracked()
    assert most == 2


def test_a_lost_lease_ends_nothing(
    prefect_server: Any, limit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.client.orchestration import SyncPrefectClient

    limit.make(DOOR, 1)
    monkeypatch.setattr(concurrency_limit, "RENEW_S", 0.05)
    real, refused = SyncPrefectClient.renew_concurrency_lease, []

    def renewing(client: Any, lease_id: Any, *args: Any) -> Any:
        client.release_concurrency_slots_with_lease(lease_id)
        try:
            return real(client, lease_id, *args)
        except Exception as why:
            refused.append(why)
            raise

    monkeypatch.setattr(SyncPrefectClient, "renew_concurrency_lease", renewing)

    @flow
    def night() -> str:
        with limited(DOOR):
            wait_until(lambda: len(refused) > 1, "a refusal", 60)
        return "done"

    assert night.tracked() == "done"
    assert limit.n_taken() == 0


def test_a_lease_is_renewed(
    prefect_server: Any, limit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.client.orchestration import SyncPrefectClient

    limit.make(DOOR, 1)
    monkeypatch.setattr(concurrency_limit, "RENEW_S", 0.05)
    real, answers = SyncPrefectClient.renew_concurrency_lease, []

    def renewing(*args: Any) -> Any:
        answers.append(real(*args).status_code)

    monkeypatch.setattr(SyncPrefectClient, "renew_concurrency_lease", renewing)

    @flow
    def night() -> None:
        with limited(DOOR):
            wait_until(lambda: len(answers) > 2, "renewals", 60)

    night.tracked()
    assert set(answers) == {204}


def test_a_server_that_is_away_ends_nothing(
    prefect_server: Any, limit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit.make(DOOR, 1)
    monkeypatch.setattr(concurrency_limit, "PATIENCE_S", 1.5)

    @flow
    def night() -> str:
        from prefect.client.orchestration import SyncPrefectClient

        def refuse(*_: Any, **__: Any) -> Any:
            raise ConnectionRefusedError("nobody there")

        with monkeypatch.context() as patch:
            patch.setattr(SyncPrefectClient, "request", refuse)
            with limited(DOOR):
                return "done"

    assert night.tracked() == "done"
    assert limit.name in concurrency_limit._absent


def test_a_server_that_is_busy_is_asked_again(
    prefect_server: Any, limit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.client.orchestration import SyncPrefectClient

    limit.make(DOOR, 1)
    real, tries, seen = SyncPrefectClient.request, [], []

    def refuse_twice(client: Any, method: str, path: str, *args: Any, **kwargs: Any) -> Any:
        if path.startswith("/v2/concurrency_limits/") and method == "POST":
            tries.append(path)
            if len(tries) in (1, 3):
                raise ConnectionRefusedError("nobody there")
        return real(client, method, path, *args, **kwargs)

    @flow
    def night() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(SyncPrefectClient, "request", refuse_twice)
            with limited(DOOR):
                seen.append(limit.n_taken())

    night.tracked()
    assert seen == [1]
    assert limit.n_taken() == 0
    assert len(tries) == 4


def test_who_waits_can_be_stopped(prefect_server: Any, limit: Any) -> None:
    limit.make(DOOR, 1)
    with prefect_server.client as client:
        client.increment_concurrency_slots_with_lease([limit.name], 1, "concurrency", 60)

    @task
    def waiting() -> None:
        with limited(DOOR):
            pytest.fail("there is no slot")

    @flow
    def night() -> None:
        begun = [waiting.submit() for _ in range(3)]
        wait_until(concurrency_limit._asking[limit.name].locked, "somebody who asks", 60)
        cancel.stop_all()
        for future in begun:
            with pytest.raises(Stopped):
                future.result()

    began = time.monotonic()
    night.tracked()
    assert time.monotonic() - began < 30
