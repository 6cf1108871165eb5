"""A sequence of interruptions of all kinds, in an order drawn from a seed."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clients import Client, Forker, Spawned
from pacing import PIECE_BYTES, Cut, Gate

from ctaflows.auth.store import Store
from ctaflows.sandbox.faults import Fault, FaultBook

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Mapping, Sequence

    from onlooker import Onlooker

    from ctaflows.sandbox import Sandbox

KILL = "client killed"
TOKEN = "token over"
#: How many of 100 interruptions are of a kind.
MIX = {
    KILL: 50,
    "connection reset": 10,
    "body cut short": 10,
    "pool gone": 10,
    TOKEN: 5,
    "door 503": 8,
    "door 429": 7,
}
_PATIENCE_S = 0.6  # for an interruption that waits for a request: a renewal loads httpx first
_CODES = (0, -signal.SIGKILL, 8, 9, 10)  # with the last three a run may give up in a storm
#: What no run says, whatever its exit code: of many files one may have failed for it.
_UNSAYABLE = ("Traceback", "does not accept the token")


@dataclass
class Card:
    """One planned interruption.

    Attributes
    ----------
    kind : str
        A key of `MIX`.
    fault : Fault or None
        What the sandbox does; None where the driver or the gate does it.
    n_spared : int
        Requests that pass before it strikes.
    """

    kind: str
    fault: Fault | None = None
    n_spared: int = 0
    is_armed: bool = field(default=False, compare=False)


def deal(rng: random.Random, n: int, method: str) -> list[Card]:
    """Return a shuffled list of `n` interruptions, each kind at least once.

    Parameters
    ----------
    rng : random.Random
        Decides all.
    n : int
        How many.
    method : str
        ``GET`` or ``PUT``: whose pool goes away.
    """
    kinds = [kind for kind, weight in MIX.items() for _ in range(max(1, weight * n // 100))]
    kinds += rng.choices(list(MIX), list(MIX.values()), k=max(0, n - len(kinds)))
    rng.shuffle(kinds)
    return [Card(kind, _fault(rng, kind, method), rng.randrange(4)) for kind in kinds]


def _fault(rng: random.Random, kind: str, method: str) -> Fault | None:
    if kind == "pool gone":  # nobody listens there, or it dies when it is asked
        refused = Fault("redirect_elsewhere", server="door", method=method)
        dies = Fault("lost" if method == "GET" else "reset", server="pool", method=method)
        return rng.choice([refused, dies])
    if kind == "connection reset" and method == "PUT" and rng.random() < 0.4:
        # all is done, and the client does not hear of it
        return Fault("lost", server="door")
    if kind == "door 503":
        return Fault(
            "503", server=rng.choice(["door", "pool"]), retry_after_s=rng.choice([None, 0])
        )
    if kind == "door 429":
        return Fault("429", server="door", retry_after_s=rng.choice([0, 0, 0, 1]))
    return None


class Storm:
    """The interruptions still to come, and what became of the others.

    Attributes
    ----------
    happened : Counter
        How often each kind has really struck.
    alive_at : float
        When the client last asked or moved something, on the monotonic clock.
    """

    def __init__(self, cards: Sequence[Card]) -> None:
        self._cards = deque(cards)
        self._lock = threading.Lock()
        self.n_planned = len(cards)
        self.happened: Counter[str] = Counter()
        self.alive_at = 0.0

    def share(self) -> float:
        """Return the part of the storm that is over, from 0 to 1."""
        with self._lock:
            n = self.happened.total()
            return n / max(1, n + len(self._cards))

    @property
    def card(self) -> Card | None:
        """The next interruption."""
        with self._lock:
            return self._cards[0] if self._cards else None

    def struck(self, card: Card) -> None:
        """Record that an interruption has happened."""
        with self._lock:
            self.happened[card.kind] += 1
            if self._cards and self._cards[0] is card:
                self._cards.popleft()

    def prefer_a_kill(self) -> None:
        """Put a kill before an interruption whose occasion does not come."""
        with self._lock:
            kill = next((card for card in self._cards if card.kind == KILL), None)
            if kill is None:
                kill = Card(KILL)
            else:
                self._cards.remove(kill)
            self._cards.appendleft(kill)


class StormBook(FaultBook):
    """The faults of a storm, in place of those of the sandbox."""

    def __init__(self, storm: Storm) -> None:
        super().__init__()
        self._storm = storm

    def __len__(self) -> int:
        return 1

    def take(
        self, server: str, method: str, path: str, suits: Callable[[Fault], bool]
    ) -> Fault | None:
        card = self._storm.card
        self._storm.alive_at = time.monotonic()
        if card is None:
            return None
        if card.kind == TOKEN and card.is_armed and server == "issuer" and method == "POST":
            self._storm.struck(card)
        if card.fault is None or not card.fault.befalls(server, method, path):
            return None
        if not suits(card.fault):
            return None
        if card.n_spared > 0:
            card.n_spared -= 1
            return None
        self._storm.struck(card)
        return card.fault


def _stop(pid: int) -> None:
    """Stop a process, and wait until all its threads stand still."""
    os.kill(pid, signal.SIGSTOP)
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline:
        states = []
        for file in Path(f"/proc/{pid}/task").glob("*/stat"):
            with contextlib.suppress(OSError):
                states.append(file.read_text().rpartition(")")[2].split()[0])
        if all(state in "TZX" for state in states):
            return


def _children(pid: int) -> list[int]:
    """Return the client's child processes: a batch system that kills a job kills all of them."""
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for file in lists for child in file.read_text().split()]


