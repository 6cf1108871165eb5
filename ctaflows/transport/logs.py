"""The HTTP library's own log lines, without secrets.

httpx 0.28 logs each URL at INFO, and a pool's URL is a right in itself; httpcore 1.0 logs answers'
headers, Location among them, at DEBUG.
"""

from __future__ import annotations

import logging

from ctaflows.errors import redact

_LOGGERS = ("httpx", "httpcore.connection", "httpcore.http11", "httpcore.http2", "httpcore.proxy")


class _Redacted(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = redact(record.getMessage()), ()
        return True


_filter = _Redacted()


def redact_logs() -> None:
    """Take secrets out of what the HTTP library logs, in this process; again is no harm."""
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_filter)
