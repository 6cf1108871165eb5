"""Files fetched and uploaded: whole, verified where that can be, replaced only where asked."""

from __future__ import annotations

import os
import random
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from sinkkit import StopAfter, read
from targets import DATA
from ways import NAMES, joined

from ctaflows import cancel, tasks
from ctaflows.errors import AlreadyExists, CtaflowsError, Stopped, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from targets import Place
    from ways import Ways

    from ctaflows.model import Report
    from ctaflows.transfer.progress import Progress

OTHER = random.Random(2).randbytes(3_000_000)
SIZES = (0, 3_000_000)


def upload(place: Place, local: Path, name: str = "r.h5", **how: Any) -> Any:
    """Upload a file; to a storage that can't rename with the overwriting that it asks for."""
    how.setdefault("overwrite", not place.storage.can_rename)
    return tasks.upload_file(local, f"{place.to}/{name}", **how)


def stopped(act: Callable[[Progress], object], after_bytes: int) -> None:
    """Do it until some bytes have moved, then stop it."""
    watch = StopAfter(after_bytes)
    with cancel.scope(watch.stop), pytest.raises(Stopped):
        act(watch)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# -- there and back --------------------------------------------------------------------------------


def test_a_file_goes_up_and_comes_back(place: Place, ways: Ways, here: Path) -> None:
    for size in SIZES:
        (here / f"{size}.h5").write_bytes(DATA[:size])
        up = upload(place, here / f"{size}.h5", f"{size}.h5")
        assert (up.path, up.moved_bytes) == (f"{place.at}/{size}.h5", size)
        down = tasks.fetch_file(up.path, "down/")
        assert down.moved_bytes == size
        assert (here / f"down/{size}.h5").read_bytes() == DATA[:size]
        for done in (up, down):
            assert done.checksum is not None
            assert done.verified is bool(ways.checksums)
            assert done.verified or done.note, "why it is not verified is said"
        assert down.server == ways.server
    whole = sorted(f"{size}.h5" for size in SIZES)
    assert (place.names(), names(here / "down")) == (whole, whole)


def test_what_is_here_is_not_fetched_again(shelf: Place, here: Path) -> None:
    path = shelf.kept(10_000)
    assert tasks.fetch_file(path).moved_bytes == 10_000
    again = tasks.fetch_file(path)
    assert (again.skipped, again.moved_bytes) == (True, 0)


def test_a_file_that_is_there_is_not_uploaded_again(shelf: Place, ways: Ways, here: Path) -> None:
    path = shelf.kept(10_000)
    (here / "r.h5").write_bytes(DATA[:10_000])
    if not shelf.storage.can_rename:
        with pytest.raises(UsageError, match="replaces what is there"):
            upload(shelf, here / "r.h5", "10000.h5", overwrite=False)
    elif ways.checksums:
        assert upload(shelf, here / "r.h5", "10000.h5").skipped
    else:  # size and time decide
        os.utime(here / "r.h5", (1e9, 1e9))
        done = upload(shelf, here / "r.h5", "10000.h5")
        assert (done.skipped, done.verified) == (True, False)
        os.utime(here / "r.h5", (4e9, 4e9))
        with pytest.raises(AlreadyExists):
            upload(shelf, here / "r.h5", "10000.h5")
    assert read(shelf.storage, path) == DATA[:10_000]


def test_another_file_is_replaced_only_where_asked(place: Place, here: Path) -> None:
    """By a whole one: a stopped upload leaves what was there.

    A storage that can't rename has the file under its name, in whatever state, until then.
    """
    place.put("r.h5", b"precious")
    (here / "r.h5").write_bytes(DATA)
    with pytest.raises((AlreadyExists, UsageError)):
        upload(place, here / "r.h5", overwrite=False)
    if not place.storage.can_rename:
        assert place.files() == {"r.h5": b"precious"}
    stopped(
        lambda progress: upload(place, here / "r.h5", overwrite=True, progress=progress),
        len(DATA) // 2,
    )
    if place.storage.can_rename:
        place.wait_for_removal()
        assert place.files() == {"r.h5": b"precious"}
    upload(place, here / "r.h5", overwrite=True)
    assert place.files() == {"r.h5": DATA}


def test_an_upload_makes_its_directories(place: Place, here: Path) -> None:
    """A name that ends in a slash is that of a directory, which no file replaces."""
    for name in ("r.h5", "s.h5"):
        (here / name).write_bytes(name.encode())
    upload(place, here / "r.h5", "dir/")
    with pytest.raises(CtaflowsError):
        upload(place, here / "s.h5", "dir")
    upload(place, here / "s.h5", "dir/")
    assert place.files() == {"dir/r.h5": b"r.h5", "dir/s.h5": b"s.h5"}


def test_an_upload_below_a_file_changes_nothing(shelf: Place, here: Path) -> None:
    path = shelf.kept(10_000)
    (here / "r.h5").write_bytes(b"x")
    with pytest.raises(CtaflowsError):
        upload(shelf, here / "r.h5", "10000.h5/r.h5")
    assert read(shelf.storage, path) == DATA[:10_000]


# -- interrupted -----------------------------------------------------------------------------------


