"""Real storage servers on loopback, from Debian's packages, for tests and benchmarks.

Each serves a folder over WebDAV and TLS. It runs as a child of ours, logs below its ``home`` and
leaves no process behind. Seen to work with nginx 1.22.1, Apache 2.4.68 and XRootD 5.5.3.
"""

from __future__ import annotations

import re
import socket
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

import trustme
from serverprocess import (
    Missing,
    Running,
    StartError,
    free_ports,
    program,
    start,
    status,
    version_of,
    wait_for,
)
from serversettings import APACHE, NGINX, XROOTD_DATA, XROOTD_DOOR, XROOTD_MANAGER

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from string import Template

__all__ = [
    "CA", "Missing", "Server", "StartError", "apache", "delayed", "make_ca", "nginx", "xrootd",
    "xrootd_cluster",
]  # fmt: skip

#: A manager asked over IPv6 sends nobody to a data server that it knows by an IPv4 address.
XROOTD_FLAGS = ("-I", "v4")
MODULES = {"nginx": Path("/usr/lib/nginx/modules"), "apache": Path("/usr/lib/apache2/modules")}


@dataclass
class CA:
    """A certificate authority and its certificate for localhost and 127.0.0.1."""

    ca_file: Path
    cert_file: Path
    key_file: Path


@dataclass
class Server:
    """A running server.

    Attributes
    ----------
    name : str
        ``nginx``, ``apache``, ``xrootd``, ``xrootd-cluster``.
    version : str
        As the program itself says.
    url : str
        ``https://localhost:PORT``, verified by ``ca_file``.
    root : Path
        The folder it serves as ``/``.
    home : Path
        Its settings and logs.
    xroot_url : str or None
        ``root://localhost:PORT``.
    http_url : str or None
        The same without TLS, where there is one.
    logs : dict
        Name of a process to its log.
    """

    name: str
    version: str
    url: str
    root: Path
    ca_file: Path
    home: Path
    xroot_url: str | None = None
    http_url: str | None = None
    logs: dict[str, Path] = field(default_factory=dict)
    processes: list[Running] = field(default_factory=list, repr=False)

    @property
    def port(self) -> int:
        """The port of ``url``."""
        return int(self.url.rpartition(":")[2])

    def stop(self) -> None:
        """End its processes; a second time does nothing."""
        while self.processes:
            self.processes.pop().stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


def make_ca(home: Path) -> CA:
    """Make a CA and a certificate for this machine, as the servers want the files."""
    home.mkdir(parents=True, exist_ok=True)
    authority = trustme.CA(organization_name="ctaflows tests")
    names = dict.fromkeys(("localhost", "127.0.0.1", socket.gethostname().lower()))
    certificate = authority.issue_cert(*names)
    made = CA(home / "ca.pem", home / "host.crt", home / "host.key")
    authority.cert_pem.write_to_path(str(made.ca_file))
    made.cert_file.write_bytes(b"".join(pem.bytes() for pem in certificate.cert_chain_pems))
    made.key_file.touch(mode=0o600)  # XRootD refuses a key that others may read
    certificate.private_key_pem.write_to_path(str(made.key_file))
    return made


def nginx(home: Path, root: Path, ca: CA) -> Server:
    """Start nginx with its WebDAV modules: no checksums, MKCOL wants a slash, PUT makes parents."""
    binary = program("nginx", "nginx-extras")
    _module("nginx", "ngx_http_dav_ext_module.so", "libnginx-mod-http-dav-ext")
    _folders(home, root)

    def once() -> Server:
        http, https = free_ports(2)
        values = _values(home, root, ca, modules=MODULES["nginx"], http=http, https=https)
        config = _write(home / "nginx.conf", NGINX, values)
        command = [binary, "-c", str(config), "-e", str(home / "nginx.log"), "-p", str(home)]
        server = _server("nginx", version_of([binary, "-v"]), https, home, root, ca)
        server.http_url = f"http://localhost:{http}"
        server.logs["nginx"] = home / "nginx.log"
        return _up(server, {"nginx": command})

    return _tried(once)


def apache(home: Path, root: Path, ca: CA) -> Server:
    """Start Apache with mod_dav: no checksums, PUT into a missing directory is refused."""
    binary = program("apache2", "apache2")
    _module("apache", "mod_dav_fs.so", "apache2-bin")
    _folders(home, root)

    def once() -> Server:
        (https,) = free_ports(1)
        config = _write(home / "apache.conf", APACHE, _values(home, root, ca, https=https))
        command = [binary, "-f", str(config), "-DFOREGROUND"]
        server = _server("apache", version_of([binary, "-v"]), https, home, root, ca)
        server.logs["apache"] = home / "apache.log"
        return _up(server, {"apache": command})

    return _tried(once)


def xrootd(home: Path, root: Path, ca: CA) -> Server:
    """Start one XRootD door: adler32 on ``Want-Digest`` (see `storedsums`), no redirects."""
    binary = _xrootd_program("xrootd")
    _folders(home, root)

    def once() -> Server:
        port, https = free_ports(2)
        values = _values(home, root, ca, name="door", port=port, https=https)
        config = _write(home / "door.cfg", XROOTD_DOOR, values)
        server = _server("xrootd", version_of([binary, "-v"]), https, home, root, ca)
        server.xroot_url = f"root://localhost:{port}"
        server.logs["door"] = home / "door.out"
        return _up(server, {"door": [binary, *XROOTD_FLAGS, "-c", str(config), "-n", "door"]})

    return _tried(once)


