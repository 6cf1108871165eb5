"""The one seam to HTTP: TLS, timeouts, redirects by hand, retries.

It takes a token source and knows nothing of where tokens come from.
"""

from ctaflows.transport.client import Answer, Stream, TokenSource, Transport
from ctaflows.transport.policy import origin, pause_s
from ctaflows.transport.tls import ssl_context

__all__ = ["Answer", "Stream", "TokenSource", "Transport", "origin", "pause_s", "ssl_context"]
