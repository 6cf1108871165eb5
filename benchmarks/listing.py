"""Listing a million entries: time, CPU and memory of the commands that list.

A server in a separate process generates listings in dCache's format (480 bytes per entry, with
checksum, locality and time), without disk, TLS or a delay before the first byte.

Run: ``python benchmarks/listing.py [--entries 1000000] [--dirs 1000]``; with ``--dirs 0`` all
entries are in one directory. If a limit of `LIMIT_MB` is exceeded, the exit code is 1.
"""

from __future__ import annotations

import argparse
import http.server
import multiprocessing
import os
import sys
import tempfile
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMIT_MB = {1_000_000: 200, 50_000: 60}
COMMANDS = (
    ("ls", "-r"),
    ("ls", "-r", "--json"),
    ("ls", "-r", "-l"),
    ("find", "--name", "*.h5"),
    ("du", "-s"),
)
BLOCK = 100  # entries per write

_HEAD = (
    b'<?xml version="1.0" encoding="utf-8" ?>\n<d:multistatus xmlns:d="DAV:"'
    b' xmlns:ns1="http://srm.lbl.gov/StorageResourceManager"'
    b' xmlns:ns2="http://www.dcache.org/2013/webdav">\n'
)


def folder(href: str) -> str:
    return (
        f"<d:response>\n<d:href>{href}</d:href>\n<d:propstat><d:prop>\n"
        "<d:getlastmodified>Fri, 15 Nov 2024 12:00:00 GMT</d:getlastmodified>\n"
        "<d:resourcetype><d:collection/></d:resourcetype>\n"
        "</d:prop><d:status>HTTP/1.1 200 OK</d:status></d:propstat>\n</d:response>\n"
    )


def file(href: str, i: int) -> str:
    return (
        f"<d:response>\n<d:href>{href}</d:href>\n<d:propstat><d:prop>\n"
        f"<d:getcontentlength>{123_456_789 + i}</d:getcontentlength>\n"
        f"<ns2:Checksums>adler32={i * 2_654_435_761 % 2**32:08x}</ns2:Checksums>\n"
        f"<d:getlastmodified>Fri, 15 Nov 2024 {i // 3600 % 24:02}:{i // 60 % 60:02}:{i % 60:02} GMT"
        "</d:getlastmodified>\n<ns1:FileLocality>ONLINE</ns1:FileLocality>\n"
        f'<d:resourcetype></d:resourcetype>\n<d:getetag>"0000B2{i:030X}_{i}"</d:getetag>\n'
        "</d:prop><d:status>HTTP/1.1 200 OK</d:status></d:propstat>\n</d:response>\n"
    )


class Door(http.server.BaseHTTPRequestHandler):
    """Lists /t, which contains the directories, or the files if there are none."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16
    n_dirs = n_files = 0

    def do_PROPFIND(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = self.path.rstrip("/")
        self.send_response(207)
        self.send_header("Transfer-Encoding", "chunked")
        self.send_header("Content-Type", "application/xml")
        self.end_headers()
        self._write(_HEAD + folder(path + "/").encode())
        block: list[str] = []
        for line in self._lines(path):
            block.append(line)
            if len(block) == BLOCK:
                self._write("".join(block).encode())
                block = []
        self._write(("".join(block) + "</d:multistatus>\n").encode())
        self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()

    def _lines(self, path: str) -> Iterator[str]:
        if path == "/t" and self.n_dirs:
            for d in range(self.n_dirs):
                yield folder(f"{path}/{d:05}/")
        else:
            for i in range(self.n_files):
                yield file(f"{path}/dl1_LST-1.Run{10_000 + i // 1000:05}.{i % 1000:04}.h5", i)

    def _write(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))

    def log_message(self, *_: Any) -> None:
        pass


def serve(n_dirs: int, n_files: int, told: Any) -> None:
    Door.n_dirs, Door.n_files = n_dirs, n_files
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Door)
    told.send(server.server_address[1])
    server.serve_forever()


def measure(words: tuple[str, ...], env: dict[str, str]) -> tuple[float, float, float, int]:
    """Run a command; return its seconds, CPU seconds, peak MB and number of output lines."""
    command, *rest = words
    with tempfile.TemporaryFile() as out:
        began = time.perf_counter()
        process = os.posix_spawn(
            sys.executable,
            [sys.executable, "-m", "ctaflows", command, "t", *rest],
            env,
            file_actions=[(os.POSIX_SPAWN_DUP2, out.fileno(), 1)],
        )
        _, status, used = os.wait4(process, 0)
        seconds = time.perf_counter() - began
        if status:
            sys.exit(f"{' '.join(words)} ended with {os.waitstatus_to_exitcode(status)}")
        out.seek(0)
        n_lines = sum(chunk.count(b"\n") for chunk in iter(lambda: out.read(1 << 20), b""))
    return seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, n_lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--dirs", type=int, default=1000)
    asked = parser.parse_args()
    n_files = (asked.entries - asked.dirs) // max(asked.dirs, 1)
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.Process(target=serve, args=(asked.dirs, n_files, theirs), daemon=True)
    server.start()
    env = {
        **os.environ,
        "CTAFLOWS_DOOR_URL": f"http://127.0.0.1:{ours.recv()}",
        "CTAFLOWS_CONFIG_DIR": tempfile.mkdtemp(),
        "CTAFLOWS_TOKEN_SOURCE": "environment",
        "BEARER_TOKEN": "not-a-secret",
    }
    limit_mb = LIMIT_MB.get(asked.entries, float("inf"))
    too_large = False
    print(f"{asked.entries:,} entries in {asked.dirs:,} directories of {n_files:,} files")
    for words in COMMANDS:
        seconds, cpu_s, peak_mb, n_lines = measure(words, env)
        too_large = too_large or peak_mb > limit_mb
        print(
            f"{' '.join(words):20} {seconds:7.2f} s  {cpu_s:7.2f} s CPU  {peak_mb:5.0f} MB"
            f"  {n_lines:>9,} lines{'  TOO LARGE' if peak_mb > limit_mb else ''}",
            flush=True,
        )
    server.terminate()
    sys.exit(too_large)


if __name__ == "__main__":
    main()
