"""HTTP requests: TLS, timeouts, redirects, bearer tokens, retries. No other package sends any.

Tokens come from a `TokenSource`; how it gets them is not known in this package.
"""

from ctaflows.transport.client import Stream, Transport
from ctaflows.transport.messages import MAX_SMALL_BYTES, Answer, Head, Source, TokenSource
from ctaflows.transport.policy import MAX_HOPS, REDIRECTS, origin

__all__ = [
    "MAX_HOPS",
    "MAX_SMALL_BYTES",
    "REDIRECTS",
    "Answer",
    "Head",
    "Source",
    "Stream",
    "TokenSource",
    "Transport",
    "origin",
]
