"""The driver: grants the wishes of many journeys over libcurl, in one thread.

It knows the five wishes, and nothing of what HTTP means. Its journeys are told of what happened
only from its loop, never from within the step of another one or a callback of libcurl.
"""

from __future__ import annotations

import contextlib
import contextvars
import heapq
import itertools
import os
import queue
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

import pycurl

from ctaflows import cancel
from ctaflows.atomic_files import sync_together
from ctaflows.errors import CtaflowsError, Stopped, concerns_all
from ctaflows.thread_pool import started
from ctaflows.transport.ask import Slots
from ctaflows.transport.handles import Exchange, Handles, error_of, lacking
from ctaflows.transport.wishes import Call, Gather, Hop, Pause, Synced

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from ctaflows.settings import Settings
    from ctaflows.transport.ask import Session
    from ctaflows.transport.wishes import Journey, Response

T = TypeVar("T")

# the older names are deprecated where these are known (pycurl 7.46)
_SIZE_DOWNLOAD = getattr(pycurl, "SIZE_DOWNLOAD_T", pycurl.SIZE_DOWNLOAD)
_SIZE_UPLOAD = getattr(pycurl, "SIZE_UPLOAD_T", pycurl.SIZE_UPLOAD)
#: So many files are synced together, or those of so many seconds.
_SYNC_FILES = 64
_SYNC_S = 0.05
#: What libcurl says where a callback has failed: one that takes bytes, or gives them.
_CALLBACK_FAILED = {pycurl.E_WRITE_ERROR, pycurl.E_ABORTED_BY_CALLBACK}
#: For so long journeys may clean up when all are ended, seconds.
_GRACE_S = 5.0
_MOST_THREADS = 8
#: Drivers of the process that this one was forked from: what closes their connections here, such as
#: the collector, would end them there (TLS close_notify).
_others: list[Driver] = []
#: pycurl has no multi_wakeup: while threads are at work it is looked so often, seconds.
_NAP_S = 0.002


class RateLimit(Protocol):
    """A limit on bytes per second."""

    def pause_s(self, n_bytes: int) -> float:
        """Count bytes that came or went, and return how long to wait before the next, seconds."""


class OtherFailed(Exception):
    """A journey that was gathered with this one failed."""


