"""Calls a WSGI application of somebody else's and gives its answer as ours."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from ctaflows.sandbox.messages import Response

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def call(application: Callable[..., Iterable[bytes]], environ: dict[str, Any]) -> Response:
    """Answer a request by another application; the whole body is kept in memory.

    Parameters
    ----------
    application : callable
        A WSGI application for small answers.
    environ : dict
        The WSGI environment.
    """
    response = Response(500)

    def start_response(status: str, headers: list[tuple[str, str]], *_: Any) -> None:
        code, _sep, reason = status.partition(" ")
        response.status, response.reason = int(code), reason
        response.headers = {k: v for k, v in headers if k.lower() not in ("content-length", "date")}

    blocks = application(environ, start_response)
    try:
        response.body = b"".join(blocks)
    finally:
        with contextlib.suppress(AttributeError):
            blocks.close()  # type: ignore[attr-defined]  # WSGI: if there is one
    return response
