"""What goes wrong at the download service: found, told, nothing half, no token in a text."""

from __future__ import annotations

import logging
import pickle
from typing import TYPE_CHECKING

import pytest

from ctaflows import ctadata, tasks
from ctaflows.ctadata import StorageException, TokenError
from ctaflows.errors import CtaflowsError
from ctaflows.model import Entry
from ctaflows.sandbox.hub import Hub
from ctaflows.sandbox.messages import Response

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ctaflows.sandbox import Sandbox
    from ctaflows.sandbox.messages import Request

OWN = "lst/users/jane_doe__example_org"
DATA = bytes(range(256)) * 2000
FILE = "lst/data/run.h5"


@pytest.fixture(autouse=True)
def files(box: Sandbox, hub: Hub, token: str, here: Path) -> None:
    box.put(f"/{FILE}", DATA)
    (here / "local").write_bytes(DATA)


def n_fetches(hub: Hub) -> int:
    return sum("/fetch/" in r.path for r in hub.requests)


def left(here: Path) -> set[str]:
    return {p.name for p in here.iterdir() if not p.name.startswith(".")} - {"local"}


def fails(call: Callable[[], object], kind: type[Exception] = StorageException) -> str:
    """Make a call that must fail, and give all that is told of it, and of what it came from."""
    with pytest.raises(kind) as why:
        call()
    again = pickle.loads(pickle.dumps(why.value))
    assert type(again) is type(why.value)
    assert str(again) == str(why.value)
    assert getattr(why.value, "exit_code", 0) not in (0, None)
    told = ""
    error: BaseException | None = why.value
    while error is not None:
        told += f"{error}\n{getattr(error, '__notes__', [])}\n{vars(error)}\n"
        error = error.__cause__ or error.__context__
    return told


# -- bytes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("trouble", ["short", "broken"])
def test_a_body_that_ends_early_is_asked_for_again(trouble: str, hub: Hub, here: Path) -> None:
    hub.troubles.add(trouble, times=2)
    assert ctadata.fetch_and_save_file(FILE) == len(DATA)
    assert (here / "run.h5").read_bytes() == DATA
    assert n_fetches(hub) == 3


@pytest.mark.parametrize("trouble", ["short", "broken", "storage_error"])
@pytest.mark.parametrize("size", [100, len(DATA)])
def test_a_body_that_always_ends_early_leaves_no_file(
    trouble: str, size: int, box: Sandbox, hub: Hub, here: Path
) -> None:
    box.put(f"/{FILE}", DATA[:size])
    hub.troubles.add(trouble, times=None)
    said = fails(lambda: ctadata.fetch_and_save_file(FILE))
    assert left(here) == set()
    if trouble != "broken":
        assert "in place of a file" in said, "the hint tells what the service hides"
    hub.troubles.clear()
    assert ctadata.fetch_and_save_file(FILE) == size
    assert (here / "run.h5").read_bytes() == DATA[:size]


def test_an_old_file_survives_a_failure(hub: Hub, here: Path) -> None:
    (here / "run.h5").write_bytes(b"old")
    hub.troubles.add("short", times=None)
    fails(lambda: ctadata.fetch_and_save_file(FILE))
    assert (here / "run.h5").read_bytes() == b"old"


def test_other_bytes_are_found_by_the_checksum(hub: Hub, here: Path, box: Sandbox) -> None:
    ctadata.list_dir("lst/data")
    real = hub._files._fetch

    def flipped(request, path):  # type: ignore[no-untyped-def]
        response = real(request, path)
        response.body = iter([bytes(DATA[:-1]) + b"!"])
        return response

    hub._files._fetch = flipped  # type: ignore[method-assign]
    assert "not those the storage holds" in fails(lambda: ctadata.fetch_and_save_file(FILE))
    assert left(here) == set()


@pytest.mark.parametrize("trouble", ["no_checksums", "no_webdav"])
def test_without_checksums_the_size_counts(trouble: str, hub: Hub, here: Path) -> None:
    hub.troubles.add(trouble, times=None)
    done = ctadata.APIClient().fetch(FILE).transfers[0]
    assert not done.verified
    assert done.note
    assert done.checksum is not None
    assert done.checksum.algorithm == "sha256"
    assert ctadata.upload_file("local", "x")["total_written"] == len(DATA)
    hub.troubles.add("short", times=None)
    (here / "run.h5").unlink()
    fails(lambda: ctadata.fetch_and_save_file(FILE))


