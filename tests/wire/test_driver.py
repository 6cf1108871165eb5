"""The driver against a small server: what it grants, in which order, and how it ends."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import threading
import time
import weakref
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from ctaflows.errors import NetworkError, NoSpace, NotFound, Refused, Stopped
from ctaflows.retry import Retries
from ctaflows.settings import Settings
from ctaflows.transfer.progress import RateLimiter
from ctaflows.transport import driver as drivers
from ctaflows.transport.ask import Session, ask
from ctaflows.transport.driver import Width, borrowed, close_idle, run_journey
from ctaflows.transport.wishes import READ, Call, Gather, Pause, Request, Synced

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ctaflows.transport.wishes import Journey, Response

BODY = os.urandom(200_000)
WAIT_S = 20


class Place(ThreadingHTTPServer):
    """A server whose answers tests decide."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.heard: list[str] = []
        self.n_now = self.most = 0
        self.lock = threading.Lock()
        self.answer: Callable[[Handler], None] = lambda it: it.reply(200, BODY)
        self.go_on = threading.Event()  # for answers that wait
        self.came = threading.Semaphore(0)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Place

    def log_message(self, *_: object) -> None:
        """Log nothing."""

    def do_GET(self) -> None:
        place = self.server
        with place.lock:
            place.heard.append(self.path)
            place.n_now += 1
            place.most = max(place.most, place.n_now)
        place.came.release()
        with contextlib.suppress(OSError):
            place.answer(self)
        with place.lock:
            place.n_now -= 1

    do_DELETE = do_GET  # noqa: N815

    def reply(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def wait(self) -> None:
        """Answer when the test says so."""
        assert self.server.go_on.wait(WAIT_S)
        self.reply(200, BODY)


@pytest.fixture
def place() -> Iterator[Place]:
    place = Place()
    thread = threading.Thread(target=place.serve_forever, daemon=True)
    thread.start()
    yield place
    place.go_on.set()
    place.shutdown()
    place.server_close()


@pytest.fixture
def session(place: Place) -> Iterator[Session]:
    session = Session(Settings(transfers=8, attempts=2, backoff_s=0.0), place.url)
    session.has_answered = True
    yield session
    close_idle(session)


def get(session: Session, place: Place, path: str = "/a", **more: Any) -> Journey[Response]:
    request = Request("GET", place.url + path, **more)
    return ask(request, session, Retries(session.settings))


def run(session: Session, journeys: list[Journey[Any]], width: int = 8, **more: Any) -> list[Any]:
    """Run journeys, and return the result or error of each."""
    found: list[Any] = [None] * len(journeys)
    todo = list(enumerate(journeys))[::-1]

    def next_one() -> tuple[Journey[Any], int] | None:
        if not todo:
            return None
        place, journey = todo.pop()
        return journey, place

    with borrowed(session) as driver:
        for task in driver.run(next_one, session, Width(width, width), **more):
            found[task.tag] = task.error or task.result
    return found


class Sink:
    """Keeps what comes."""

    worth_bytes = 1

    def __init__(self, write: Callable[[bytes], None] | None = None) -> None:
        self.data = bytearray()
        self._write = write

    @property
    def n_received(self) -> int:
        return len(self.data)

    def range_line(self) -> None:
        return None

    def begin(self, answer: Response) -> None:
        self.data.clear()

    def write(self, piece: bytes) -> None:
        if self._write is not None:
            self._write(piece)
        self.data += piece

    def ended(self, answer: Response) -> bool:
        return False


class Whole(Sink):
    """Judges that all came."""

    def ended(self, answer: Response) -> bool:
        return answer.error is None


# -- many at once ----------------------------------------------------------------------------------


def test_many_answers_each_to_its_own(session: Session, place: Place) -> None:
    place.answer = lambda it: it.reply(200, it.path.encode())
    answers = run(session, [get(session, place, f"/{n}") for n in range(50)])
    assert [answer.body for answer in answers] == [f"/{n}".encode() for n in range(50)]
    assert place.most <= 8


def test_an_error_is_of_its_journey_alone(session: Session, place: Place) -> None:
    place.answer = lambda it: it.reply(404 if it.path == "/1" else 200)
    answers = run(session, [get(session, place, f"/{n}") for n in range(3)])
    assert isinstance(answers[1], NotFound)
    assert [answers[0].status, answers[2].status] == [200, 200]


def test_all_drivers_of_a_service_share_its_slots(place: Place) -> None:
    session = Session(Settings(transfers=3), place.url)
    session.has_answered = True
    place.answer = Handler.wait
    threads = [
        threading.Thread(target=run, args=(session, [get(session, place) for _ in range(4)]))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for _ in range(3):
        assert place.came.acquire(timeout=WAIT_S)
    place.go_on.set()
    for thread in threads:
        thread.join(WAIT_S)
    assert place.most == 3
    assert session.slots.n_free == 3
    close_idle(session)


def test_the_first_request_goes_alone(place: Place) -> None:
    session = Session(Settings(transfers=8), place.url)
    place.answer = lambda it: it.reply(401)
    with pytest.raises(Refused):
        run(session, [get(session, place, f"/{n}") for n in range(20)])
    assert place.heard == ["/0"]
    close_idle(session)


def test_the_others_need_not_wait_for_the_body_of_the_first_answer(place: Place) -> None:
    def answer(it: Handler) -> None:
        if it.path == "/large":
            it.send_response(200)
            it.send_header("Content-Length", "2")
            it.end_headers()
            it.wfile.write(b"1")
            assert place.go_on.wait(WAIT_S)
            it.wfile.write(b"2")
        else:
            place.go_on.set()
            it.reply(200)

    place.answer = answer
    session = Session(Settings(attempts=1, stall_timeout_s=3.0), place.url)
    large = get(session, place, "/large", sink=Whole(), good=READ)
    found = run(session, [large, get(session, place)])
    assert [one.status for one in found] == [200, 200]


def test_a_refused_token_ends_all_with_one_error(session: Session, place: Place) -> None:
    place.answer = lambda it: it.reply(401)
    ended: list[Any] = []
    todo = [(get(session, place), n) for n in range(100)]
    with borrowed(session) as driver, pytest.raises(Refused):
        ended.extend(driver.run(lambda: todo.pop() if todo else None, session, Width(4, 4)))
    assert len(place.heard) <= 8
    assert len(todo) > 80


def test_an_issuer_that_does_not_answer_ends_all_with_one_error(place: Place) -> None:
    class Away:
        n_asked = 0

        def token(self) -> str:
            self.n_asked += 1
            raise NetworkError("The issuer does not answer")

        def renew(self, rejected: str) -> str:
            raise AssertionError(rejected)

    away = Away()
    session = Session(Settings(), place.url, away)
    with pytest.raises(NetworkError, match="issuer"):
        run(session, [get(session, place) for _ in range(20)])
    assert away.n_asked <= 2
    assert place.heard == []


def test_what_a_door_redirected_to_overtakes_what_waits(session: Session, place: Place) -> None:
    def answer(it: Handler) -> None:
        if it.path.startswith("/door"):
            it.reply(302, Location=it.path.replace("door", "pool"))
        else:
            it.reply(200)

    place.answer = answer
    run(session, [get(session, place, f"/door{n}") for n in range(4)], width=1)
    assert place.heard == [f"/{at}{n}" for n in range(4) for at in ("door", "pool")]


@pytest.mark.parametrize("n_gathered", [0, 1, 5])
def test_gathered_journeys_give_their_results_in_order(
    session: Session, place: Place, n_gathered: int
) -> None:
    place.answer = lambda it: it.reply(200, it.path.encode())

    def journey() -> Journey[list[bytes]]:
        answers = yield Gather([get(session, place, f"/{n}") for n in range(n_gathered)])
        return [answer.body for answer in answers]

    assert run_journey(journey(), session) == [f"/{n}".encode() for n in range(n_gathered)]


def test_the_first_error_of_gathered_journeys_ends_the_others(
    session: Session, place: Place
) -> None:
    told: list[type[BaseException]] = []

    def other() -> Journey[None]:
        try:
            yield from get(session, place, "/slow")
        except BaseException as why:
            told.append(type(why))
            raise

    def answer(it: Handler) -> None:
        it.wait() if it.path == "/slow" else it.reply(404)

    def journey() -> Journey[None]:
        yield Gather([other(), get(session, place, "/gone"), other()])

    place.answer = answer
    with pytest.raises(NotFound):
        run_journey(journey(), session)
    assert told == [drivers.OtherFailed] * 2
    assert session.slots.n_free == 8


# -- calls, pauses, bytes on disk ------------------------------------------------------------------


def test_a_call_runs_in_another_thread_and_its_error_comes_back(session: Session) -> None:
    def fails() -> None:
        raise ValueError("x")

    def journey() -> Journey[int]:
        with pytest.raises(ValueError, match="x"):
            yield Call(fails)
        return (yield Call(threading.get_ident))

    assert run_journey(journey(), session) != threading.get_ident()


def test_where_no_thread_can_be_started_it_is_called_here(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    def journey() -> Journey[int]:
        return (yield Call(threading.get_ident))

    monkeypatch.setattr(drivers, "started", lambda _: False)
    assert run_journey(journey(), session) == threading.get_ident()


def test_a_pause_costs_no_cpu(session: Session) -> None:
    def journey() -> Journey[None]:
        yield Pause(0.5)

    began, cpu_s = time.monotonic(), time.thread_time()
    run_journey(journey(), session)
    assert time.monotonic() - began >= 0.5
    assert time.thread_time() - cpu_s < 0.1


def test_a_door_that_does_not_answer_costs_no_cpu(session: Session, place: Place) -> None:
    place.answer = Handler.wait
    timer = threading.Timer(0.5, place.go_on.set)
    timer.start()
    cpu_s = time.thread_time()
    run_journey(get(session, place), session)
    assert time.thread_time() - cpu_s < 0.1


def test_files_are_synced_together(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups: list[int] = []

    def sync(files: list[tuple[int, str]]) -> list[OSError | None]:
        groups.append(len(files))
        return [OSError(5, path) if path.endswith("7") else None for _, path in files]

    monkeypatch.setattr(drivers, "sync_together", sync)

    def journey(n: int) -> Journey[str | None]:
        with (tmp_path / str(n)).open("wb") as stream:
            why = yield Synced(stream.fileno(), str(n))
        return None if why is None else why.strerror

    found = run(session, [journey(n) for n in range(200)])
    assert found == [str(n) if str(n).endswith("7") else None for n in range(200)]
    assert sum(groups) == 200
    assert len(groups) < 20


def test_a_fault_while_files_are_synced_is_told_to_each(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sync(_: object) -> None:
        raise RuntimeError("no sync")

    monkeypatch.setattr(drivers, "sync_together", sync)

    def journey() -> Journey[str]:
        with pytest.raises(RuntimeError, match="no sync"):
            yield Synced(0, "x")
        return "told"

    assert run(session, [journey(), journey()]) == ["told", "told"]


@pytest.mark.parametrize("n_bytes", [0, 40_000])
def test_what_is_refused_after_a_pause_for_the_limit_is_the_error(
    session: Session, place: Place, n_bytes: int
) -> None:
    def write(_: bytes) -> None:
        if len(sink.data) >= n_bytes:
            raise NoSpace("full")

    sink = Sink(write)
    limit = RateLimiter(100_000)
    limit.pause_s(60_000)  # so that it waits from the first byte on
    with pytest.raises(NoSpace):
        run_journey(get(session, place, sink=sink, good=READ), session, limit=limit)
    assert session.slots.n_free == 8
    assert run(session, [get(session, place)])[0].status == 200


def test_bytes_come_within_the_rate_limit(session: Session, place: Place) -> None:
    sink = Sink()
    began = time.monotonic()
    run_journey(get(session, place, sink=sink, good=READ), session, limit=RateLimiter(200_000))
    assert bytes(sink.data) == BODY
    assert time.monotonic() - began > 0.4  # half a second's bytes are credited
    sink = Sink()
    run_journey(get(session, place, sink=sink, good=READ), session)
    assert bytes(sink.data) == BODY


# -- the end ---------------------------------------------------------------------------------------


def stopped_at_work(session: Session, place: Place, stop: threading.Event) -> threading.Thread:
    """Set the event when a request is waiting for its answer."""
    place.answer = Handler.wait

    def watch() -> None:
        assert place.came.acquire(timeout=WAIT_S)
        stop.set()

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def test_a_stop_ends_all_at_once(session: Session, place: Place) -> None:
    stop = threading.Event()
    thread = stopped_at_work(session, place, stop)
    with pytest.raises(Stopped):
        run(session, [get(session, place) for _ in range(20)], stop=stop)
    thread.join()
    assert not place.go_on.is_set()
    assert session.slots.n_free == 8


def test_a_journey_that_is_ended_may_clean_up(session: Session, place: Place) -> None:
    stop = threading.Event()

    def journey() -> Journey[None]:
        try:
            yield from get(session, place, "/slow")
        except Stopped:
            yield from ask(Request("DELETE", f"{place.url}/x"), session, Retries(session.settings))
            raise

    thread = stopped_at_work(session, place, stop)
    place.answer = lambda it: it.wait() if it.path == "/slow" else it.reply(204)
    with pytest.raises(Stopped):
        run(session, [journey()], stop=stop)
    thread.join()
    assert place.heard == ["/slow", "/x"]


def test_cleaning_up_that_takes_too_long_is_ended(
    session: Session, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drivers, "_GRACE_S", 0.2)
    closed: list[bool] = []

    def journey() -> Journey[None]:
        try:
            yield from get(session, place)
        except Stopped:
            try:
                yield Pause(1000)
            except GeneratorExit:
                closed.append(True)
                raise

    stop = threading.Event()
    thread = stopped_at_work(session, place, stop)
    with pytest.raises(Stopped):
        run(session, [journey()], stop=stop)
    thread.join()
    assert closed == [True]


def test_ctrl_c_lets_all_clean_up(session: Session, place: Place) -> None:
    """A bare KeyboardInterrupt, as in a notebook."""
    told: list[type[BaseException]] = []

    def journey() -> Journey[None]:
        try:
            yield from get(session, place)
        except BaseException as why:
            told.append(type(why))
            raise

    def interrupt() -> None:
        for _ in range(2):
            assert place.came.acquire(timeout=WAIT_S)
        os.kill(os.getpid(), signal.SIGINT)

    place.answer = Handler.wait
    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        run(session, [journey(), journey()])
    thread.join()
    assert told == [Stopped, Stopped]
    assert session.slots.n_free == 8


def test_an_interruption_within_a_callback_is_not_lost(session: Session, place: Place) -> None:
    def interrupted(_: bytes) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_journey(get(session, place, sink=Sink(interrupted), good=READ), session)


def test_an_interruption_before_a_callback_begins_breaks_no_connection(
    session: Session,
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A signal may be handled before the first line of a callback; the next ones are not called."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(drivers.Exchange, "take", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_journey(get(session, place, sink=Sink(), good=READ), session)
    assert caplog.messages == []  # such as that it is tried again


@pytest.mark.parametrize("why", [NoSpace("full"), KeyboardInterrupt()])
def test_what_a_sink_says_after_a_pause_of_the_rate_limit_is_its_word(
    session: Session, place: Place, why: BaseException
) -> None:
    def write(_: bytes) -> None:
        if limit.n_paused:
            raise why

    limit = PausedOnce()
    with pytest.raises(type(why)):
        run_journey(get(session, place, sink=Sink(write), good=READ), session, limit=limit)
    assert limit.n_paused == 1
    assert session.slots.n_free == 8


class PausedOnce:
    """A rate limit that lets the first piece come, then pauses once."""

    def __init__(self) -> None:
        self.n_bytes = self.n_paused = 0

    def pause_s(self, n_bytes: int) -> float:
        self.n_bytes += n_bytes
        if not self.n_bytes or n_bytes or self.n_paused:
            return 0.0
        self.n_paused += 1
        return 1.0


def quick_and_slow(
    session: Session, place: Place, closed: list[bool]
) -> list[tuple[Journey[Any], None]]:
    """Return two journeys: one is answered, the other waits and notes that it was closed."""

    def slow() -> Journey[None]:
        try:
            yield from get(session, place, "/slow")
        finally:
            closed.append(True)

    place.answer = lambda it: it.wait() if it.path == "/slow" else it.reply(200)
    return [(get(session, place, "/quick"), None), (slow(), None)]


def test_who_goes_away_leaves_nothing_on_its_way(session: Session, place: Place) -> None:
    closed: list[bool] = []
    todo = quick_and_slow(session, place, closed)
    with borrowed(session) as driver:
        ended = driver.run(lambda: todo.pop() if todo else None, session, Width(2, 2))
        next(ended)
        ended.close()
    assert closed == [True]
    assert session.slots.n_free == 8


def test_a_run_that_an_exception_left_is_over_when_the_driver_is_given_back(
    session: Session, place: Place
) -> None:
    closed: list[bool] = []
    todo = quick_and_slow(session, place, closed)
    kept = None
    with pytest.raises(ZeroDivisionError), borrowed(session) as driver:  # noqa: PT012
        kept = driver.run(lambda: todo.pop() if todo else None, session, Width(2, 2))
        for _ in kept:  # the generator lives on, as in a traceback
            raise ZeroDivisionError
    assert closed == [True]
    assert session.slots.n_free == 8
    assert run_journey(get(session, place, "/again"), session).status == 200
    del kept


# -- drivers are lent ------------------------------------------------------------------------------


def test_what_goes_wrong_at_the_end_keeps_no_other_from_ending(
    session: Session, place: Place
) -> None:
    closed: list[bool] = []

    def journey() -> Journey[None]:
        try:
            yield from get(session, place, "/slow")
        finally:
            closed.append(True)
            raise NoSpace("full")

    def quick() -> Journey[None]:
        yield Pause(0)

    place.answer = Handler.wait
    todo = [quick(), journey(), journey()]
    with borrowed(session) as driver:
        tasks = driver.run(lambda: (todo.pop(), None) if todo else None, session, Width(8, 8))
        next(tasks)
        with pytest.raises(NoSpace):
            tasks.close()
    assert closed == [True, True]
    assert session.slots.n_free == 8
    place.go_on.set()
    place.answer = lambda it: it.reply(200, BODY)
    assert run(session, [get(session, place)])[0].status == 200


def test_connections_are_used_again(session: Session, place: Place) -> None:
    ports: set[int] = set()

    def answer(it: Handler) -> None:
        ports.add(it.client_address[1])
        it.reply(200)

    place.answer = answer
    for _ in range(5):
        run_journey(get(session, place), session)
    assert len(ports) == 1
    assert len(session.idle) == 1


def test_a_process_made_by_fork_has_connections_of_its_own(session: Session, place: Place) -> None:
    run_journey(get(session, place), session)
    ours = session.idle[0]
    child = os.fork()
    if child == 0:
        code = 1
        with contextlib.suppress(BaseException):
            run_journey(get(session, place), session)
            code = 0 if session.idle[-1] is not ours else 2
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    run_journey(get(session, place), session)
    assert session.idle == [ours]


def of_child(work: Callable[[], bool]) -> int:
    """Return the exit code of a forked process: 0 if it is true there; a hang ends by a signal."""
    child = os.fork()
    if child == 0:
        signal.alarm(5)
        code = 1
        with contextlib.suppress(BaseException):
            code = 0 if work() else 2
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("closes", [False, True], ids=["used", "closed"])
def test_a_process_made_by_fork_leaves_the_connections_to_the_other(
    session: Session, place: Place, closes: bool
) -> None:
    """What closes one of TLS tells its peer of it."""

    def work() -> bool:
        driver = weakref.ref(session.idle[0])
        if closes:
            close_idle(session)
        run_journey(get(session, place), session)
        gc.collect()
        found = driver()
        return found is not None and found.multi.perform() is not None

    run_journey(get(session, place), session)
    assert of_child(work) == 0


def test_a_process_made_by_fork_looks_at_the_token_itself(place: Place) -> None:
    class Tokens:
        def token(self) -> str:
            return "a-token"

        def renew(self, rejected: str) -> str | None:
            return None

    session = Session(Settings(door_url=place.url), place.url, Tokens())
    looks = session.looked_at()  # in another thread, which the child does not have
    next(looks)
    assert session.is_waiting
    assert of_child(lambda: run_journey(get(session, place), session).status == 200) == 0
    looks.close()
    assert not session.is_waiting


def test_a_session_that_was_closed_keeps_no_driver(session: Session, place: Place) -> None:
    run_journey(get(session, place), session)
    close_idle(session)
    assert session.idle == []
    run_journey(get(session, place), session)
    assert session.idle == []


def test_an_unreachable_server_is_told_as_such(session: Session) -> None:
    request = Request("GET", "http://127.0.0.1:1/a")
    with pytest.raises(NetworkError, match="can't be reached"):
        run_journey(ask(request, session, Retries(session.settings)), session)


# -- how many at once ------------------------------------------------------------------------------


def test_a_new_run_has_all_its_time(session: Session, place: Place) -> None:
    session.away_since = time.monotonic() - 1000
    run(session, [get(session, place)])
    assert session.away_since is None
    session.away_since = time.monotonic() - 1000
    request = Request("GET", "http://127.0.0.1:1/")
    session.is_home = lambda _: True  # type: ignore[method-assign]
    with pytest.raises(NetworkError):
        run_journey(ask(request, session, Retries(session.settings)), session)
    assert session.away_since is not None
    assert time.monotonic() - session.away_since < WAIT_S


class Answered:
    status = 200


def rounds(width: Width, gains: list[float], monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let rounds pass, each with the gain that one more request would bring."""
    now = [0.0]
    monkeypatch.setattr(drivers.time, "monotonic", lambda: now[0])
    width._since = 0.0
    seen = []
    for rate in gains:
        for _ in range(2 * width.now):
            width.answered(Answered())  # type: ignore[arg-type]
        now[0] += 2 * width.now * 50_000 / rate
        width.look(0, 1000)
        seen.append(width.now)
    return seen


def test_it_grows_as_long_as_that_brings_more(monkeypatch: pytest.MonkeyPatch) -> None:
    width = Width(8, 32)
    # each first round after a change opens connections, and does not count
    assert rounds(width, [9e9, 1e6, 9e9, 2e6, 9e9, 4e6], monkeypatch) == [8, 16, 16, 32, 32, 32]


def test_it_goes_back_where_more_brings_less(monkeypatch: pytest.MonkeyPatch) -> None:
    assert rounds(Width(8, 32), [9e9, 1e6, 9e9, 5e5, 1e6], monkeypatch) == [8, 16, 16, 8, 8]


def test_it_stays_where_more_brings_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert rounds(Width(8, 32), [9e9, 1e6, 9e9, 1.05e6, 1e9], monkeypatch) == [8, 16, 16, 16, 16]


@pytest.mark.parametrize("status", [429, 503])
def test_it_is_halved_where_the_server_asks_for_less(
    monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    width, busy = Width(8, 32), Answered()
    busy.status = status
    for _ in range(8):  # those that were on their way together count once
        width.answered(busy)  # type: ignore[arg-type]
    assert width.now == 4
    assert rounds(width, [9e9, 1e6, 9e9, 2e6], monkeypatch) == [4] * 4
