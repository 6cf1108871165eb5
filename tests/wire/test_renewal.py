"""The provider: where it finds a token, how transfers live on it, what it leaves."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from putkit import put
from sinkkit import fetch

from ctaflows.atomic_files import NoLocks
from ctaflows.auth import agent
from ctaflows.auth import tokens as token_module
from ctaflows.auth.renewal import TokenProvider
from ctaflows.auth.store import Store
from ctaflows.auth.tokens import claims
from ctaflows.errors import (
    AuthError,
    LoginNeeded,
    NoSpace,
    Refused,
    TokenExpired,
    TokenMissing,
    UsageError,
)
from ctaflows.sandbox import Quirks, Sandbox
from ctaflows.storage.webdav import WebDAVStorage
from ctaflows.transfer import batch
from ctaflows.transfer.download import Job
from ctaflows.transfer.progress import Progress, reported_to
from ctaflows.transfer.upload import SMALL_BYTES, upload
from ctaflows.transfer.upload_journal import kept
from ctaflows.transport.driver import run_journey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ctaflows.auth.store import TokenSet
    from ctaflows.model import Transfer

DATA = os.urandom(600_000)


def stored(box: Sandbox) -> TokenSet:
    tokens = Store(box.settings()).read()
    assert tokens is not None
    return tokens


def statuses(box: Sandbox, server: str, path: str = "") -> list[int | None]:
    return [r.status for r in box.requests if r.server == server and r.path.endswith(path)]


def refreshes(box: Sandbox) -> list[int | None]:
    return statuses(box, "issuer", "/token")


# -- discovery -------------------------------------------------------------------------------------


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A home without tokens; /tmp/bt_u<euid> is not ours to see."""
    real = token_module._from_shared_place
    monkeypatch.setattr(
        token_module,
        "_from_shared_place",
        lambda file: None if file.parent == Path("/tmp") else real(file),
    )
    monkeypatch.delenv("JUPYTERHUB_API_TOKEN", raising=False)
    home = tmp_path / "home"
    (home / ".config/cta-data").mkdir(parents=True)
    (tmp_path / "run").mkdir()
    return home


def found(provider: TokenProvider) -> tuple[str, str]:
    """Token and source; both calls must agree."""
    token, info = provider.token(), provider.info()
    assert info.subject == claims(token).get("sub")
    return token, info.source


