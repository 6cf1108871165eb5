"""The command lines of all tools. All verify TLS, except root://, which is unencrypted.

Each tool is a class with a method for each action, which returns the command for a job; ``at_once``
is the number of files, connections or threads that it is told to use.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from benchmarks.transfers.job import Command, Tool, davs, last_part, quoted, urls, write

if TYPE_CHECKING:
    from collections.abc import Iterable

    from benchmarks.transfers.job import Job

READY_LIST = ", on a ready list"
_HERE = Path(__file__).parent


class Ctaflows(Tool):
    """The command line of ctaflows, configured by the environment."""

    package = "ctaflows"
    _program: ClassVar[str] = str(Path(sys.executable).with_name("ctaflows"))

    def get_file(self, job: Job, at_once: int) -> Command:
        return self._command(job, at_once, "get", [job.remote, f"{job.local}/"])

    def get_tree(self, job: Job, at_once: int) -> Command:
        return self._command(job, at_once, "get -r", [job.remote, f"{job.local}/"])

    def put_file(self, job: Job, at_once: int) -> Command:
        return self._command(job, at_once, "put", [str(job.local), f"{job.remote}/"])

    def put_tree(self, job: Job, at_once: int) -> Command:
        return self._command(job, at_once, "put -r", [str(job.local), f"{job.remote}/"])

    def list_tree(self, job: Job, at_once: int) -> Command:
        return self._command(job, at_once, "ls -l -r", [job.remote])

    def list_folder(self, job: Job, at_once: int) -> Command:
        return self._command(job, at_once, "ls -l", [job.remote])

    def start(self, job: Job, at_once: int) -> Command:
        return self._command(job, at_once, "ls", [job.remote])

    def _command(self, job: Job, at_once: int, act: str, paths: list[str]) -> Command:
        shown = f"{act} --transfers {at_once}" if at_once > 1 else act
        env = {
            "CTAFLOWS_DOOR_URL": job.url,
            "CTAFLOWS_CA_FILE": str(job.ca_file),
            "CTAFLOWS_CONFIG_DIR": str(job.home / "config"),
            "BEARER_TOKEN": "any-token",
        }
        return Command(f"ctaflows {shown}", [self._program, *shown.split(), *paths], env)


class Curl(Tool):
    """curl; it can't list directories, so it is given all URLs and names."""

    package = "curl"

    def get_file(self, job: Job, at_once: int) -> Command:
        target = str(job.local / last_part(job.remote))
        return Command("curl", [*self._words(job), "--output", target, job.url + job.remote])

    def get_tree(self, job: Job, at_once: int) -> Command:
        pairs = (
            (f"url = {quoted(url)}", f"output = {quoted(job.local / name)}")
            for name, url in urls(job)
        )
        return self._parallel(job, at_once, pairs)

    def put_file(self, job: Job, at_once: int) -> Command:
        url = f"{job.url}{job.remote}/{job.local.name}"
        return Command("curl", [*self._words(job), "--upload-file", str(job.local), url])

    def put_tree(self, job: Job, at_once: int) -> Command:
        pairs = (
            (f"upload-file = {quoted(job.local / name)}", f"url = {quoted(url)}")
            for name, url in urls(job)
        )
        return self._parallel(job, at_once, pairs)

    def _words(self, job: Job) -> list[str]:
        return ["curl", "--fail", "--silent", "--show-error", "--cacert", str(job.ca_file)]

    def _parallel(self, job: Job, at_once: int, pairs: Iterable[tuple[str, str]]) -> Command:
        listed = write(job.home / "curl.list", (line for pair in pairs for line in pair))
        words = ["--parallel", "--parallel-max", str(at_once), "--create-dirs", "--config", listed]
        return Command(f"curl -Z{at_once}{READY_LIST}", [*self._words(job), *words])


class Davix(Tool):
    """davix; recursive only for davs://: with https:// it ends without fetching anything."""

    package = "davix"

    def get_file(self, job: Job, at_once: int) -> Command:
        words = [davs(job) + job.remote, str(job.local / last_part(job.remote))]
        return self._command(job, "davix-get", words)

    def get_tree(self, job: Job, at_once: int) -> Command:
        return self._command(
            job, f"davix-get -r {at_once}", [davs(job) + job.remote, str(job.local)]
        )

    def put_file(self, job: Job, at_once: int) -> Command:
        target = f"{davs(job)}{job.remote}/{job.local.name}"
        return self._command(job, "davix-put", [str(job.local), target])

    def put_tree(self, job: Job, at_once: int) -> Command:
        target = f"{davs(job)}{job.remote}/{job.local.name}"
        made = self._command(job, f"davix-put -r {at_once}", [str(job.local), target])
        return replace(made, exit_codes=(0, 255))  # davix 0.8 exits with 255 even on success

    def list_tree(self, job: Job, at_once: int) -> Command:
        return self._command(job, f"davix-ls -l -r {at_once}", [davs(job) + job.remote])

    def list_folder(self, job: Job, at_once: int) -> Command:
        return self._command(job, "davix-ls -l", [davs(job) + job.remote])

    def _command(self, job: Job, act: str, paths: list[str]) -> Command:
        # else OpenSSL reads all CAs of the system for each session, one per file in davix-put
        return Command(act, [*act.split(), *paths], {"SSL_CERT_FILE": str(job.ca_file)})


