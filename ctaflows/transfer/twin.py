"""A second process that shares the work on many files: one process uses one core for its Python.

It is made by fork, at a moment when there is but one thread, and takes over all that is known: the
list of the files, what a manifest proves, the token. It makes connections of its own. Which files
are whose is decided file by file: both draw from the same two pipes.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import pickle
import signal
import struct
import sys
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, NoReturn, Self

from ctaflows import cancel
from ctaflows.errors import Stopped, error_text
from ctaflows.thread_pool import Worker, start, started
from ctaflows.transfer import progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ctaflows.model import Transfer

    Settle = Callable[[int, Transfer], None]
    Work = Callable[[Settle, threading.Event], None]

log = logging.getLogger("ctaflows.transfer")

_NUMBER = struct.Struct("=I")
#: A pipe of Linux holds 64 KiB: all numbers are in it before anybody reads.
_MAX_LOTS = (64 << 10) // _NUMBER.size // 2
_SPEAK_EVERY_S = 0.05
#: So much longer than the server may be silent it has to come to an end; then it is killed.
_LAST_WORD_S = 30.0
#: A thread that has done its work is gone as soon as this.
_LAST_THREAD_S = 0.02
#: What ends both processes is decided on by the first one.
_DECIDED = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})


def is_able() -> bool:
    """Say whether a fork is safe and of use: on Linux, with several cores, from a lone thread."""
    if not sys.platform.startswith("linux") or len(os.sched_getaffinity(0)) < 2:
        return False
    deadline = time.monotonic() + _LAST_THREAD_S
    with contextlib.suppress(OSError):
        while True:
            if len(os.listdir("/proc/self/task")) == 1:  # noqa: PTH208  threads of C count too
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(0.001)
    return False


class Line:
    """Numbers of which each is given once; for many threads at once.

    Parameters
    ----------
    places : iterable of int
        What is given, in this order.
    """

    def __init__(self, places: Iterable[int]) -> None:
        self._places = deque(places)

    def __iter__(self) -> Iterator[int]:
        """Give what nobody has got."""
        with contextlib.suppress(IndexError):
            while True:
                yield self._places.popleft()


class SharedLine:
    """Such numbers for two processes: whichever asks first gets the next ones.

    Parameters
    ----------
    places : sequence of int
        What is given, in this order.
    at_once : int
        So many are given at a time, or more where there are very many.
    """

    def __init__(self, places: Sequence[int], at_once: int = 1) -> None:
        at_once = max(at_once, -(-len(places) // _MAX_LOTS))
        self._lots = [places[i : i + at_once] for i in range(0, len(places), at_once)]
        numbers = b"".join(map(_NUMBER.pack, range(len(self._lots))))
        self._pipe, end = os.pipe()
        try:
            os.set_blocking(end, False)  # who has many pipes may get small ones (pipe(7))
            if numbers and os.write(end, numbers) < len(numbers):
                raise OSError(errno.ENOBUFS, "The pipe is too small")
        except OSError:
            self.close()
            raise
        finally:
            os.close(end)

    def __iter__(self) -> Iterator[int]:
        """Give what nobody has got."""
        while number := os.read(self._pipe, _NUMBER.size):
            yield from self._lots[_NUMBER.unpack(number)[0]]

    def close(self) -> None:
        """Let go of it in this process."""
        os.close(self._pipe)


class Twin:
    """The second process. It waits until it is told to begin.

    Parameters
    ----------
    work : Callable
        What it does: it gets a function to call with each file that is done (its place, and its
        record), and the event that ends it.
    silent_s : float
        So long a server may be silent, and so long a request that can't be given up may last.

    Attributes
    ----------
    pid : int
        Its number.
    """

    def __init__(self, work: Work, silent_s: float) -> None:
        self._last_word_s = silent_s + _LAST_WORD_S
        self._ending = threading.Lock()
        its_life, self._life = os.pipe()
        heard, its_voice = os.pipe()
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _DECIDED)
        try:
            self.pid = os.fork()
            if self.pid == 0:
                os.close(self._life)
                os.close(heard)
                _live(work, its_life, its_voice, mask)
        except OSError:  # there are too many processes
            os.close(self._life)
            os.close(heard)
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            os.close(its_life)
            os.close(its_voice)
        self._voice = os.fdopen(heard, "rb")
        self._listener: Worker | None = None
        self._n_done = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.end()
        self._voice.close()

    def begin(self, settle: Settle, stop: threading.Event) -> None:
        """Let it begin, and tell of each file that it has done; a stop ends it soon.

        Where no threads can be started that listen to it, it does not begin.
        """
        self._listener = Worker(lambda: self._listen(settle))
        if started(self._listener) and started(Worker(lambda: self._heed(stop))):
            self._say()
        else:
            log.info("No second process: there may be no more threads")
            self.end()

    def _say(self) -> None:
        with self._ending, contextlib.suppress(BrokenPipeError):
            if self._life >= 0:
                os.write(self._life, b"!")

    def _heed(self, stop: threading.Event) -> None:
        """Hand a stop on at once: its end is waited for only after what is tidied up here."""
        while self._listener is not None and self._listener.is_alive():
            if stop.wait(cancel.GLANCE_S):
                self._say()
                return

    def wait(self, stop: threading.Event) -> None:
        """Wait until it has done all that it found to do, or a stop is set."""
        while self._listener is not None and self._listener.is_alive() and not stop.is_set():
            self._listener.join(cancel.GLANCE_S)
        log.info("A second process did %d of the files", self._n_done)

    def end(self) -> None:
        """Let it end: what it has begun it does not finish, and what it has done is still heard."""
        with self._ending:
            life, self._life = self._life, -1
        if life >= 0:
            os.close(life)
        deadline = time.monotonic() + self._last_word_s
        while self._listener is not None and self._listener.is_alive():
            if time.monotonic() > deadline:
                self._kill()
            self._listener.join(cancel.GLANCE_S)
        with contextlib.suppress(
            ChildProcessError
        ):  # who started us ignores SIGCHLD, or it is done
            os.waitpid(self.pid, 0)  # what it held, such as locks, is free

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def _listen(self, settle: Settle) -> None:
        try:
            self._hear(settle)
        except BaseException:
            self._kill()  # nobody hears it any more: the first one does what is left
            raise

    def _hear(self, settle: Settle) -> None:
        while True:
            try:
                n_bytes, said, done = pickle.load(self._voice)  # noqa: S301  from ourselves
            except (EOFError, pickle.UnpicklingError):  # it has ended, or was killed as it spoke
                return
            progress.current().advance(n_bytes)
            for name, level, text in said:
                logging.getLogger(name).log(level, "%s", text)
            self._n_done += len(done)
            for place, transfer in done:
                settle(place, transfer)


def _live(work: Work, life: int, voice: int, mask: Iterable[int]) -> NoReturn:
    """Be the second process; it never goes back to what the first one was doing."""
    try:
        # a terminal tells both, and so do `timeout`, Slurm and systemd
        for number in _DECIDED:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if os.read(life, 1):
            stop = threading.Event()
            start(threading.Thread(target=_watch, args=(life, stop), daemon=True))
            with _Voice(voice).heard() as speak:
                try:
                    work(speak, stop)
                except Stopped:
                    pass
                except BaseException as why:  # noqa: BLE001  the first one does what is left
                    log.warning("The second process failed, one goes on: %s", error_text(why))
    finally:
        os._exit(0)  # nothing of the first one is closed or flushed a second time


def _watch(life: int, stop: threading.Event) -> None:
    """Wait for the end of the first process, or of its patience."""
    os.read(life, 1)
    cancel.stop_all()  # before what it tidies up begins
    stop.set()


class _Voice(progress.Progress, logging.Handler):
    """All that the second process says: how far it is, what it logs, what is done."""

    def __init__(self, pipe: int) -> None:
        logging.Handler.__init__(self)
        self._pipe = pipe
        self._speaking = threading.Lock()
        self._n_bytes = 0
        self._said: list[tuple[str, int, str]] = []
        self._done: list[tuple[int, Transfer]] = []
        self._spoke_at = time.monotonic()

    @contextlib.contextmanager
    def heard(self) -> Iterator[Settle]:
        """Let all that is said in the block be heard by the first process."""
        logger = logging.getLogger("ctaflows")
        logger.handlers, logger.propagate = [self], False
        try:
            with progress.reported_to(self):
                yield self.done
        finally:
            self._speak()

    def done(self, place: int, transfer: Transfer) -> None:
        """Say that a file is done."""
        self._add(done=(place, transfer))

    def advance(self, n_bytes: int) -> None:
        """Say that bytes have come."""
        self._add(n_bytes)

    def emit(self, record: logging.LogRecord) -> None:
        """Say what is logged."""
        self._add(said=(record.name, record.levelno, record.getMessage()))

    def _add(
        self,
        n_bytes: int = 0,
        said: tuple[str, int, str] | None = None,
        done: tuple[int, Transfer] | None = None,
    ) -> None:
        with self._speaking:
            self._n_bytes += n_bytes
            self._said += [said] if said else []
            self._done += [done] if done else []
        if time.monotonic() - self._spoke_at > _SPEAK_EVERY_S:
            self._speak()

    def _speak(self) -> None:
        with self._speaking:
            rest = memoryview(pickle.dumps((self._n_bytes, self._said, self._done), protocol=5))
            self._n_bytes, self._said, self._done = 0, [], []
            self._spoke_at = time.monotonic()
            with contextlib.suppress(BrokenPipeError):  # the first one is gone: so are we, soon
                while rest:
                    rest = rest[os.write(self._pipe, rest) :]
