"""Names in listings that would lead elsewhere, steer a terminal, or take another file's place."""

from __future__ import annotations

import contextlib
import os
import pty
import random
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from commands import ctaflows as run
from littledoor import multistatus, response

from ctaflows.errors import CtaflowsError
from ctaflows.tasks import fetch_dir, list_dir

if TYPE_CHECKING:
    from littledoor import Handler, LittleDoor

SMALL = b"small and safe"
MIDDLE = random.Random(2).randbytes(700_000)  # more than is fetched in memory
FILE = "<d:resourcetype/><d:getcontentlength>14</d:getcontentlength>"
FOLDER = "<d:resourcetype><d:collection/></d:resourcetype>"

OUTSIDE = [
    "/n/../escape.h5",
    "/n/../../escape.h5",
    "/n/%2e%2e/escape.h5",
    "/n/%2E%2e/%2e%2E/escape.h5",
    "/n/..%2fescape.h5",
    "/n/..%2f..%2f..%2fescape.h5",
    "/n/sub%2f..%2f..%2fescape.h5",
    "/n/sub/../../escape.h5",
    "/n/%2fescape.h5",
    "/n//escape.h5",
    "//escape.h5",
    "/escape.h5",
    "/n2/escape.h5",
    "/n/%252e%252e%2fescape.h5",
    "escape.h5",
    "../escape.h5",
    "https://localhost:1/n/../escape.h5",
    "https://elsewhere.example/n/%2e%2e/escape.h5",
    "file:///n/../escape.h5",
    "/n/..",
    "/n/%2e%2e",
    "/n/.",
    "/n/%2e/",
    "/n/nul%00.h5",
    "/n/..%00/escape.h5",
    "/n/..%5cescape.h5",
    "/n/%c0%ae%c0%ae%c0%afescape.h5",
    "/n/%ff%fe.h5",
    "/n/" + "x" * 300,
    "/n/" + "%C3%A9" * 200,
    "",
]
STEERING = [
    "/n/%1b%5b2J%1b%5bHowned.h5",
    "/n/two%0alines.h5",
    "/n/back%08%08%08.h5",
    "/n/title%1b%5d0;owned%07.h5",
    "/n/c1%C2%9b2J.h5",
    "/n/%E2%80%AE5h.exe",
    "/n/del%7f.h5",
]


def listed(handler: Handler, href: str, properties: str) -> bool:
    """List a good file and one more of that name."""
    handler.body()
    good = handler.place.response("/n/good.h5")
    top = response("/n/", FOLDER)
    if handler.name.strip("/") != "n":
        return handler.reply(404)
    return handler.reply(207, {}, multistatus(top + good + response(href, properties)))


def tree(folder: Path) -> set[str]:
    """Give all names below a folder."""
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*")}


@pytest.mark.slow
@pytest.mark.parametrize("wire", ["libcurl"], indirect=True)
@pytest.mark.parametrize("properties", [FILE, FOLDER], ids=["file", "folder"])
def test_nothing_comes_to_lie_outside(little: LittleDoor, aimed: Path, properties: str) -> None:
    """Whatever the listing names: it is refused with an error, or lies in the destination."""
    little.files["/n/good.h5"] = SMALL
    little.when("GET", lambda h: h.reply(200, {}, SMALL), origin="pool")
    little.when("GET", lambda h: h.reply(302, {"Location": little.pool_url + "/n/good.h5"}))
    root = aimed.parent  # no further up: folders of other tests lie beside it
    for number, href in enumerate(OUTSIDE + STEERING):
        little.hooks[2:] = []
        little.when("PROPFIND", lambda h, name=href: listed(h, name, properties))
        before = tree(root)
        dest = aimed / str(number) / "dest"
        try:
            fetch_dir("n", dest)
        except CtaflowsError as why:
            assert str(why).replace("\n", "").isprintable(), href
        new = {name for name in tree(root) - before if "/tokens/" not in name}
        inside = dest.relative_to(root).as_posix()
        outside = {name for name in new if not (name + "/").startswith(inside + "/")}
        assert outside <= {Path(inside).parent.as_posix()}, href
        for file in dest.rglob("*"):
            assert file.resolve().is_relative_to(dest.resolve()), href