def test_a_webdav_that_is_not_there_is_left_alone(hub: Hub, box: Sandbox) -> None:
    hub.troubles.add("no_webdav", times=None)
    for i in range(30):
        box.put(f"/lst/many/{i}/file", b"x")
    ctadata.fetch_and_save_file_or_dir("lst/many", recursive=True)
    assert 1 <= sum(r.method == "PROPFIND" for r in hub.requests) < 10


def test_offline_files_are_not_asked_for(hub: Hub) -> None:
    hub.locality(f"/{FILE}", "NEARLINE")
    assert "on tape" in fails(lambda: ctadata.fetch_and_save_file(FILE))
    assert n_fetches(hub) == 0


def test_a_denied_file_is_told(hub: Hub, here: Path) -> None:
    hub.deny("/lst/data")
    fails(lambda: ctadata.fetch_and_save_file(FILE))
    assert [str(e) for e in ctadata.list_dir("lst/data")] == ["lst/data/"]
    assert left(here) == set()


# -- who we are ------------------------------------------------------------------------------------


CALLS = {
    "list": lambda: ctadata.list_dir("lst"),
    "fetch": lambda: ctadata.fetch_and_save_file(FILE),
    "upload": lambda: ctadata.upload_file("local", "x"),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_token_that_is_not_known(name: str, monkeypatch: pytest.MonkeyPatch, here: Path) -> None:
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "b" * 32)
    said = fails(CALLS[name])
    assert "does not accept the JupyterHub token" in said
    assert "Invalid or missing Bearer token" in said
    assert "control panel" in said
    assert "b" * 32 not in said
    assert left(here) == set()


