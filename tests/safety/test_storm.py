"""The storm asks for nothing that no client could do."""

from __future__ import annotations

import os
import random
import time
from typing import TYPE_CHECKING

from onlooker import Onlooker, digest, files
from pacing import PIECE_BYTES, Gate, PacedPool
from storm import TOKEN, Card, Driver, Storm, StormBook

from ctaflows.auth.store import Store
from ctaflows.sandbox import Quirks, Sandbox
from ctaflows.sandbox.tokens import Tokens

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest
    from joserfc.jwk import RSAKey

WAIT_S = 20
N_FILES = 8  # from so many on the first request is a listing, whose failure ends the run


class Loaded(random.Random):
    """A die by which tokens are revoked, not expired, and clients are forked."""

    def random(self) -> float:
        return 0.9


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_the_token_that_replaces_a_revoked_one_is_not_revoked_before_it_was_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A client sends a request that was refused once more, and no third time.

    The storm goes on as soon as the new token is stored, and the door judges that token only then.
    """
    first, second = Card(TOKEN), Card(TOKEN)
    gate, storm = Gate(), Storm([first, second])
    revoked: list[str] = []
    refusal, revoke = Tokens.refusal, Tokens.revoke

    def late_refusal(tokens: Tokens, token: str, keys: list[RSAKey]) -> str | None:
        if revoked and token != revoked[0]:
            until(lambda: len(revoked) > 1 or storm.card is not second)
        return refusal(tokens, token, keys)

    def noted_revoke(tokens: Tokens, token: str) -> None:
        revoke(tokens, token)
        revoked.append(token)

    monkeypatch.setattr(Tokens, "refusal", late_refusal)
    monkeypatch.setattr(Tokens, "revoke", noted_revoke)
    monkeypatch.setattr("ctaflows.sandbox.sandbox.Pool", lambda *args: PacedPool(gate, *args))
    monkeypatch.setattr("ctaflows.sandbox.sandbox.FaultBook", lambda _: StormBook(storm))
    work = tmp_path / "work"
    (work / "night").mkdir(parents=True)
    for i in range(N_FILES):
        (work / f"night/{i}.h5").write_bytes(random.randbytes(300_000))
    truth = {f"night/{name}": file for name, file in files(work / "night").items()}
    with Sandbox(tmp_path / "box", quirks=Quirks(rotate=False, block_after_401=False)) as box:
        there = box.storage / "lst/users/me"
        store = Store(box.settings())

        def is_renewed() -> bool:
            tokens = store.read()
            return tokens is not None and tokens.access_token not in revoked

        def feed() -> None:
            gate.grant(PIECE_BYTES)
            if storm.card is second:
                until(is_renewed)

        outcome = Driver(
            box, gate, storm, Loaded(1), jobs=[{"words": ["put", "-r", "night", "lst/users/me"]}],
            feed=feed, cwd=work, onlooker=Onlooker(there, truth),
            env={
                **os.environ,
                "CTAFLOWS_CONFIG_DIR": str(box.config_dir),
                "CTAFLOWS_BACKOFF_S": "0.01",
                "CTAFLOWS_ATTEMPTS": "5",
                "CTAFLOWS_TRACK": "never",
            },
        ).run()  # fmt: skip
        arrived = {name: digest(file) for name, file in files(there).items()}
    assert outcome.wrong == []
    assert outcome.happened[TOKEN] == len(revoked) == 2
    assert arrived == {name: digest(file) for name, file in truth.items()}
