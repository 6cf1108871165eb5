"""webdav4 as a script would use it: `webdav4_peer.py ACT URL CA REMOTE LOCAL N_THREADS`."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from webdav4.client import Client

if TYPE_CHECKING:
    from collections.abc import Iterator


def walk(client: Client, pool: ThreadPoolExecutor, path: str) -> Iterator[dict[str, Any]]:
    """Yield all entries below a directory; the directories of a level are listed in parallel."""
    level = [path]
    while level:
        found = [entry for entries in pool.map(client.ls, level) for entry in entries]
        yield from found
        level = [entry["name"] for entry in found if entry["type"] == "directory"]


def get(client: Client, pool: ThreadPoolExecutor, remote: str, local: Path) -> None:
    base = remote.strip("/")
    # XRootD 5.5 gives no type for a file, so that only directories can be recognised
    found = walk(client, pool, base)
    names = [e["name"].strip("/") for e in found if e["type"] != "directory"]
    targets = [local / name.removeprefix(f"{base}/") for name in names]
    for folder in {target.parent for target in targets}:
        folder.mkdir(parents=True, exist_ok=True)
    list(pool.map(client.download_file, names, targets))


def put(client: Client, pool: ThreadPoolExecutor, remote: str, local: Path) -> None:
    base = remote.strip("/")
    files = [p for p in sorted(local.rglob("*")) if p.is_file()]
    targets = [f"{base}/{local.name}/{p.relative_to(local).as_posix()}" for p in files]
    for folder in sorted({f"{base}/{local.name}", *(t.rpartition("/")[0] for t in targets)}):
        client.mkdir(folder)
    list(pool.map(client.upload_file, files, targets))


def show(client: Client, pool: ThreadPoolExecutor, remote: str) -> None:
    for entry in walk(client, pool, remote.strip("/")):
        print(entry["content_length"], entry["modified"], entry["name"])


def main() -> None:
    act, url, ca, remote, local, n_threads = sys.argv[1:]
    client = Client(url, verify=ca)
    with ThreadPoolExecutor(int(n_threads)) as pool:
        if act == "get":
            get(client, pool, remote, Path(local))
        elif act == "put":
            put(client, pool, remote, Path(local))
        else:
            show(client, pool, remote)


if __name__ == "__main__":
    main()