@pytest.mark.parametrize("wire", ["libcurl"], indirect=True)
def test_names_that_lead_out_are_told(little: LittleDoor, aimed: Path) -> None:
    """A listing that names what is not in it is not believed at all."""
    little.files["/n/good.h5"] = SMALL
    for href in OUTSIDE[:14]:
        little.hooks.clear()
        little.when("PROPFIND", lambda h, name=href: listed(h, name, FILE))
        with pytest.raises(CtaflowsError):
            list_dir("n")


@pytest.mark.parametrize("wire", ["libcurl"], indirect=True)
@pytest.mark.parametrize("words", [["ls", "n"], ["ls", "-l", "n"], ["get", "-r", "n", "here"]])
def test_no_name_steers_the_terminal(little: LittleDoor, aimed: Path, words: list[str]) -> None:
    """A script gets names as they are; a terminal, and stderr always, shows them harmless."""
    little.files["/n/good.h5"] = SMALL

    def all_of_them(handler: Handler) -> bool:
        handler.body()
        found = "".join(response(href, FILE) for href in STEERING)
        return handler.reply(207, {}, multistatus(response("/n/", FOLDER) + found))

    little.when("PROPFIND", all_of_them)
    shown = on_a_terminal(*words)
    assert b"5h.exe" in shown
    commands = (b"\x1b[2J", b"\x1b[H", b"\x1b]0;", b"\x08\x08\x08", b"\xc2\x9b2J", b"\x7f")
    assert not [command for command in commands if command in shown]
    done = run(*words)
    assert not [c for c in done.err if not c.isprintable() and c != "\n"]


def on_a_terminal(*words: str) -> bytes:
    """Run a command at a terminal, and give all that appears there."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "ctaflows", *words]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # EIO: nobody holds the other end
        while block := os.read(ours, 1 << 16):
            shown += block
    os.close(ours)
    process.wait(60)
    return shown


@pytest.mark.timeout(60)
@pytest.mark.parametrize("wire", ["libcurl"], indirect=True)
def test_a_tree_without_end(little: LittleDoor, aimed: Path) -> None:
    """Each directory holds another one: that is refused while it is still cheap."""

    def deeper(handler: Handler) -> bool:
        handler.body()
        here = handler.path.rstrip("/") + "/"
        return handler.reply(
            207, {}, multistatus(response(here, FOLDER) + response(here + "d/", FOLDER))
        )

    little.when("PROPFIND", deeper)
    done = run("get", "-r", "n", "here")
    assert done.code not in (0, 1)
    assert not list(aimed.rglob("d"))


# -- names that are ours ---------------------------------------------------------------------------


@pytest.mark.parametrize("wire", ["libcurl"], indirect=True)
@pytest.mark.parametrize(
    ("name", "data"),
    [
        (".a.h5.part", SMALL),
        (".a.h5.part", MIDDLE),
        (".a.h5.part.json", MIDDLE),
        (".a.h5.part.json.new", MIDDLE),
        (".a.h5.part.ranges", MIDDLE),
    ],
    ids=["small part", "part", "journal", "new journal", "ranges"],
)
def test_a_file_named_as_another_one_s_part(
    little: LittleDoor, aimed: Path, name: str, data: bytes
) -> None:
    """Both come whole, or an error says why not; none is lost while all seems well."""
    little.files |= {"/n/a.h5": data, f"/n/{name}": data[::-1]}
    for _ in range(2):
        done = run("get", "-r", "n", "here", "--no-manifest", CTAFLOWS_TRANSFERS="1")
        here = {f"/n/{p.name}": p.read_bytes() for p in (aimed / "here/n").glob("*")}
        if done.code == 0:
            assert set(here) == set(little.files)
        else:
            assert name in done.err + done.out
        assert not [n for n in little.files if here.get(n, little.files[n]) != little.files[n]]


@pytest.mark.parametrize("wire", ["libcurl"], indirect=True)
def test_a_file_named_as_the_manifest(little: LittleDoor, aimed: Path) -> None:
    """Somebody uploaded a folder with its manifest: theirs and ours are not mixed."""
    little.files |= {"/n/a.h5": SMALL, "/n/manifest.jsonl": b'{"path": "/n/a.h5"}\n' * 3}
    for _ in range(2):
        done = run("get", "-r", "n", "here")
        file = aimed / "here/n/manifest.jsonl"
        if done.code == 0:
            assert file.read_bytes() == little.files["/n/manifest.jsonl"]
        else:
            assert "manifest.jsonl" in done.err + done.out
