"""Header lines for many small requests: put together once a second for each server."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ctaflows.transport.messages import header_line

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_FRESH_S = 1.0


class Lines:
    """The lines that go with a request, its server's token among them.

    Parameters
    ----------
    headers : Mapping
        Sent with each.
    token_for : Callable
        Gives the token that may be sent to a URL, or None. Asked once a second for each server.
    """

    def __init__(self, headers: Mapping[str, str], token_for: Callable[[str], str | None]) -> None:
        self._token_for = token_for
        self._lines = [header_line(f"{name}: {value}") for name, value in headers.items()]
        self._known: dict[tuple[str, tuple[bytes, ...]], list[bytes]] = {}
        self._asked_at = time.monotonic()

    def to(self, url: str, further: tuple[bytes, ...] = ()) -> list[bytes]:
        """Give all lines of a request; not to be changed.

        Parameters
        ----------
        url : str
            Where it goes.
        further : tuple of bytes
            Lines that only some requests have.
        """
        now = time.monotonic()
        if now - self._asked_at > _FRESH_S:
            self._asked_at = now
            self._known.clear()
        end = url.find("/", len("https://"))
        key = url if end < 0 else url[:end], further
        lines = self._known.get(key)
        if lines is None:
            token = self._token_for(url)
            ours = [header_line(f"Authorization: Bearer {token}")] if token is not None else []
            lines = self._known[key] = [*self._lines, *further, *ours]
        return lines