class Width:
    """How many requests are on their way at once: found by trying, not set.

    The number doubles as long as that brings clearly more, and is halved where the server asks for
    less. What is brought is bytes, and 50 kB for each answer: so one rule does for many small files
    and for the ranges of a large one.

    Parameters
    ----------
    first, most : int
        The number to begin with, and the greatest.

    Attributes
    ----------
    now : int
        The present number.
    """

    _ANSWER_BYTES = 50_000
    _GAIN = 1.15
    _LEAST_S = 0.12
    _REST_S = 5.0

    def __init__(self, first: int, most: int) -> None:
        self.now, self._most = min(first, most), most
        self._n_answers = self._n_bytes_before = 0
        self._since, self._rest_until = time.monotonic(), 0.0
        self._best = 0.0
        self._is_found = self.now == most
        self._is_new = True  # connections are being opened: nothing is to be learned from it

    def answered(self, answer: Response) -> None:
        """Count an answer."""
        self._n_answers += 1
        if answer.status in (429, 503) and (now := time.monotonic()) > self._rest_until:
            self.now, self._is_found = max(1, self.now // 2), True
            self._rest_until = now + self._REST_S

    def look(self, n_bytes: int, n_wanted: int) -> None:
        """Decide, from time to time.

        Parameters
        ----------
        n_bytes : int
            All bytes so far.
        n_wanted : int
            How many requests could be on their way.
        """
        if self._is_found or n_wanted < self.now:
            return
        now = time.monotonic()
        if now - self._since < self._LEAST_S and self._n_answers < 2 * self.now:
            return
        gained = n_bytes - self._n_bytes_before + self._ANSWER_BYTES * self._n_answers
        rate = gained / max(now - self._since, 1e-9)
        self._n_bytes_before, self._n_answers, self._since = n_bytes, 0, now
        if self._is_new:
            self._is_new = False
        elif rate >= self._GAIN * self._best:
            self._best, self._is_new = rate, True
            self.now = min(2 * self.now, self._most)
            self._is_found = self.now == self._most
        else:
            self._is_found = True
            if rate < self._best:
                self.now = max(1, self.now // 2)


class Task:
    """A journey under way.

    Attributes
    ----------
    tag : object
        By which the caller knows it.
    result : object
        What it returned.
    error : Exception or None
        What it raised.
    """

    __slots__ = (
        "doom", "error", "handle", "is_away", "journey", "n_open", "parent", "place", "result",
        "tag",
    )  # fmt: skip

    def __init__(
        self, journey: Journey[Any], tag: Any = None, parent: Task | None = None, place: int = 0
    ) -> None:
        self.tag, self.result = tag, cast("Any", None)
        self.error: Exception | None = None
        self.journey, self.parent, self.place = journey, parent, place
        self.handle: pycurl.Curl | None = None  # while a request of it is on its way
        self.n_open = 0  # of the journeys that it gathers
        self.is_away = False  # a thread works for it: it is told when that has ended
        self.doom: Exception | None = None


class Driver:
    """Runs journeys; used by one thread at a time. Its connections stay open between runs.

    Parameters
    ----------
    settings : Settings
        CA and timeouts.

    Raises
    ------
    UsageError
        The system gives libcurl less than it needs.
    """

    def __init__(self, settings: Settings) -> None:
        try:
            self.multi = pycurl.CurlMulti()
        except pycurl.error as why:  # its text alone
            raise lacking(None, str(why)) from None
        self.handles = Handles(settings)
        self.process = os.getpid()
        self._under_way: _Run | None = None

    def run(
        self,
        more: Callable[[], tuple[Journey[Any], Any] | None],
        session: Session,
        width: Width,
        *,
        takes_slots: bool = True,
        awaits_answers: bool = False,
        stop: threading.Event | None = None,
        limit: RateLimit | None = None,
    ) -> Generator[Task, None, None]:
        """Run journeys as they are given, and yield each task that has ended.

        Parameters
        ----------
        more : Callable
            Returns the next journey and its tag; None where there is none for now. Asked again
            whenever a journey has ended.
        session : Session
            Whose slots bound the requests on their way.
        width : Width
            How many may be on their way.
        takes_slots : bool
            Does each request take one of the session's slots? Not where the caller has one, or
            bounds the requests in another way.
        awaits_answers : bool
            When it is stopped, wait for the answers to all requests, which may have had an effect,
            and end pauses alone.
        stop : threading.Event, optional
            Ends all journeys within a tenth of a second; so does cancelling the work of this
            context, see `cancel`.
        limit : RateLimit, optional
            For all bytes that sinks receive, or that are read from sources.

        Raises
        ------
        Stopped
            It was stopped.
        CtaflowsError
            An error that concerns all, such as a token that is not accepted.
        """
        slots = session.slots if takes_slots else None
        with self._running(more, session, width, slots, stop, limit) as run:
            run.awaits_answers = awaits_answers
            for ended in run.loop():
                yield from ended

    def steps(
        self, journey: Journey[Any], session: Session, stop: threading.Event | None
    ) -> Generator[Task | None, None, None]:
        """Run one journey without slots; yield None after each turn, and its task at the end.

        Between two turns nothing is received: what sinks have may be taken at leisure. Errors as
        for `run`.
        """
        todo = [(journey, None)]

        def more() -> tuple[Journey[Any], Any] | None:
            return todo.pop() if todo else None

        with self._running(more, session, Width(1, 1), None, stop, None) as run:
            for ended in run.loop():
                yield ended[0] if ended else None

    @contextlib.contextmanager
    def _running(
        self,
        more: Callable[[], tuple[Journey[Any], Any] | None],
        session: Session,
        width: Width,
        slots: Slots | None,
        stop: threading.Event | None,
        limit: RateLimit | None,
    ) -> Iterator[_Run]:
        stop = stop or threading.Event()
        slots = slots or Slots(session.settings.transfers)
        session.look()  # the token may have been renewed since the last run
        session.away_since = None
        with cancel.link_child(stop):
            run = self._under_way = _Run(self, more, session, width, slots, stop, limit)
            try:
                yield run
            finally:
                run.close()
                session.fold_warnings()

    def abandon(self) -> None:
        """End a run that its caller has left, as by an exception; its generator may live on."""
        if self._under_way is not None:
            self._under_way.close()
            self._under_way = None

    @property
    def is_ours(self) -> bool:
        """Was it made by this process, so that its connections may be used and closed here?"""
        return self.process == os.getpid()

    def close(self) -> None:
        """Close all connections, unless they are those of the process before a fork."""
        if not self.is_ours:
            _others.append(self)
            return
        self.handles.close()
        self.multi.close()


@contextlib.contextmanager
def borrowed(session: Session, *, keeps: bool = True) -> Iterator[Driver]:
    """Lend a driver with connections to a service that nobody uses now, or a new one.

    A process made by fork gets new ones: sockets can't be shared.

    Parameters
    ----------
    session : Session
        The service.
    keeps : bool
        Are the connections kept for others? Not where they went to a pool for ranges of a file: a
        mover of dCache takes one of the pool's slots until the last connection that used it is
        closed (NettyTransferService.java, dCache 12.1).
    """
    driver = None
    while driver is None and session.idle:
        with contextlib.suppress(IndexError):
            found = session.idle.pop()
            if found.is_ours:
                driver = found
            else:
                found.close()
    driver = driver or Driver(session.settings)
    try:
        yield driver
    finally:
        driver.abandon()
        if keeps and not session.is_closed:
            session.idle.append(driver)
        else:
            driver.close()


def run_journey(
    journey: Journey[T],
    session: Session,
    *,
    driver: Driver | None = None,
    first: int = 2,
    takes_slots: bool = True,
    awaits_answers: bool = False,
    stop: threading.Event | None = None,
    limit: RateLimit | None = None,
) -> T:
    """Run one journey, and return its result.

    Parameters
    ----------
    journey : Journey
        It may gather others.
    session : Session
        The service.
    driver : Driver, optional
        One of the caller's own; by default one is borrowed.
    first : int
        Number of requests at once to begin with, where it gathers others.
    takes_slots, awaits_answers, stop, limit
        As for `Driver.run`.

    Raises
    ------
    Exception
        What the journey raised; or as for `Driver.run`.
    """
    todo = [(journey, None)]
    width = Width(first, session.settings.transfers)
    lent = borrowed(session) if driver is None else contextlib.nullcontext(driver)
    with lent as used:
        ended = used.run(
            lambda: todo.pop() if todo else None,
            session,
            width,
            takes_slots=takes_slots,
            awaits_answers=awaits_answers,
            stop=stop,
            limit=limit,
        )
        (task,) = ended  # to its end, which may be an interruption
    if task.error is not None:
        raise task.error
    return cast("T", task.result)


def close_idle(session: Session) -> None:
    """Close the drivers that nobody uses now, and the others when they are given back."""
    session.is_closed = True
    while session.idle:
        session.idle.pop().close()


class _Run:
    """One run of a driver: what is ready, under way, and waited for."""

    def __init__(
        self,
        driver: Driver,
        more: Callable[[], tuple[Journey[Any], Any] | None],
        session: Session,
        width: Width,
        slots: Slots,
        stop: threading.Event,
        limit: RateLimit | None,
    ) -> None:
        self._multi, self._handles = driver.multi, driver.handles
        self._more, self._session, self._width, self._stop = more, session, width, stop
        self._slots, self.awaits_answers = slots, False
        self._pause_s = None if limit is None else limit.pause_s
        self._has_more = True
        self._n_bytes = 0
        self._live: set[Task] = set()
        self._done: list[Task] = []
        self._ready: deque[tuple[Task, Hop]] = deque()
        self._busy: dict[pycurl.Curl, tuple[Task, Exchange]] = {}
        self._begun: list[Exchange] = []
        self._timers: list[tuple[float, int, Task]] = []
        self._number = itertools.count()
        self._calls: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._returned: deque[tuple[list[Task], Any, Exception | None]] = deque()
        self._n_calls = self._n_threads = 0
        self._to_sync: list[tuple[Task, Synced]] = []
        self._sync_at = 0.0
        self._is_syncing = False
        self._is_starved = False
        self._doomed: list[tuple[Task, Exception]] = []
        self._fatal: Exception | None = None  # what ends all
        self._ends_at: float | None = None  # since they were told
        self._grants: dict[type, Callable[[Task, Any], None]] = {
            Hop: self._queue, Pause: self._pause, Gather: self._gather,
            Call: self._call, Synced: self._await_sync,
        }  # fmt: skip

    # -- the loop ------------------------------------------------------------------------------

    def loop(self) -> Iterator[list[Task]]:
        """Yield the tasks that have ended, after each turn."""
        interrupt: BaseException | None = None
        while True:
            try:
                yield from self._turns()
                break
            except (KeyboardInterrupt, SystemExit) as why:  # let all clean up, then raise it
                if interrupt is not None:
                    raise
                interrupt = why
                self._fatal = self._fatal or Stopped("Stopped")
        if interrupt is not None:
            raise interrupt
        if self._fatal is not None:
            raise self._fatal

    def _turns(self) -> Iterator[list[Task]]:
        while True:
            self._start_more()
            if not self._live and not self._done:
                return
            if self._ends_at is not None and time.monotonic() > self._ends_at:
                return
            has_moved = self._turn()
            done, self._done = self._done, []
            yield done
            if not has_moved and not done:
                self._wait()

    def _turn(self) -> bool:
        """Do once all that can be done now; return whether there was anything."""
        if self._ready:
            self._send()
        self._width.look(self._n_bytes, len(self._ready) + len(self._busy))
        self._multi.perform()
        has_moved = self._receive()
        while self._begun:
            self._session.has_answered = True  # though the rest of a large file may take long
            self._hurry(self._begun.pop())
        if self._returned:
            has_moved = True
            self._take_returned()
        if self._timers and self._timers[0][0] <= time.monotonic():
            has_moved = True
            self._ring()
        if self._to_sync and not self._is_syncing:
            is_idle = not self._busy and not self._ready
            is_due = len(self._to_sync) >= _SYNC_FILES or time.monotonic() >= self._sync_at
            if is_due or is_idle:
                has_moved = True
                self._begin_sync()
        if self._fatal is None and self._stop.is_set():
            self._end_at_stop()
        if self._doomed or (self._fatal is not None and self._ends_at is None):
            has_moved = True
            self._end_doomed()
        return has_moved

    def _end_at_stop(self) -> None:
        why = Stopped("Stopped; what has come is kept")
        if self.awaits_answers:
            self._doomed += [(task, why) for _, _, task in self._timers]
        else:
            self._fatal = why

    def _start_more(self) -> None:
        """Start journeys as long as they may have requests on their way."""
        width = self._width.now
        while (
            self._fatal is None
            and len(self._ready) + len(self._busy) < width
            and len(self._live) < width + 2 * _SYNC_FILES
            and self._has_more
        ):
            new = self._more()
            if new is None:
                self._has_more = False
                return
            task = Task(*new)
            self._live.add(task)
            self._step(task)

    def _wait(self) -> None:
        """Wait until something happens, or it is time for something."""
        wait_s = cancel.GLANCE_S / 2
        due_ms = self._multi.timeout()
        if due_ms >= 0:
            wait_s = min(wait_s, due_ms / 1000)
        if self._timers:
            wait_s = min(wait_s, max(0.0, self._timers[0][0] - time.monotonic()))
        if self._n_calls or self._is_starved:
            wait_s = min(wait_s, _NAP_S)
        elif self._to_sync:
            wait_s = min(wait_s, max(0.0, self._sync_at - time.monotonic()))
        if self._pause_s is not None:
            wait_s = min(wait_s, self._go_on_within_limit())
        if wait_s > 0:
            self._sleep(wait_s)

    def _sleep(self, wait_s: float) -> None:
        """Wait until a socket is ready, at most so many seconds."""
        if not self._busy:  # without a socket pycurl's select comes back at once
            if self._stop.wait(wait_s):
                time.sleep(min(wait_s, _NAP_S))
            return
        began = time.monotonic()
        # so it does while a name is looked up, where all sockets are paused, or can't be waited for
        if not self._handles.is_selectable or self._multi.select(wait_s) <= 0:
            left_s = wait_s - (time.monotonic() - began)
            if left_s > wait_s / 2:
                time.sleep(min(left_s, _NAP_S))

    def close(self) -> None:
        """End what has not ended by itself, and raise what went wrong at that."""
        with contextlib.ExitStack() as last:
            for _ in range(self._n_threads):
                last.callback(self._calls.put, None)
            for handle in list(self._busy):
                last.callback(self._let_go, handle)
            for task in self._live:  # left to the collector they would end at any time
                last.callback(task.journey.close)
        self._live.clear()
        self._n_threads = 0

    # -- journeys ------------------------------------------------------------------------------

    def _step(self, task: Task, value: Any = None, error: Exception | None = None) -> None:
        """Let a journey go on with the result of its wish, until the next one."""
        try:
            wish = task.journey.send(value) if error is None else task.journey.throw(error)
        except StopIteration as end:
            self._end(task, end.value, None)
        except Exception as why:  # noqa: BLE001  the caller's, with its task
            self._end(task, None, why)
        except BaseException:  # an interruption
            self._end(task, None, Stopped("Stopped"))
            raise
        else:
            self._grants[type(wish)](task, wish)

    def _end(self, task: Task, result: Any, error: Exception | None) -> None:
        self._live.discard(task)
        self._has_more = True  # it may be known what comes next
        if self._fatal is None and isinstance(error, CtaflowsError) and concerns_all(error):
            self._fatal = error
        parent = task.parent
        if parent is None:
            task.result, task.error = result, error
            self._done.append(task)
            return
        parent.n_open -= 1
        if error is None:
            parent.result[task.place] = result
        elif parent.error is None:
            parent.error = error
            others = [child for child in self._live if child.parent is parent]
            self._doomed += [(other, OtherFailed()) for other in others]
        if not parent.n_open:
            error, parent.error = parent.error, None
            self._step(parent, parent.result, error)

    def _end_doomed(self) -> None:
        if self._fatal is not None and self._ends_at is None:
            self._ends_at = time.monotonic() + _GRACE_S
            self._doomed += [(task, self._fatal) for task in self._live if not task.n_open]
        doomed, self._doomed = self._doomed, []
        for task, why in doomed:
            self._throw(task, why)

    def _throw(self, task: Task, why: Exception) -> None:
        """End what a task waits for, and raise an error in it; it may wish for cleaning up."""
        if task not in self._live:
            return
        if task.n_open:
            for child in [child for child in self._live if child.parent is task]:
                self._throw(child, why)
            return
        if task.is_away:
            task.doom = why
            return
        if task.handle is not None:
            self._let_go(task.handle)
        self._ready = deque(one for one in self._ready if one[0] is not task)
        self._timers = [one for one in self._timers if one[2] is not task]
        heapq.heapify(self._timers)
        self._to_sync = [one for one in self._to_sync if one[0] is not task]
        self._step(task, error=why)

    # -- wishes --------------------------------------------------------------------------------

    def _queue(self, task: Task, hop: Hop) -> None:
        if hop.is_urgent:
            self._ready.appendleft((task, hop))
        else:
            self._ready.append((task, hop))

    def _pause(self, task: Task, pause: Pause) -> None:
        at = time.monotonic() + pause.seconds
        heapq.heappush(self._timers, (at, next(self._number), task))

    def _ring(self) -> None:
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            self._step(heapq.heappop(self._timers)[2])

    def _gather(self, task: Task, gather: Gather) -> None:
        task.n_open, task.result = len(gather.journeys), [None] * len(gather.journeys)
        if not gather.journeys:
            self._step(task, [])
        children = [Task(one, None, task, n) for n, one in enumerate(gather.journeys)]
        self._live.update(children)
        for child in children:
            if child in self._live:
                self._step(child)

    def _call(self, task: Task, call: Call) -> None:
        self._in_thread([task], call)

    def _in_thread(self, tasks: list[Task], call: Call) -> None:
        """Call a function in a thread, where there may be one."""
        for task in tasks:
            task.is_away = True
        self._n_calls += 1
        if self._n_calls > self._n_threads and self._n_threads < _MOST_THREADS:
            worker = threading.Thread(
                target=_serve, args=(self._calls, self._returned), daemon=True
            )
            if started(worker):
                self._n_threads += 1
            elif not self._n_threads:
                self._returned.append((tasks, *_outcome(call)))
                return
        self._calls.put((tasks, contextvars.copy_context(), call))

    def _take_returned(self) -> None:
        while self._returned:
            tasks, value, error = self._returned.popleft()
            self._n_calls -= 1
            for task in tasks:
                task.is_away = False
            for n, task in enumerate(tasks):
                doom, task.doom = task.doom, None
                result = value[n] if len(tasks) > 1 and error is None else value
                self._step(task, result, doom or error)

    def _await_sync(self, task: Task, wish: Synced) -> None:
        if not self._to_sync:
            self._sync_at = time.monotonic() + _SYNC_S
        self._to_sync.append((task, wish))

    def _begin_sync(self) -> None:
        group, self._to_sync, self._is_syncing = self._to_sync, [], True
        wishes = [(wish.descriptor, wish.path) for _, wish in group]
        self._in_thread([task for task, _ in group], Call(self._sync, wishes))

    def _sync(self, files: list[tuple[int, str]]) -> list[OSError | None] | OSError | None:
        try:
            refused = sync_together(files)
            return refused if len(files) > 1 else refused[0]
        finally:
            self._is_syncing = False

    # -- requests ------------------------------------------------------------------------------

    def _send(self) -> None:
        """Send requests that wait, as many as may be on their way."""
        session, width = self._session, self._width.now
        self._is_starved = False
        while self._ready and len(self._busy) < width:
            if self._busy and not session.has_answered:
                return
            if session.is_waiting and self._ready[0][1].is_home:
                return
            if not self._slots.acquire(blocking=False):
                self._is_starved = True
                return
            task, hop = self._ready.popleft()
            lines = session.lines_for(hop)
            if lines is None:
                self._slots.release()
                self._step(task, None)
                continue
            exchange = Exchange(hop, self._begun.append, self._pause_s)
            try:
                handle = self._handles.prepared(exchange, lines)
                self._multi.add_handle(handle)
            except pycurl.error as why:  # its text alone
                self._slots.release()
                self._step(task, error=lacking(hop.url, str(why)))
                continue
            task.handle = handle
            self._busy[handle] = task, exchange

    def _hurry(self, exchange: Exchange) -> None:
        for handle, (_, known) in self._busy.items():
            if known is exchange:
                self._handles.hurry(handle)
                return

    def _receive(self) -> bool:
        """Take what has ended; return whether there was anything."""
        has_any, n_more = False, 1
        while n_more:
            n_more, ended, broken = self._multi.info_read()
            for handle in ended:
                has_any = True
                self._ended(handle, None)
            for handle, code, said in broken:
                has_any = True
                self._ended(handle, (code, str(said)))
        return has_any

    def _ended(self, handle: pycurl.Curl, problem: tuple[int, str] | None) -> None:
        error = None
        if problem is not None:
            is_connected = bool(handle.getinfo(pycurl.PRETRANSFER_TIME))
            url = self._busy[handle][1].hop.url
            error = error_of(*problem, url, is_connected=is_connected)
            # while an interruption is on its way no callback of pycurl is called (7.49): each fails
            if isinstance(self._fatal, Stopped) and problem[0] in _CALLBACK_FAILED:
                error = self._fatal
        self._n_bytes += int(handle.getinfo(_SIZE_DOWNLOAD) + handle.getinfo(_SIZE_UPLOAD))
        task, exchange = self._let_go(handle)
        answer = exchange.ended(error)
        self._width.answered(answer)
        self._step(task, answer)

    def _let_go(self, handle: pycurl.Curl) -> tuple[Task, Exchange]:
        self._multi.remove_handle(handle)
        task, exchange = self._busy.pop(handle)
        task.handle = None
        self._handles.give_back(handle)
        self._slots.release()
        return task, exchange

    def _go_on_within_limit(self) -> float:
        """Go on with what waits for the rate limit, or return for how long it has to, seconds."""
        assert self._pause_s is not None  # noqa: S101
        paused = [h for h, (_, exchange) in self._busy.items() if exchange.is_paused]
        if not paused:
            return cancel.GLANCE_S
        pause_s = self._pause_s(0)
        if pause_s > 0:
            return pause_s
        for handle in paused:
            if handle in self._busy:
                self._busy[handle][1].is_paused = False
                try:
                    handle.pause(pycurl.PAUSE_CONT)
                except pycurl.error as why:  # a callback refused what had been kept for it
                    self._ended(handle, (why.args[0], str(why.args[-1])))
        return 0.0


def _serve(
    calls: queue.SimpleQueue[Any], returned: deque[tuple[list[Task], Any, Exception | None]]
) -> None:
    """Call functions in this thread, until there are no more."""
    while (job := calls.get()) is not None:
        tasks, context, call = job
        returned.append((tasks, *context.run(_outcome, call)))


def _outcome(call: Call) -> tuple[Any, Exception | None]:
    try:
        return call.function(*call.args), None
    except Exception as why:  # noqa: BLE001  raised again in the journey
        return None, why