def test_a_stopped_fetch_goes_on(shelf: Place, ways: Ways, here: Path) -> None:
    path = shelf.kept(len(DATA))
    stopped(lambda progress: tasks.fetch_file(path, progress=progress), len(DATA) // 2)
    name = "3000000.h5"
    assert name not in names(here)
    done = tasks.fetch_file(path)
    assert (here / name).read_bytes() == DATA
    assert done.resumed_bytes >= (len(DATA) // 2 if shelf.storage.has_ranges else 0)
    assert done.moved_bytes == len(DATA) - done.resumed_bytes
    assert done.verified is bool(ways.checksums)
    assert names(here) == [name]


def test_a_file_replaced_since_it_was_stopped_is_fetched_anew(place: Place, here: Path) -> None:
    path = place.put("r.h5", DATA)
    stopped(lambda progress: tasks.fetch_file(path, progress=progress), len(DATA) // 2)
    if place.storage.can_rename:  # as an upload does; XRootD 5.5 may tell a checksum of before
        place.storage.move(place.put("new", OTHER[:-1]), path, overwrite=True)
    else:
        place.put("r.h5", OTHER[:-1])
    tasks.fetch_file(path)
    assert (here / "r.h5").read_bytes() == OTHER[:-1]


# -- parts -----------------------------------------------------------------------------------------


# both ends are always asked for: XRootD 5.5.3 answers "bytes=100-" by "bytes 100--1/10000", empty
@pytest.mark.parametrize(("start", "end"), [(0, 10), (5, 17), (100, 10_000), (9_999, 10_000)])
def test_a_part_of_a_file_is_read(shelf: Place, start: int, end: int) -> None:
    path = shelf.kept(10_000)
    wanted = slice(start, end) if shelf.storage.has_ranges else slice(None)
    assert read(shelf.storage, path, start=start, end=end) == DATA[:10_000][wanted]


def test_a_file_is_read_where_it_is(shelf: Place) -> None:
    path = shelf.kept(len(DATA))
    if not shelf.storage.has_ranges:
        with pytest.raises(UsageError, match="can't read parts of a file"):
            tasks.open_remote(path)
        return
    dice = random.Random(6)
    with tasks.open_remote(path) as file:
        for _ in range(6):
            at, n_bytes = dice.randrange(len(DATA)), dice.randrange(50_000)
            assert file.read_at(at, n_bytes) == DATA[at : at + n_bytes]
        assert file.read_at(len(DATA) - 1) == DATA[-1:]
        assert file.n_requests <= 7
    with tasks.open_remote(shelf.kept(0)) as file:
        assert file.read() == b""


# -- many ------------------------------------------------------------------------------------------


def test_many_threads_share_a_storage(shelf: Place) -> None:
    files = {f"{i}.dat": bytes([i]) * 5000 for i in range(4)}
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(shelf.put, files, files.values()))
        found = list(pool.map(lambda path: read(shelf.storage, path), paths))
    assert found == [*files.values()]
    sizes = {entry.name: entry.size_bytes for entry in shelf.storage.list(shelf.at)}
    assert sizes.items() >= dict.fromkeys(files, 5000).items()


def test_many_go_up_and_come_back(place: Place, ways: Ways, here: Path) -> None:
    below = "x y/" if ways.can_upload("a b") else "x-y/"
    files = {f"{sub}{size}.h5": DATA[:size] for sub in ("", below) for size in (1, 9973)}
    for name, data in files.items():
        (here / "night" / name).parent.mkdir(parents=True, exist_ok=True)
        (here / "night" / name).write_bytes(data)
    how = {"overwrite": not place.storage.can_rename}
    up = tasks.upload_dir("night", place.to, **how)
    assert [transfer.verified for transfer in up.transfers] == [bool(ways.checksums)] * len(files)
    down = tasks.fetch_dir(f"{place.at}/night", "down", manifest="down/manifest.jsonl")
    assert {t.path: t.verified for t in down.transfers} == {
        f"{place.at}/night/{name}": bool(ways.checksums) for name in files
    }
    for name, data in files.items():
        assert (here / "down/night" / name).read_bytes() == data
    again = tasks.fetch_dir(f"{place.at}/night", "down", manifest="down/manifest.jsonl")
    assert (again.moved_bytes, len(again.skipped)) == (0, len(files))
    assert {verdict.ok for verdict in tasks.verify_dir("down")} == {True}


def upload_names(place: Place, here: Path, names: list[str]) -> Report:
    """Upload a file of each name, in which that name stands."""
    (here / "up").mkdir()
    for name in names:
        (here / "up" / name).write_bytes(name.encode())
        place.made.add(f"{place.at}/{name}")
    return tasks.upload_files(
        [(here / "up" / name, f"{place.to}/{name}") for name in names],
        overwrite=not place.storage.can_rename,
        on_error="report",
    )


def test_odd_names_go_up_and_come_back(shelf: Place, ways: Ways, here: Path) -> None:
    can = [name for name in NAMES if ways.can_upload(name)]
    listed = joined(name for name in can if NAMES[name] not in ways.unlisted)
    names = listed + joined(name for name in can if NAMES[name] in ways.unlisted)
    assert not upload_names(shelf, here, names).failed
    # what a server lists otherwise is there by another name, too
    assert set(listed) <= set(shelf.names())
    tasks.fetch_files([f"{shelf.at}/{name}" for name in names], "down")
    assert {n: (here / "down" / n).read_bytes() for n in names} == {n: n.encode() for n in names}


def test_a_name_that_can_not_be_is_refused_and_leaves_nothing(
    shelf: Place, ways: Ways, here: Path
) -> None:
    """A name that PUT does not take may still be given by MOVE, as ``.(x)`` at dCache."""
    names = joined(name for name in NAMES if not ways.can_upload(name))
    if not names:
        pytest.skip("this server takes them all")
    shelf.kept(10_000)
    before = shelf.names()
    report = upload_names(shelf, here, names)
    assert all(": " in (t.error or "") for t in report.failed), "the class of the error and words"
    failed = {t.path.removeprefix(f"{shelf.at}/") for t in report.failed}
    assert set(shelf.names()) - {n for n in names if n not in failed} == set(before)