def xrootd_cluster(home: Path, root: Path, ca: CA, *, trace: bool = False) -> Server:
    """Start an XRootD manager that redirects to a data server, GET with 302 and PUT with 307.

    Parameters
    ----------
    trace : bool
        Let the data server log all that it is sent, to ``logs["data"]``.
    """
    binaries = {"xrootd": _xrootd_program("xrootd"), "cmsd": _xrootd_program("cmsd")}
    _folders(home, root)

    def once() -> Server:
        port, https, cms, data = free_ports(4)
        values = _values(home, root, ca, cms=cms, https=https)
        values["trace"] = "http.trace all" if trace else ""
        manager = {**values, "name": "manager", "port": port}
        configs = {
            "manager": _write(home / "manager.cfg", XROOTD_MANAGER, manager),
            "data": _write(
                home / "data.cfg", XROOTD_DATA, {**values, "name": "data", "port": data}
            ),
        }

        def commands(what: str) -> dict[str, list[str]]:
            return {
                f"{name}-{what}": [binaries[what], *XROOTD_FLAGS, "-c", str(config), "-n", name]
                for name, config in configs.items()
            }

        version = version_of([binaries["xrootd"], "-v"])
        server = _server("xrootd-cluster", version, https, home, root, ca)
        server.xroot_url = f"root://localhost:{port}"
        server.logs = {"manager": home / "manager-xrootd.out", "data": home / "data-xrootd.out"}
        # xrootd looks for its cmsd once, and then every 10 s only
        ends = {"manager": "nimda", "data": "admin"}
        sockets = [home / f"{name}/{name}/.olb/olbd.{end}" for name, end in ends.items()]
        _start(server, commands("cmsd"), lambda: all(s.is_socket() for s in sockets))
        # a manager asked before it is active lets the one who asks wait 5 s
        active = home / "manager-cmsd.out"
        _start(server, commands("xrootd"), lambda: "changed to active" in active.read_text())
        return _up(server, {})

    return _tried(once)


def delayed(home: Path, server: Server, rtt_ms: float, mb_per_s: float | None = None) -> Server:
    """Put a relay in front of a server, see `relay.py` for what it models.

    The answer has the same certificate; stopping it leaves the server itself alone. A redirect
    leads around the relay, so an `xrootd_cluster` is delayed at its manager only.
    """
    _folders(home)

    def once() -> Server:
        (port,) = free_ports(1)
        numbers = map(str, (port, server.port, rtt_ms, mb_per_s or 0))
        command = [sys.executable, str(Path(__file__).with_name("relay.py")), *numbers]
        relayed = replace(
            server, name=f"{server.name}+{rtt_ms:g}ms", url=f"https://localhost:{port}", home=home,
            xroot_url=None, http_url=None, processes=[], logs={**server.logs},
        )  # fmt: skip
        return _up(relayed, {f"relay-{port}": command})

    return _tried(once)


def _up(server: Server, commands: Mapping[str, list[str]]) -> Server:
    """Start the processes and wait until a listing of the root is answered."""
    _start(server, commands, lambda: _answers(server))
    return server


def _start(server: Server, commands: Mapping[str, list[str]], ready: Callable[[], bool]) -> None:
    try:
        for name, command in commands.items():
            log = server.logs.get(name)
            server.processes.append(start(name, command, server.home, log=log))
        wait_for(ready, server.processes)
    except BaseException:
        server.stop()
        raise


def _answers(server: Server) -> bool:
    """Return whether a server lists its root; a cluster's manager must know the data server."""
    ready = 307 if server.name.startswith("xrootd-cluster") else 207
    return status(server.port, server.ca_file, "PROPFIND", "/") == ready


def _tried(once: Callable[[], Server]) -> Server:
    """Start on other ports if one was taken meanwhile."""
    for _ in range(2):
        try:
            return once()
        except StartError as why:
            if not re.search(r"in use|could not bind|unable to bind", str(why), re.IGNORECASE):
                raise
    return once()


def _server(name: str, version: str, port: int, home: Path, root: Path, ca: CA) -> Server:
    return Server(name, version, f"https://localhost:{port}", root, ca.ca_file, home)


def _folders(*folders: Path) -> None:
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)


def _values(home: Path, root: Path, ca: CA, **more: object) -> dict[str, object]:
    files = {"ca": ca.ca_file, "cert": ca.cert_file, "key": ca.key_file}
    return {"home": home, "root": root, **files, **more}


def _write(file: Path, template: Template, values: Mapping[str, object]) -> Path:
    file.write_text(template.substitute(values))
    return file


def _module(server: str, name: str, package: str) -> None:
    if not (MODULES[server] / name).exists():
        raise Missing(package, name)


def _xrootd_program(name: str) -> str:
    found = program(name, "xrootd-server")
    if not any(Path("/usr/lib").glob("**/libXrdHttp-5.so")):
        raise Missing("xrootd-server-plugins", "libXrdHttp-5.so")
    return found
