"""A certificate authority for one sandbox, and its certificate for localhost."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import trustme

if TYPE_CHECKING:
    from pathlib import Path


class Certificates:
    """Makes a CA and a server certificate and writes both below a folder.

    Parameters
    ----------
    folder : Path
        Where ``ca.pem`` and ``server.pem`` are written.
    host : str
        Name the servers are reached by, beside ``localhost`` and ``127.0.0.1``.

    Attributes
    ----------
    ca_file : Path
        The CA certificate, for clients.
    """

    def __init__(self, folder: Path, host: str) -> None:
        authority = trustme.CA(organization_name="ctaflows sandbox")
        certificate = authority.issue_cert(*dict.fromkeys((host, "localhost", "127.0.0.1")))
        self.ca_file = folder / "ca.pem"
        self._server_file = folder / "server.pem"
        authority.cert_pem.write_to_path(str(self.ca_file))
        self._server_file.touch(mode=0o600)
        certificate.private_key_and_cert_chain_pem.write_to_path(str(self._server_file))

    def server_context(self) -> ssl.SSLContext:
        """Give the TLS side of a server."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._server_file)
        return context
