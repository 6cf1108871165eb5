"""A JupyterHub platform on loopback: its users and login page, download and certificate service.

::

    with Sandbox() as box, Hub(box) as hub:
        token = hub.add_user("jane.doe@example.org")
        os.environ |= hub.environment(token)

Observed: cta-epfl/downloadservice @ 6c84bcf and cta-epfl/certificateservice, app.py of each.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import json
import re
import secrets
import ssl
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from ctaflows.sandbox.application import Application
from ctaflows.sandbox.certificateservice import CertificateService
from ctaflows.sandbox.downloadservice import DownloadService
from ctaflows.sandbox.faults import FaultBook
from ctaflows.sandbox.messages import Response, SeenList
from ctaflows.sandbox.quirks import Quirks
from ctaflows.sandbox.server import LoopbackServer
from ctaflows.sandbox.storage import Storage

if TYPE_CHECKING:
    from collections.abc import Callable

    from ctaflows.sandbox import Sandbox
    from ctaflows.sandbox.messages import Request

SERVICES = ("downloadservice", "certificateservice")
_LOGIN = "/hub/api/oauth2/authorize"

#: What can go wrong beside the faults of all servers (`ctaflows.sandbox.faults`).
TROUBLES = frozenset(
    {
        "short",  # a fetched file ends early, and nothing shows it
        "broken",  # the connection ends within a fetched file
        "storage_error",  # the storage's refusal comes in place of the file, with status 200
        "no_certificate",  # the service has no certificate for this user
        "half",  # an upload is stored by half, and called uploaded
        "no_checksums",  # PROPFIND at webdav/ tells none
        "no_webdav",  # webdav/ is not there
        "says_stored",  # a certificate that is good for too long is refused with 200 and "stored"
    }
)


@dataclass(frozen=True)
class User:
    """Somebody the hub knows.

    Attributes
    ----------
    name : str
        As the hub has it.
    services : tuple of str
        Services the token may be used at.
    admin : bool
        May it replace the shared certificate?
    uploads : bool
        May it write at all?
    """

    name: str
    services: tuple[str, ...] = SERVICES
    admin: bool = False
    uploads: bool = True

    @property
    def folder(self) -> str:
        """Name of the user's own directory: all but 0, 1 and a–z becomes ``_``."""
        return re.sub("[^0-1a-z]", "_", self.name.lower())


