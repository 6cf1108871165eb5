"""The one seam to HTTP: TLS, timeouts, redirects by hand, retries.

It takes a token source and knows nothing of where tokens come from.
"""

from ctaflows.transport.client import Stream, Transport
from ctaflows.transport.messages import MAX_SMALL_BYTES, Answer, Head, Sink, Source, TokenSource
from ctaflows.transport.policy import MAX_HOPS, REDIRECTS, origin
from ctaflows.transport.tls import ssl_context

__all__ = [
    "MAX_HOPS",
    "MAX_SMALL_BYTES",
    "REDIRECTS",
    "Answer",
    "Head",
    "Sink",
    "Source",
    "Stream",
    "TokenSource",
    "Transport",
    "origin",
    "ssl_context",
]