class Rclone(Tool):
    """rclone with its WebDAV backend, configured by the environment."""

    package = "rclone"

    def get_file(self, job: Job, at_once: int) -> Command:
        target = str(job.local / last_part(job.remote))
        return self._command(job, "copyto", [f"door:{job.remote}", target])

    def get_tree(self, job: Job, at_once: int) -> Command:
        return self._command(
            job, f"copy --transfers {at_once}", [f"door:{job.remote}", str(job.local)]
        )

    def put_file(self, job: Job, at_once: int) -> Command:
        return self._command(job, "copyto", [str(job.local), f"door:{job.remote}/{job.local.name}"])

    def put_tree(self, job: Job, at_once: int) -> Command:
        target = f"door:{job.remote}/{job.local.name}"
        return self._command(job, f"copy --transfers {at_once}", [str(job.local), target])

    def list_tree(self, job: Job, at_once: int) -> Command:
        return self._command(job, "lsjson -R", [f"door:{job.remote}"])

    def list_folder(self, job: Job, at_once: int) -> Command:
        return self._command(job, "lsjson", [f"door:{job.remote}"])

    def _command(self, job: Job, act: str, paths: list[str]) -> Command:
        env = {
            "RCLONE_CONFIG": write(job.home / "rclone.conf", []),
            "RCLONE_CONFIG_DOOR_TYPE": "webdav",
            "RCLONE_CONFIG_DOOR_URL": job.url,
            "RCLONE_CONFIG_DOOR_VENDOR": "other",
            "RCLONE_CA_CERT": str(job.ca_file),
        }
        return Command(f"rclone {act}", ["rclone", *act.split(), *paths], env)


class Aria2(Tool):
    """aria2c, with several connections per file; it can't list directories."""

    package = "aria2"

    def get_file(self, job: Job, at_once: int) -> Command:
        many = [f"-x{at_once}", f"-s{at_once}"]
        target = [f"--dir={job.local}", f"--out={last_part(job.remote)}", job.url + job.remote]
        return Command(f"aria2c -x{at_once}", [*self._words(job), *many, *target])

    def get_tree(self, job: Job, at_once: int) -> Command:
        lines = (
            line for name, url in urls(job) for line in (url, f" dir={job.local}", f" out={name}")
        )
        listed = write(job.home / "aria2.list", lines)
        words = [f"-j{at_once}", f"--input-file={listed}"]
        return Command(f"aria2c -j{at_once}{READY_LIST}", [*self._words(job), *words])

    def _words(self, job: Job) -> list[str]:
        # by default it requests only sha, to which XRootD 5.5 responds with 500
        told = ["--no-conf", "--file-allocation=none", "--header=Want-Digest: adler32"]
        quiet = ["--console-log-level=error", "--summary-interval=0", "--download-result=hide"]
        return ["aria2c", *told, *quiet, f"--ca-certificate={job.ca_file}"]


class Xrdcp(Tool):
    """xrdcp with XRootD's own protocol, unencrypted."""

    package = "xrootd-client"
    scheme = "root"

    def get_file(self, job: Job, at_once: int) -> Command:
        return self._command(job, [self._url(job), str(job.local / last_part(job.remote))])

    def get_tree(self, job: Job, at_once: int) -> Command:
        return self._command(job, ["--recursive", self._url(job), str(job.local)])

    def put_file(self, job: Job, at_once: int) -> Command:
        return self._command(job, [str(job.local), f"{self._url(job)}/{job.local.name}"])

    def _command(self, job: Job, words: list[str]) -> Command:
        secure = "" if self.scheme == "roots" else ", in clear"
        label = f"xrdcp {self.scheme}://{secure}"
        quiet = ["xrdcp", "--nopbar", "--silent", "--force"]
        return Command(label, [*quiet, *words], {"X509_CERT_DIR": str(job.ca_dir)})

    def _url(self, job: Job) -> str:
        return f"{(job.xroot_url or '').replace('root:', f'{self.scheme}:')}/{job.remote}"


class XrdcpTls(Xrdcp):
    """xrdcp with XRootD's own protocol over TLS."""

    scheme = "roots"


class Webdav4(Tool):
    """A script with the client of webdav4."""

    package = "webdav4"

    def get_tree(self, job: Job, at_once: int) -> Command:
        return self._command(job, "get", at_once)

    def put_tree(self, job: Job, at_once: int) -> Command:
        return self._command(job, "put", at_once)

    def list_tree(self, job: Job, at_once: int) -> Command:
        return self._command(job, "list", at_once)

    def list_folder(self, job: Job, at_once: int) -> Command:
        return self._command(job, "list", at_once)

    def _command(self, job: Job, act: str, at_once: int) -> Command:
        label = "webdav4" if at_once == 1 else f"webdav4, {at_once} threads"
        place = [job.url, str(job.ca_file), job.remote, str(job.local), str(at_once)]
        return Command(label, [sys.executable, str(_HERE / "webdav4_peer.py"), act, *place])


class Python(Tool):
    """The Python interpreter alone, which every command of ctaflows has to start."""

    package = "python3"

    def start(self, job: Job, at_once: int) -> Command:
        return Command("python -c pass", [sys.executable, "-c", "pass"])


TOOLS: dict[str, Tool] = {
    "ctaflows": Ctaflows(),
    "curl": Curl(),
    "davix": Davix(),
    "rclone": Rclone(),
    "aria2c": Aria2(),
    "xrdcp": Xrdcp(),
    "xrdcp-tls": XrdcpTls(),
    "webdav4": Webdav4(),
    "python": Python(),
}


def command(tool: str, act: str, job: Job, at_once: int) -> Command:
    """Return the command of a tool for a job."""
    made: Command = getattr(TOOLS[tool], act)(job, at_once)
    return made