@pytest.mark.parametrize("name", CALLS)
def test_no_token(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JUPYTERHUB_API_TOKEN")
    assert "JUPYTERHUB_API_TOKEN" in fails(CALLS[name], TokenError)


@pytest.mark.parametrize("name", CALLS)
def test_a_redirect_to_the_login_page(
    name: str, hub: Hub, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "_user", lambda _request: None)
    real = hub._not_logged_in

    def to_login(request, service):  # type: ignore[no-untyped-def]
        request.headers["content-type"] = ""
        return real(request, service)

    monkeypatch.setattr(hub, "_not_logged_in", to_login)
    said = fails(CALLS[name])
    assert "asks for a login" in said
    assert "/hub/api/oauth2/authorize" in said
    assert "state=abc" not in said
    assert left(here) == set()


def test_a_login_page_in_place_of_a_file(hub: Hub, here: Path) -> None:
    hub.faults.add("html", path="*/fetch/*", times=None)
    assert "A page came in place" in fails(lambda: ctadata.fetch_and_save_file(FILE))
    assert left(here) == set()


@pytest.mark.parametrize("name", CALLS)
def test_a_page_in_place_of_an_answer(name: str, hub: Hub) -> None:
    hub.faults.add("html", times=None)
    assert "A page came in place" in fails(CALLS[name])


def test_a_token_without_the_scope(hub: Hub) -> None:
    narrow = hub.add_user("narrow", services=())
    said = fails(lambda: ctadata.list_dir("lst", token=narrow))
    assert "token scopes are insufficient" in said
    assert narrow not in said


def test_no_right_to_upload(hub: Hub, here: Path, box: Sandbox) -> None:
    guest = hub.add_user("guest", uploads=False)
    said = fails(lambda: ctadata.upload_file("local", "x", token=guest))
    assert "403" in said
    assert "own directory" in said
    assert not (box.storage / "lst/users").exists()


def test_the_services_own_certificate_is_missing(hub: Hub) -> None:
    hub.troubles.add("no_certificate", times=None)
    said = fails(lambda: ctadata.list_dir("lst"))
    assert "You do not have any certificate configured" in said
    assert "ctaflows certificate upload" in said


# -- the way there ---------------------------------------------------------------------------------


def test_the_service_is_down(hub: Hub) -> None:
    hub.close()
    said = fails(lambda: ctadata.list_dir("lst"))
    assert "can't be reached" in said


def test_a_certificate_that_nobody_vouches_for(
    box: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, hub: Hub
) -> None:
    monkeypatch.setenv("CTAFLOWS_CONFIG_DIR", str(tmp_path / "empty"))
    for call in (lambda: ctadata.list_dir("lst"), lambda: ctadata.webdav4_client().ls("lst")):
        with pytest.raises(Exception, match=r"(?i)certificate"):
            call()
    assert len(hub.requests) == 0


@pytest.mark.parametrize("fault", ["503:2", "429", "500"])
def test_a_service_that_is_busy_is_asked_again(fault: str, hub: Hub, here: Path) -> None:
    hub.faults.add(fault)
    assert ctadata.fetch_and_save_file(FILE) == len(DATA)
    hub.faults.add(fault)
    assert ctadata.upload_file("local", "x")["total_written"] == len(DATA)
    hub.faults.add("503", times=None)
    fails(lambda: ctadata.list_dir("lst"))


@pytest.mark.parametrize(
    "body",
    [b"", b"nonsense", b"{}", b"[1]", b'[{"href": 1}]', b"[" * 100_000, b'[{"type": "file"}]',
     b'[{"href": "cta/elsewhere"}]', b'[{"href": "lst/../../etc/passwd"}]',
     b'[{"href": "lst/%2e%2e"}]', b'[{"href": "lst/a%00"}]'],
)  # fmt: skip
def test_listings_that_are_none(body: bytes, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = Response(200, {"Content-Type": "application/json"}, body)
    monkeypatch.setattr(hub._files, "_list", lambda _path: answer)
    fails(lambda: ctadata.list_dir("lst"))
    fails(lambda: ctadata.fetch_and_save_file("lst/x"))


# -- uploads ---------------------------------------------------------------------------------------


def test_an_upload_that_is_stored_by_half_is_found(hub: Hub) -> None:
    hub.troubles.add("half")
    said = fails(lambda: ctadata.upload_file("local", "x"))
    assert "Not all bytes are there" in said
    assert "upload it again" in said
    assert ctadata.upload_file("local", "x")["total_written"] == len(DATA)


def test_an_upload_of_other_bytes_is_found(
    hub: Hub, box: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = hub._files._upload

    def spoilt(request, path, user):  # type: ignore[no-untyped-def]
        response = real(request, path, user)
        box.put(f"/{OWN}/x", DATA[:-1] + b"!")
        return response

    monkeypatch.setattr(hub._files, "_upload", spoilt)
    assert "not what was sent" in fails(lambda: ctadata.upload_file("local", "x"))


def test_an_upload_whose_answer_is_lost_is_made_again(hub: Hub, box: Sandbox) -> None:
    hub.faults.add("lost", method="POST", times=2)
    assert ctadata.upload_file("local", "x")["total_written"] == len(DATA)
    assert (box.storage / OWN / "x").read_bytes() == DATA
    assert sum(r.method == "POST" for r in hub.requests) == 3


def test_some_uploads_of_many_fail(hub: Hub, here: Path, box: Sandbox) -> None:
    (here / "d").mkdir()
    for i in range(3):
        (here / f"d/{i}").write_bytes(b"12")
    hub.troubles.add("half", "*/1", times=None)
    with pytest.raises(StorageException, match="1 of 3 files failed") as why:
        ctadata.upload_dir("d", "t")
    assert [t.local for t in why.value.report.failed] == ["d/1"]
    assert (box.storage / OWN / "t/2").read_bytes() == b"12"


# -- secrets ---------------------------------------------------------------------------------------


def test_the_token_is_in_no_address_and_no_log(
    hub: Hub, token: str, here: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for call in CALLS.values():
        call()
    ctadata.webdav4_client().ls("lst")
    hub.troubles.add("short", times=None)
    (here / "run.h5").unlink()
    said = fails(lambda: ctadata.fetch_and_save_file(FILE))
    assert len(hub.requests) > 10
    assert all(token not in r.path for r in hub.requests)
    assert all(r.headers["authorization"] == f"Bearer {token}" for r in hub.requests)
    assert token not in said
    assert token not in caplog.text


def test_a_token_that_the_service_repeats_is_taken_out(hub: Hub, token: str) -> None:
    body = f"I do not like {token}, nor {token}".encode()
    hub.instead = lambda _request: Response(400, {}, body)
    said = fails(lambda: ctadata.list_dir("lst"))
    assert "I do not like [redacted]" in said
    assert token not in said


def test_the_token_goes_to_the_service_alone(hub: Hub, token: str, box: Sandbox) -> None:
    def away(request: Request) -> Response:
        location = f"{other.downloadservice_url}{request.target.split('/', 3)[3]}"
        return Response(307, {"Location": location})

    with Hub(box) as other:
        hub.instead = away
        entry = Entry(f"/{FILE}", size_bytes=len(DATA))
        fails(lambda: tasks.fetch_file(entry, "x", profile="platform"), CtaflowsError)
        for call in (*CALLS.values(), lambda: ctadata.webdav4_client().ls("lst")):
            with pytest.raises(Exception):  # noqa: B017, PT011
                call()
        assert len(other.requests) >= 2, "bytes, and webdav4's requests, are led on"
        assert all("authorization" not in r.headers for r in other.requests)
