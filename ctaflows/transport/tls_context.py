"""TLS of Python's own: certificates are always verified, as `tls` says."""

from __future__ import annotations

import contextlib
import os
import ssl
import threading
import time
from typing import TYPE_CHECKING

from ctaflows import cancel
from ctaflows.atomic_files import local_error
from ctaflows.errors import ProtocolSurprise
from ctaflows.transport import tls

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ctaflows.settings import Settings

_CA_VARIABLES = ("CTAFLOWS_CA_FILE", "SSL_CERT_FILE", "X509_CERT_DIR")


def ssl_context(settings: Settings) -> ssl.SSLContext:
    """Return a context that verifies certificates and host names, with TLS 1.2 or later.

    Parameters
    ----------
    settings : Settings
        ``ca_file`` names a PEM bundle or a hashed directory that replaces the system's CAs and
        those in ``/etc/grid-security/certificates``.

    Raises
    ------
    UsageError
        The CA file can't be read or holds no certificate.
    """
    ca = settings.ca_file
    try:
        if ca is None:
            context = ssl.create_default_context()
            if tls.GRID_CA_DIR.is_dir():
                context.load_verify_locations(capath=str(tls.GRID_CA_DIR))
        elif ca.is_dir():
            context = ssl.create_default_context(capath=str(ca))
        else:
            context = ssl.create_default_context(cafile=str(ca))
    except OSError as why:
        named = settings.origins.get("ca_file") == "environment"
        variables = [v for v in _CA_VARIABLES if named and os.environ.get(v) == str(ca)]
        hint = f"Name a PEM bundle or a hashed directory in {(variables or _CA_VARIABLES)[0]}."
        raise local_error(why, ca, "The CA certificates can't be read", hint=hint) from why
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.sslsocket_class = _Socket
    return context


_head = threading.local()
#: h11 0.16 limits the head of one response to 100 KiB, but not the number of 1xx responses.
_MAX_HEAD_BYTES = 1 << 20


@contextlib.contextmanager
def receiving_head() -> Iterator[None]:
    """Limit what this thread receives within the block, the head of a response, to 1 MiB."""
    _head.left_bytes = _MAX_HEAD_BYTES
    try:
        yield
    finally:
        _head.left_bytes = None


class _Socket(ssl.SSLSocket):
    """A TLS socket whose receiving ends when the work of its thread is cancelled, see `cancel`."""

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        """Receive bytes.

        Raises
        ------
        ProtocolSurprise
            The head of a response is longer than 1 MiB.
        Stopped
            The work was cancelled.
        """
        data = self._received(buflen, flags)
        left_bytes = getattr(_head, "left_bytes", None)
        if left_bytes is not None:
            _head.left_bytes = left_bytes - len(data)
            if left_bytes < len(data):
                raise ProtocolSurprise(
                    "The head of the answer has no end", where=str(self.server_hostname)
                )
        return data

    def _received(self, buflen: int, flags: int) -> bytes:
        wait_s = self.gettimeout()
        if wait_s is None or wait_s <= cancel.GLANCE_S:
            return super().recv(buflen, flags)
        stop, deadline = cancel.current(), time.monotonic() + wait_s
        try:
            while True:
                self.settimeout(cancel.GLANCE_S)
                try:
                    return super().recv(buflen, flags)
                except TimeoutError:
                    cancel.raise_if_cancelled(stop)
                    if time.monotonic() >= deadline:
                        raise
        finally:
            self.settimeout(wait_s)