@dataclass(frozen=True)
class Outcome:
    """The state that a storm left behind.

    Attributes
    ----------
    happened : Counter
        Interruptions by kind.
    read_bytes : int
        Bytes of bodies that the clients have read (GET) or the pool has (PUT).
    last_code : int
        Exit code of the run after the storm.
    codes : Counter
        Exit codes of all runs that were not killed.
    wrong : list of str
        What an onlooker saw, and what the clients said that they should not say.
    seconds : float
        How long it took.
    """

    happened: Counter[str]
    read_bytes: int
    last_code: int
    codes: Counter[int]
    wrong: list[str]
    seconds: float


class Driver:
    """Runs the client again and again during a storm, then undisturbed to its end.

    Parameters
    ----------
    box, gate, storm
        The servers, what holds their bodies back, what befalls them.
    rng : random.Random
        Decides when kills come and which client runs.
    jobs : sequence of dict
        Ways to do the same work, see `Forker.begin`. The command lines are also run on their own.
    feed : callable
        Lets some more bytes pass the gate: called for each interruption, for kills once more.
    """

    def __init__(
        self, box: Sandbox, gate: Gate, storm: Storm, rng: random.Random, *,
        jobs: Sequence[dict[str, Any]], feed: Callable[[], None], env: Mapping[str, str],
        cwd: Path, onlooker: Onlooker,
    ) -> None:  # fmt: skip
        gate.after = lambda _: setattr(storm, "alive_at", time.monotonic())
        self._box, self._gate, self._storm, self._rng = box, gate, storm, rng
        self._jobs, self._feed = jobs, feed
        self._env, self._cwd, self._onlooker = env, cwd, onlooker
        self._store = Store(box.settings())
        self._read_bytes = 0
        self._codes: Counter[int] = Counter()
        self._wrong: list[str] = []
        self._said = cwd / "said.txt"
        self._kill_at: float | None = None
        self._timed: Card | None = None
        self._fed: Card | None = None
        self._n_seen_before = 0

    def run(self) -> Outcome:
        """Let the storm pass, then let the client finish, and one more find all done."""
        started = time.monotonic()
        with Forker(self._cwd, self._env) as self._forker, self._onlooker:
            client = None
            while client is None:
                client = self._interrupted_run()
            self._gate.cut(None)
            self._gate.open()
            last = self._ended(client)
            for _ in range(2):
                if last == 0:
                    break
                last = self._ended(self._begin())
            if last == 0:
                # What a killed client has sent may arrive when the next one has looked for what
                # killed ones left: the one after that removes it.
                self._gate.wait_for_uploads(60)
                last = self._ended(self._begin())
            self._onlooker.look()
        return Outcome(
            self._storm.happened, self._read_bytes, last, self._codes,
            self._wrong + self._onlooker.wrong, time.monotonic() - started,
        )  # fmt: skip

    def _begin(self) -> Client:
        self._n_seen_before = len(self._box.requests)
        job = self._rng.choice(self._jobs)
        if "words" in job and self._rng.random() < 0.25:
            return Spawned(job["words"], self._cwd, self._env, self._said)
        return self._forker.begin(job, self._said)

    def _interrupted_run(self) -> Client | None:
        """Run the client until it is killed or fails; return it if the storm is over before."""
        client, begun = self._begin(), time.monotonic()
        self._kill_at = self._timed = None
        while (card := self._storm.card) is not None:
            if client.code(0.002) is not None:
                code = self._ended(client)
                assert code != 0, "all was moved before the storm was over"
                return None
            if card is not self._fed:
                self._fed = card
                self._feed()
            if card.kind == KILL:
                if self._is_time(card, begun):
                    self._kill(client, card)
                    return None
            else:
                self._arm(card)
                self._wait_for(card, begun)
        return client

    def _wait_for(self, card: Card, begun: float) -> None:
        """Where the occasion for an interruption does not come, bring about a new run."""
        now, alive_at = time.monotonic(), self._storm.alive_at
        if now - max(alive_at, begun) < (_PATIENCE_S if alive_at > begun else 20):
            return
        self._gate.cut(None)
        card.is_armed = False
        self._storm.prefer_a_kill()

    def _is_time(self, card: Card, begun: float) -> bool:
        """Decide when a kill comes: at any time, or soon after bytes have begun to move."""
        now = time.monotonic()
        if self._timed is not card:
            self._timed = card
            is_blind = self._rng.random() < 0.4
            self._kill_at = now + self._rng.uniform(0, 0.4) if is_blind else None
        if self._kill_at is None and (self._gate.moved_bytes or now - begun > 3):
            self._feed()
            self._kill_at = now + self._rng.uniform(0, 0.04)
        return self._kill_at is not None and now >= self._kill_at

    def _kill(self, client: Client, card: Card) -> None:
        """Kill the client; what it has not read of the system's buffers nobody could keep."""
        try:
            _stop(client.pid)
            twins = _children(client.pid)
            for pid in twins:
                _stop(pid)
            with self._gate.held():
                unread = self._gate.unread_bytes()
                for pid in (client.pid, *twins):
                    os.kill(pid, signal.SIGKILL)
                moved = self._gate.next_epoch()
        except ProcessLookupError:
            self._ended(client)
            return
        code = client.code(60)
        self._check(client, code)
        if code == -signal.SIGKILL:
            self._storm.struck(card)
            self._read_bytes += moved - unread
        else:
            self._read_bytes += moved
        self._onlooker.look()

    def _ended(self, client: Client) -> int:
        code = client.code(300)
        assert code is not None, "the client does not end"
        self._read_bytes += self._gate.next_epoch()
        self._check(client, code)
        return code

    def _check(self, client: Client, code: int | None) -> None:
        said = client.said.read_text(errors="replace")
        if code is not None and code >= 0:
            self._codes[code] += 1
        if any(words in said for words in _UNSAYABLE) or code not in _CODES:
            self._wrong.append(f"exit code {code}: {said[-2000:]}")

    def _arm(self, card: Card) -> None:
        if card.is_armed:
            return
        card.is_armed = True
        if card.fault is None and card.kind in ("connection reset", "body cut short"):
            self._gate.cut(
                Cut(
                    card.kind == "connection reset",
                    self._rng.randrange(PIECE_BYTES),
                    lambda: self._storm.struck(card),
                )
            )
        elif card.kind == TOKEN and not self._end_token(expired=self._rng.random() < 0.5):
            card.is_armed = False
            self._storm.prefer_a_kill()

    def _end_token(self, *, expired: bool) -> bool:
        """Expire the stored token; return False where this run must keep it.

        A client repeats a refused request once: it may not be refused again with the token that it
        got for that. Which requests are still to be repeated can't be seen from here, so that no
        token is revoked in a run in which one was refused. The store is read before that is looked
        at: what is stored then did not come after a refusal.
        """
        tokens = self._store.read()
        assert tokens is not None
        if not expired:
            if any(seen.status == 401 for seen in self._box.requests[self._n_seen_before :]):
                return False
            self._box.revoke(tokens.access_token)
            return True
        with self._store.lock():
            tokens = self._store.read()
            assert tokens is not None
            old = self._box.issue_token(lifetime_s=-1)
            self._store.write(replace(tokens, access_token=old, obtained_at=time.time() - 7200))
        return True
