"""Faults on demand: which request gets which trouble, how often. Pure, no server in here."""

from __future__ import annotations

import dataclasses
import threading
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from ctaflows.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

#: Answers with that status instead of the right one.
STATUSES = frozenset({"401", "403", "429", "500", "502", "503", "507"})
#: The bytes of a body go wrong on their way.
BODIES = frozenset({"truncate", "flip", "slow", "wrong_length"})
#: The door sends the client somewhere it should not go.
REDIRECTS = frozenset({"redirect_elsewhere", "redirect_http", "redirect_loop"})
#: A listing is not what it should be.
LISTINGS = frozenset({"empty207", "garbage_xml", "xml_bomb", "hostile_names"})
DIGESTS = frozenset({"bad_digest", "no_digest"})
#: The connection breaks or stays silent; `lost` breaks it after the work was done.
CONNECTIONS = frozenset({"reset", "hang", "lost"})
NAMES = STATUSES | BODIES | REDIRECTS | LISTINGS | DIGESTS | CONNECTIONS | {"ignore_range", "html"}

SERVERS = ("door", "pool", "issuer", "*")


@dataclass(frozen=True)
class Fault:
    """One kind of trouble and the requests it befalls.

    Attributes
    ----------
    name : str
        What happens, one of `NAMES`.
    times : int or None
        How often; None means always.
    path : str
        Glob on the decoded path; ``*`` matches slashes too.
    method : str
        HTTP method or ``*``.
    server : str
        ``door``, ``pool``, ``issuer`` or ``*``.
    retry_after_s : int or None
        Value of Retry-After in a 429 or 503; None means 0 for 429 and no header for 503.
    rate_bytes_s : int
        Speed of ``slow``, bytes per second.
    hang_s : float
        Silence of ``hang`` in seconds; the connection is closed after it.
    """

    name: str
    times: int | None = 1
    path: str = "*"
    method: str = "*"
    server: str = "*"
    retry_after_s: int | None = None
    rate_bytes_s: int = 1000
    hang_s: float = 300.0

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            known = ", ".join(sorted(NAMES))
            raise UsageError(f"There is no fault “{self.name}”", hint=f"Known faults: {known}.")
        if self.server not in SERVERS:
            raise UsageError(
                f"There is no server “{self.server}” in the sandbox",
                hint=f"Servers: {', '.join(SERVERS)}.",
            )
        if self.times is not None and self.times < 1:
            raise UsageError(
                f"A fault can't happen {self.times} times", hint="Give 1 or more, or * for always."
            )

    def befalls(self, server: str, method: str, path: str) -> bool:
        """Tell whether this fault concerns a request."""
        return (
            self.server in ("*", server)
            and self.method in ("*", method)
            and fnmatchcase(path, self.path)
        )

    def __str__(self) -> str:
        times = "*" if self.times is None else str(self.times)
        return f"{self.name}:{times}@{self.path}"


def parse(text: str) -> Fault:
    """Read a fault as the command line writes it.

    Parameters
    ----------
    text : str
        ``NAME[:TIMES][@GLOB]`` such as ``503:2@*.h5``; ``*`` for TIMES means always.

    Returns
    -------
    Fault
        For every method and server.

    Raises
    ------
    UsageError
        An unknown name, or TIMES that is no number.
    """
    head, _, glob = text.partition("@")
    name, _, times = head.partition(":")
    try:
        count = None if times == "*" else int(times or 1)
    except ValueError:
        raise UsageError(
            f"“{text}” is no fault: “{times}” is not a number of times",
            hint="Write NAME[:TIMES][@GLOB], for example 503:2@*.h5.",
        ) from None
    return Fault(name, times=count, path=glob or "*")


class FaultBook:
    """The faults that are still to happen; safe to use from many threads.

    Parameters
    ----------
    faults : iterable of Fault or str
        Those to begin with; a text is read by `parse`.
    """

    def __init__(self, faults: Iterable[Fault | str] = ()) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        for fault in faults:
            self.add(fault)

    def add(self, fault: Fault | str, **details: Any) -> Fault:
        """Plan a fault.

        Parameters
        ----------
        fault : Fault or str
            A fault, or its name or text (see `parse`).
        **details : Any
            Fields of `Fault` that replace those of the text.

        Returns
        -------
        Fault
            What was planned.
        """
        planned = parse(fault) if isinstance(fault, str) else fault
        planned = dataclasses.replace(planned, **details)
        with self._lock:
            self._faults.append(planned)
        return planned

    def clear(self) -> None:
        """Forget all faults."""
        with self._lock:
            self._faults.clear()

    def take(
        self, server: str, method: str, path: str, suits: Callable[[Fault], bool]
    ) -> Fault | None:
        """Take the first fault that befalls a request and suits the moment, and count it down."""
        with self._lock:
            for i, fault in enumerate(self._faults):
                if fault.befalls(server, method, path) and suits(fault):
                    if fault.times == 1:
                        del self._faults[i]
                    elif fault.times is not None:
                        self._faults[i] = dataclasses.replace(fault, times=fault.times - 1)
                    return fault
        return None

    def __len__(self) -> int:
        with self._lock:
            return len(self._faults)

    def __iter__(self) -> Any:
        with self._lock:
            return iter(list(self._faults))