class Troubles:
    """What is still to go wrong; safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._planned: list[tuple[str, str, int | None]] = []

    def add(self, name: str, path: str = "*", times: int | None = 1) -> None:
        """Plan one of `TROUBLES` for paths that match a glob; None for ``times`` means always."""
        if name not in TROUBLES:
            raise ValueError(f"there is no trouble {name}")
        with self._lock:
            self._planned.append((name, path, times))

    def clear(self) -> None:
        """Forget all troubles."""
        with self._lock:
            self._planned.clear()

    def strikes(self, name: str, path: str) -> bool:
        """Tell whether a trouble befalls a path, and count it down."""
        with self._lock:
            for i, (planned, glob, times) in enumerate(self._planned):
                if planned == name and fnmatch.fnmatchcase(path, glob):
                    if times is not None:
                        self._planned[i] = (planned, glob, times - 1)
                        self._planned = [p for p in self._planned if p[2] != 0]
                    return True
        return False


class Hub:
    """A hub with both services, on 127.0.0.1 over TLS, on the files of a sandbox.

    Parameters
    ----------
    box : Sandbox
        Whose storage and certificate authority are used.
    port : int, optional
        0 for any free one.
    quirks : Quirks, optional
        Of the storage behind the service: ``empty_207``, ``no_checksums`` and the like.

    Attributes
    ----------
    downloadservice_url, certificateservice_url : str
        Fit for ``CTADS_URL`` and ``CTACS_URL``.
    requests : SeenList
        All requests so far.
    faults : FaultBook
        What is to go wrong, as at the sandbox's other servers.
    troubles : Troubles
        What only these services do wrong.
    certificates : dict
        ``(user, key)`` to the text that was stored; the shared one is at ``("", "")``.
    instead : callable or None
        Answers in place of everything, where it is set.
    """

    def __init__(self, box: Sandbox, *, port: int = 0, quirks: Quirks | None = None) -> None:
        self.requests, self.faults, self.troubles = SeenList(), FaultBook(), Troubles()
        self.instead: Callable[[Request], Response] | None = None
        self._users: dict[str, User] = {}
        self._closing = threading.Event()
        incoming = box.work_dir / "hub-incoming"
        incoming.mkdir(exist_ok=True)
        plain = dataclasses.replace(
            quirks or Quirks(),
            redirect_reads=False,
            redirect_writes=False,
            needs_token=False,
            block_after_401=False,
        )
        self._storage = Storage(box.storage, incoming, plain)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(box.work_dir / "tls" / "server.pem")
        app = Application("hub", self._handle, self.faults, self.requests, self._closing)
        self._server = LoopbackServer("gunicorn (sandbox)", app, port=port, context=context)
        self._origin = f"https://localhost:{self._server.port}"
        self.downloadservice_url = f"{self._origin}/services/downloadservice/"
        self.certificateservice_url = f"{self._origin}/services/certificateservice/"
        self._files = DownloadService(
            self._storage, plain, self.troubles.strikes, self.downloadservice_url
        )
        self._certificates = CertificateService(self.troubles.strikes)
        self.certificates = self._certificates.stored

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the server."""
        self._closing.set()
        self._server.close()

    def add_user(self, name: str, token: str | None = None, **rights: Any) -> str:
        """Let somebody in.

        Parameters
        ----------
        name : str
            Name at the hub.
        token : str, optional
            None makes one as JupyterHub does, 32 hexadecimal digits.
        **rights : Any
            Fields of `User`.

        Returns
        -------
        str
            The token.
        """
        token = token or secrets.token_hex(16)
        self._users[token] = User(name, **rights)
        return token

    def environment(self, token: str) -> dict[str, str]:
        """Give the variables by which ctadata's users name the services."""
        return {
            "CTADS_URL": self.downloadservice_url,
            "CTACS_URL": self.certificateservice_url,
            "JUPYTERHUB_API_TOKEN": token,
        }

    def deny(self, path: str) -> None:
        """Make a path unreadable."""
        self._storage.denied.add(self._storage.normal(path))

    def locality(self, path: str, locality: str) -> None:
        """Set the FileLocality of a file, such as ``NEARLINE``."""
        self._storage.localities[self._storage.normal(path)] = locality

    # -- requests ----------------------------------------------------------------------------

    def _handle(self, request: Request) -> Response:
        if self.instead is not None:
            return self.instead(request)
        if request.path.startswith(_LOGIN):
            page = b"<!DOCTYPE html><html><body><h1>Sign in</h1><form></form></body></html>"
            return Response(200, {"Content-Type": "text/html; charset=utf-8"}, page)
        head, services, service, *rest = [*request.path.split("/", 3), "", "", ""]
        if head or services != "services" or service not in SERVICES:
            return Response(404, {"Content-Type": "text/html"}, b"<h1>404 : Not Found</h1>")
        user = self._user(request)
        if user is None:
            return self._stranger(request, service)
        if service not in user.services:
            text = b"Access denied, token scopes are insufficient. Please contact the team."
            return Response(403, {"Content-Type": "text/html; charset=utf-8"}, text)
        if service == "certificateservice":
            return self._certificates.handle(request, rest[0], user)
        return self._files.handle(request, rest[0], user)

    def _user(self, request: Request) -> User | None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        return self._users.get(request.query.get("token", token if scheme == "Bearer" else ""))

    def _stranger(self, request: Request, service: str) -> Response:
        """Answer somebody unknown: only the download service tells programs from people."""
        kind = request.headers.get("content-type", "").lower()
        if service == "downloadservice" and kind == "application/json":
            return json_response({"message": "Invalid or missing Bearer token"}, 401)
        location = f"{_LOGIN}?client_id=service-{service}&response_type=code&state=abc"
        return Response(302, {"Location": location, "Content-Type": "text/html"}, b"<p>Redirect")


def json_response(values: Any, status: int = 200) -> Response:
    """Give an answer as Flask's jsonify does."""
    body = json.dumps(values, sort_keys=True, separators=(",", ":")).encode() + b"\n"
    return Response(status, {"Content-Type": "application/json"}, body)