def test_the_whole_order_of_discovery(
    box: Sandbox, home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    token = {n: box.issue_token(subject=f"t{n}") for n in range(7)}
    settings = box.settings(profile="cscs", token_source="auto", config_dir=tmp_path / "cfg")
    provider = TokenProvider(settings)

    with pytest.raises(TokenMissing, match="cscs"):
        provider.token()
    with pytest.raises(TokenMissing):
        provider.info()

    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", token[6] + "\n")
    assert found(provider) == (token[6], "JUPYTERHUB_API_TOKEN")
    (home / ".cta_token").write_text(token[5] + "\n")
    assert found(provider) == (token[5], "~/.cta_token")
    (home / ".config/cta-data/token").write_text(f" {token[4]}\n\n")
    assert found(provider) == (token[4], "~/.config/cta-data/token")
    provider.store.write(replace(stored(box), access_token=token[3]))
    assert found(provider) == (token[3], str(tmp_path / "cfg/tokens/cscs.json"))
    assert provider.info().refreshable
    shared = tmp_path / f"run/bt_u{os.geteuid()}"
    shared.write_text(token[2] + "\n")
    assert found(provider) == (token[2], str(shared))
    assert not provider.info().refreshable
    named = tmp_path / "named"
    named.write_text(token[1])
    monkeypatch.setenv("BEARER_TOKEN_FILE", str(named))
    assert found(provider) == (token[1], str(named))
    monkeypatch.setenv("BEARER_TOKEN", token[0])
    assert found(provider) == (token[0], "BEARER_TOKEN")
    assert not list(box.requests), "nobody was asked"


@pytest.mark.parametrize(
    ("profile", "file", "is_seen"),
    [
        ("cscs", ".config/cta-data/token", True),
        ("cscs", ".config/cta-data/token-dev", False),
        ("cscs", ".cta_token", True),
        ("cscs-dev", ".config/cta-data/token-dev", True),
        ("cscs-dev", ".config/cta-data/token", False),
        ("cscs-dev", ".cta_token", False),
        ("sandbox", ".config/cta-data/token", False),
        ("sandbox", ".cta_token", False),
    ],
)
def test_files_of_ctadata(
    box: Sandbox, home: Path, tmp_path: Path, profile: str, file: str, is_seen: bool
) -> None:
    box.put("/a", b"x")
    token = box.issue_token()
    (home / file).write_text(token + "\n")
    settings = box.settings(profile=profile, token_source="auto", config_dir=tmp_path / "cfg")
    provider = TokenProvider(settings)
    if not is_seen:
        with pytest.raises(TokenMissing):
            provider.token()
        return
    assert found(provider) == (token, f"~/{file}")
    with WebDAVStorage(settings, provider) as door:
        assert door.stat("/a").size_bytes == 1


@pytest.mark.parametrize("rubbish", ["", "two words", "ä", "\x00", "a\nb"])
def test_rubbish_in_files_of_others_is_passed_over(
    box: Sandbox, home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, rubbish: str
) -> None:
    (home / ".config/cta-data/token").write_text(rubbish)
    (home / ".cta_token").mkdir()
    token = box.issue_token()
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", token)
    settings = box.settings(profile="cscs", token_source="auto", config_dir=tmp_path / "cfg")
    assert found(TokenProvider(settings)) == (token, "JUPYTERHUB_API_TOKEN")


def test_the_source_can_be_narrowed(
    box: Sandbox, home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    token = box.issue_token()
    (home / ".cta_token").write_text(token)
    empty = box.settings(profile="cscs", config_dir=tmp_path / "cfg")
    for source in ("environment", "store"):
        with pytest.raises(TokenMissing):
            TokenProvider(empty.replace(token_source=source)).token()
    monkeypatch.setenv("BEARER_TOKEN", token)
    ours = box.settings()
    assert found(TokenProvider(ours))[0] == stored(box).access_token
    assert found(TokenProvider(ours.replace(token_source="environment")))[0] == token
    monkeypatch.delenv("BEARER_TOKEN")
    with pytest.raises(TokenMissing):
        TokenProvider(ours.replace(token_source="environment")).token()


def test_an_expired_token_of_others_is_said_not_sent(
    box: Sandbox, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BEARER_TOKEN", box.issue_token(lifetime_s=-30))
    settings = box.settings(token_source="auto")
    with (
        WebDAVStorage(settings, TokenProvider(settings)) as door,
        pytest.raises(TokenExpired) as why,
    ):
        door.stat("/")
    assert "BEARER_TOKEN" in str(why.value)
    assert "unset BEARER_TOKEN" in (why.value.hint or "")
    assert not list(box.requests)


def test_an_unreadable_store_is_said(box: Sandbox, home: Path) -> None:
    Store(box.settings()).file.write_text('{"access_token":')
    with pytest.raises(AuthError, match="store can't be read") as why:
        TokenProvider(box.settings(token_source="auto")).token()
    assert "token login" in (why.value.hint or "")


# -- transfers -------------------------------------------------------------------------------------


class Hook(Progress):
    """Does something each time further bytes have come."""

    def __init__(self, each: int, hook: Callable[[], object]) -> None:
        self._each, self._hook, self._seen = each, hook, 0

    def advance(self, n_bytes: int) -> None:
        before = self._seen // self._each
        self._seen += n_bytes
        if self._seen // self._each > before:
            self._hook()


class Told(Progress):
    """Counts the bytes of which it is told."""

    n_bytes = 0

    def advance(self, n_bytes: int) -> None:
        self.n_bytes += n_bytes


def end_of_life(box: Sandbox) -> None:
    """The stored token is over, here and at the door."""
    store = Store(box.settings())
    with store.lock():
        tokens = stored(box)
        store.write(replace(tokens, obtained_at=time.time() - 2 * (tokens.expires_in or 0)))
    box.revoke(tokens.access_token)


@pytest.mark.parametrize("fault", ["truncate", "reset"])
def test_a_long_fetch_over_several_lives_of_its_token(
    box: Sandbox, door: WebDAVStorage, tmp_path: Path, fault: str
) -> None:
    box.put("/a.h5", DATA)
    wanted = Job(door.stat("/a.h5"), tmp_path / "a.h5")
    box.requests.clear()
    box.faults.add(fault, server="pool", times=4)
    with reported_to(Hook(50_000, lambda: end_of_life(box))):
        done = fetch(door, wanted)
    assert done.verified
    assert (tmp_path / "a.h5").read_bytes() == DATA
    assert done.moved_bytes == len(DATA), "it went on where it was"
    used = {r.headers["authorization"] for r in box.requests if r.server == "door"}
    assert len(used) == 5, "a new token for each resume"
    assert refreshes(box) == [200] * len(refreshes(box))
    assert 401 not in statuses(box, "door"), "renewed before it was refused"


def test_a_long_fetch_while_its_tokens_run_out(tmp_path: Path) -> None:
    """By the clock: each life ends before the next resume."""
    with Sandbox(token_lifetime_s=2) as box:
        box.put("/a.h5", DATA)
        settings = box.settings()
        TokenProvider(settings).refresh()

        def until_over() -> None:
            end, latest = claims(stored(box).access_token)["exp"], time.monotonic() + 10
            while time.time() <= end:
                assert time.monotonic() < latest
                time.sleep(0.02)

        with WebDAVStorage(settings, TokenProvider(settings)) as door:
            wanted = Job(door.stat("/a.h5"), tmp_path / "a.h5")
            box.faults.add("truncate", server="pool", times=2)
            with reported_to(Hook(100_000, until_over)):
                done = fetch(door, wanted)
        assert done.verified
        assert done.moved_bytes == len(DATA)
        assert len(refreshes(box)) >= 3
        assert 429 not in statuses(box, "door")


def test_a_token_revoked_between_two_requests(box: Sandbox, door: WebDAVStorage) -> None:
    box.put("/a", b"x")
    door.stat("/a")
    box.revoke(stored(box).access_token)
    box.requests.clear()
    assert door.stat("/a").size_bytes == 1
    assert statuses(box, "door") == [401, 207]
    assert refreshes(box) == [200]


def test_a_refused_token_is_not_replaced_by_one_that_is_over(
    box: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process renewed it, and this one slept until that token was over as well."""
    box.put("/a", b"x")
    settings = box.settings()
    provider = TokenProvider(settings)
    real = provider.renew

    def late(rejected: str) -> str | None:
        TokenProvider(settings).refresh()
        end_of_life(box)
        return real(rejected)

    monkeypatch.setattr(provider, "renew", late)
    box.revoke(stored(box).access_token)
    with WebDAVStorage(settings, provider) as door:
        assert door.stat("/a").size_bytes == 1
    assert statuses(box, "door") == [401, 207]
    assert refreshes(box) == [200, 200]


def test_one_refusal_one_refresh_once_more_and_stop(box: Sandbox, door: WebDAVStorage) -> None:
    box.put("/a", b"x")
    box.faults.add("401", server="door", times=None)
    with pytest.raises(Refused) as why:
        door.stat("/a")
    assert why.value.exit_code == 5
    assert statuses(box, "door") == [401, 401]
    assert refreshes(box) == [200]


def test_a_refusal_that_can_not_be_mended_is_asked_once(box: Sandbox, door: WebDAVStorage) -> None:
    box.put("/a", b"x")
    tokens = stored(box)
    box.revoke(tokens.access_token)
    box.revoke(tokens.refresh_token or "")
    with pytest.raises(Refused):
        door.stat("/a")
    assert statuses(box, "door") == [401]
    assert refreshes(box) == [400]


def test_a_fetch_with_a_token_that_is_never_taken(
    box: Sandbox, door: WebDAVStorage, tmp_path: Path
) -> None:
    box.put("/a.h5", DATA)
    wanted = Job(door.stat("/a.h5"), tmp_path / "a.h5")
    box.requests.clear()
    box.faults.add("401", server="door", times=None)
    with pytest.raises(Refused):
        fetch(door, wanted)
    assert statuses(box, "door") == [401, 401]


def upload_unseen(door: WebDAVStorage, local: Path) -> Transfer:
    """Upload a file without a look at what is there."""
    with kept(door) as journal:
        return run_journey(upload(door, journal, str(local), "/a.h5", there=None), door.session)


@pytest.mark.parametrize("fast_bytes", [True, False])
def test_a_large_upload_whose_token_was_revoked_is_sent_again(
    tmp_path: Path, fast_bytes: bool
) -> None:
    """At a door that takes the bytes itself: with them goes the token, and no request before."""
    local = tmp_path / "a.h5"
    local.write_bytes(DATA)
    assert len(DATA) > SMALL_BYTES
    told = Told()
    with Sandbox(quirks=Quirks(redirect_writes=False)) as box:
        settings = box.settings(fast_bytes=fast_bytes)
        with WebDAVStorage(settings, TokenProvider(settings)) as door, reported_to(told):
            put(door, "/first", b"x")
            box.revoke(stored(box).access_token)
            box.requests.clear()
            done = upload_unseen(door, local)
        assert done.verified
        assert [r.status for r in box.requests if r.method == "PUT"] == [401, 201]
        assert refreshes(box) == [200]
        assert (box.storage / "a.h5").read_bytes() == DATA
    assert told.n_bytes == len(DATA), "what was refused is not counted"


def test_a_large_upload_that_is_always_refused_is_sent_twice(tmp_path: Path) -> None:
    local = tmp_path / "a.h5"
    local.write_bytes(DATA)
    with Sandbox(quirks=Quirks(redirect_writes=False)) as box:
        settings = box.settings()
        with WebDAVStorage(settings, TokenProvider(settings)) as door:
            put(door, "/first", b"x")
            box.requests.clear()
            box.faults.add("401", server="door", method="PUT", times=None)
            with pytest.raises(Refused):
                upload_unseen(door, local)
        assert [r.status for r in box.requests if r.method == "PUT"] == [401, 401]
        assert refreshes(box) == [200]


def test_many_transfers_with_a_revoked_token_get_through(tmp_path: Path) -> None:
    """The first burst is refused as one, and may block the address; one refresh mends it all."""
    with Sandbox(quirks=Quirks(block_s=1.0)) as box:
        for i in range(16):
            box.put(f"/n/{i:02}.h5", DATA[:1000])
        settings = box.settings(busy_s=1.0)  # the 429 does not say for how long
        with WebDAVStorage(settings, TokenProvider(settings)) as door:
            jobs = [Job(e, tmp_path / Path(e.path).name) for e in door.list("/n")]
            box.requests.clear()
            box.revoke(stored(box).access_token)
            report = batch.fetch_many(door, jobs)
        assert not report.failed
        assert refreshes(box) == [200]
        assert statuses(box, "door").count(401) <= 8


def test_small_files_one_after_the_other_with_a_revoked_token_block_no_address(
    box: Sandbox, tmp_path: Path
) -> None:
    for i in range(16):
        box.put(f"/n/{i:02}.h5", DATA[:1000])
    settings = box.settings(transfers=1)
    with WebDAVStorage(settings, TokenProvider(settings)) as door:
        jobs = [Job(e, tmp_path / Path(e.path).name) for e in door.list("/n")]
        box.requests.clear()
        box.revoke(stored(box).access_token)
        report = batch.fetch_many(door, jobs)
    assert not report.failed
    assert refreshes(box) == [200]
    assert statuses(box, "door").count(401) == 1
    assert 429 not in statuses(box, "door")


def test_threads_share_one_refresh_after_a_refusal(tmp_path: Path) -> None:
    with Sandbox(quirks=Quirks(block_after_401=False)) as box:
        box.put("/a", b"x")
        settings = box.settings()
        box.revoke(stored(box).access_token)
        barrier = threading.Barrier(8)
        sizes: list[int | None] = []

        def ask() -> None:
            with WebDAVStorage(settings, TokenProvider(settings)) as door:
                barrier.wait(60)
                sizes.append(door.stat("/a").size_bytes)

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert sizes == [1] * 8
        assert refreshes(box) == [200]


# -- end of a login --------------------------------------------------------------------------------


@pytest.fixture
def provider(box: Sandbox) -> TokenProvider:
    provider = TokenProvider(box.settings())
    provider.refresh()
    return provider


def test_logout_ends_the_login_everywhere(box: Sandbox, provider: TokenProvider) -> None:
    tokens = stored(box)
    kept = box.config_dir / "tokens/sandbox.secret"
    kept.write_text("kept")
    assert provider.log_out() is True
    assert not provider.store.file.exists()
    assert not provider.store.bare_file.exists()
    assert not kept.exists()
    assert (box.config_dir / "client_secret").exists(), "that file is not ours"
    assert statuses(box, "issuer", "/revoke") == [200]
    assert box._tokens.hand_in(tokens.refresh_token or "") is None, "the issuer has ended it"
    with pytest.raises(TokenMissing):
        provider.token()
    with pytest.raises(TokenMissing):
        provider.log_out()


@pytest.mark.parametrize("fault", ["503", "reset", "hang", "html", "slow"])
def test_logout_while_the_issuer_is_away(box: Sandbox, provider: TokenProvider, fault: str) -> None:
    details: dict[str, Any] = {"rate_bytes_s": 20} if fault == "slow" else {}
    box.faults.add(fault, server="issuer", times=None, **details)
    start = time.monotonic()
    assert TokenProvider(box.settings(stall_timeout_s=30.0), deadline_s=1).log_out() is False
    assert time.monotonic() - start < 15
    assert not provider.store.file.exists()
    assert not provider.store.bare_file.exists()
    box.faults.clear()


def test_logout_with_a_wrong_secret(box: Sandbox, provider: TokenProvider) -> None:
    assert TokenProvider(box.settings(client_secret="wrong")).log_out() is False
    assert not provider.store.file.exists()


def test_logout_of_a_store_that_can_not_be_read(box: Sandbox, provider: TokenProvider) -> None:
    """Whoever logs out wants nothing to be left, and above all not the bare token."""
    provider.store.file.write_text("{")
    with pytest.raises(AuthError):
        provider.log_out()
    assert not provider.store.bare_file.exists()


# -- files -----------------------------------------------------------------------------------------


def test_the_bare_file_follows_each_renewal(box: Sandbox, provider: TokenProvider) -> None:
    file, seen = provider.store.bare_file, set()
    for _ in range(5):
        provider.refresh()
        assert file.read_text() == stored(box).access_token + "\n"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        seen.add(file.read_text())
    assert len(seen) == 5


def test_the_bare_file_is_never_half(box: Sandbox, provider: TokenProvider) -> None:
    """A reader that looks all the time sees whole tokens only."""
    stop, bad, n_looks = threading.Event(), [], 0

    def look() -> None:
        nonlocal n_looks
        while not stop.is_set():
            text = provider.store.bare_file.read_text()
            n_looks += 1
            if not text.endswith("\n") or box._tokens.refusal(text.strip()):
                bad.append(text)

    reader = threading.Thread(target=look)
    reader.start()
    for _ in range(10):
        provider.refresh()
    stop.set()
    reader.join()
    assert n_looks > 10
    assert bad == []


def test_the_bare_file_serves_other_tools(
    box: Sandbox, provider: TokenProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    box.put("/a", b"x")
    monkeypatch.setenv("BEARER_TOKEN_FILE", str(provider.store.bare_file))
    settings = box.settings(token_source="environment")
    with WebDAVStorage(settings, TokenProvider(settings)) as door:
        assert door.stat("/a").size_bytes == 1
        provider.refresh()
        box.requests.clear()
        door.stat("/a")
        assert box.requests[0].headers["authorization"] == f"Bearer {stored(box).access_token}"


# -- no room ---------------------------------------------------------------------------------------


def tokens_folder(box: Sandbox) -> dict[str, str]:
    folder = box.config_dir / "tokens"
    return {f.name: f.read_text() for f in folder.iterdir() if f.suffix != ".lock"}


@pytest.fixture(params=["open", "write", "fsync"])
def full(request: pytest.FixtureRequest) -> Callable[[pytest.MonkeyPatch, int], None]:
    """Let new files fail at one step."""

    def fail(patch: pytest.MonkeyPatch, number: int) -> None:
        real = getattr(os, request.param)

        def failing(what: Any, *more: Any, **named: Any) -> Any:
            if request.param == "open" and not more[0] & os.O_EXCL:
                return real(what, *more, **named)
            raise OSError(number, os.strerror(number))

        patch.setattr(os, request.param, failing)

    return fail


@pytest.mark.parametrize("name", ["ENOSPC", "EDQUOT", "EFBIG", "EACCES", "EROFS"])
def test_where_a_new_login_could_not_be_kept_none_is_asked_for(
    box: Sandbox,
    provider: TokenProvider,
    full: Callable[[pytest.MonkeyPatch, int], None],
    name: str,
) -> None:
    number, before = getattr(errno, name), tokens_folder(box)
    box.requests.clear()
    shown: list[object] = []
    with pytest.MonkeyPatch.context() as patch:
        full(patch, number)
        kind = UsageError if name in ("EACCES", "EROFS") else NoSpace
        with pytest.raises(kind, match="the issuer was not asked") as why:
            provider.refresh()
        assert why.value.said == os.strerror(number)
        assert "CTAFLOWS_CONFIG_DIR" in (why.value.hint or "")
        with pytest.raises(kind, match="the issuer was not asked"):
            provider.log_in(shown.append)
    assert not shown, "nobody was bothered"
    assert not list(box.requests)
    assert tokens_folder(box) == before, "nothing is changed, nothing is left"
    end_of_life(box)
    assert provider.token(), "there is room again"


def test_a_bare_file_that_can_not_be_written_loses_no_login(
    box: Sandbox, provider: TokenProvider, caplog: pytest.LogCaptureFixture
) -> None:
    bare = provider.store.bare_file
    bare.unlink()
    bare.mkdir()
    old = stored(box)
    provider.refresh()
    assert stored(box).refresh_token != old.refresh_token
    assert str(bare) in caplog.text
    names = {f.name for f in bare.parent.iterdir()}
    assert names == {"sandbox.json", "sandbox.token", "sandbox.lock"}
    bare.rmdir()
    tokens = provider.ensure_valid(60.0)
    assert bare.read_text().strip() == tokens.access_token


def test_without_locks_no_token_that_is_good_once_is_used(
    box: Sandbox, provider: TokenProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    before = stored(box)
    n_asked = len(refreshes(box))
    monkeypatch.setattr(fcntl, "flock", refuse)
    assert provider.token() == before.access_token
    with pytest.raises(NoLocks, match="good once"):
        provider.refresh()
    assert len(refreshes(box)) == n_asked
    assert provider.ensure_valid(before.remaining_s() + 1, fraction=2.0).access_token == (
        before.access_token
    )
    with pytest.raises(UsageError, match="no locks"):
        agent.start(box.settings())
    assert not agent.status(box.settings()).running
    assert provider.log_out()
    assert provider.store.read() is None


@pytest.fixture
def careless(tmp_path: Path) -> Iterator[Path]:
    """A config folder, after all that a provider does, under a umask that takes nothing away."""
    old = os.umask(0)
    try:
        with Sandbox(tmp_path / "box", quirks=Quirks(login_interval_s=0.05)) as box:
            folder = tmp_path / "new/home/.config/ctaflows"
            provider = TokenProvider(box.settings(config_dir=folder))
            provider.log_in(
                lambda login: box.approve(login.user_code) and None,
                client_secret=box.client_secret,
            )
            provider.refresh()
            tokens = provider.store.read()
            assert tokens is not None
            box.revoke(tokens.refresh_token or "")
            with pytest.raises(LoginNeeded):
                provider.refresh()
            yield folder
    finally:
        os.umask(old)


def test_modes_under_a_careless_umask(careless: Path) -> None:
    modes = {
        str(p.relative_to(careless)): oct(stat.S_IMODE(p.stat().st_mode))
        for p in [careless, *careless.rglob("*")]
    }
    assert modes == {
        ".": "0o700",
        "tokens": "0o700",
        "tokens/sandbox.json": "0o600",
        "tokens/sandbox.lock": "0o600",
        "tokens/sandbox.secret": "0o600",
        "tokens/sandbox.token": "0o600",
    }


def test_folders_above_are_private_too_if_we_make_them(careless: Path, tmp_path: Path) -> None:
    """Whoever may write to ~/.config can exchange what is in it (XDG asks for 0700)."""
    made = careless.parents[: careless.parents.index(tmp_path)]
    assert [str(f) for f in made if f.stat().st_mode & 0o022] == []


def test_a_secret_given_at_login_serves_the_renewals() -> None:
    """config.toml still names a file with an old secret: the new one was proven just now."""
    with Sandbox(quirks=Quirks(login_interval_s=0.05)) as box:
        (box.config_dir / "client_secret").write_text("the-old-one")
        provider = TokenProvider(box.settings(client_secret=None))
        provider.log_in(
            lambda login: box.approve(login.user_code) and None, client_secret=box.client_secret
        )
        assert provider.refresh().refreshable
