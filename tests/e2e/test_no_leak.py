"""No token, no secret and no pool capability anywhere but where they belong."""

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qs

import pytest
from nights import make_night

from ctaflows.auth.renewal import TokenProvider
from ctaflows.auth.store import Store
from ctaflows.errors import CtaflowsError
from ctaflows.sandbox import Quirks, Sandbox
from ctaflows.sandbox import issuer as issuer_module

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NIGHT = "cta/DL1/20241114"
FILE = f"{NIGHT}/v0.1/tailcut84/dl1_LST-1.Run11111.0000.h5"


class Secrets:
    """All that the sandbox ever issued."""

    def __init__(self, box: Sandbox) -> None:
        self._box = box
        self._known = {"client secret": {box.client_secret}}
        tokens = Store(box.settings()).read()
        assert tokens is not None
        self._note("access token", tokens.access_token)
        self._note("refresh token", tokens.refresh_token)
        self._access, self._pair = box._tokens.access, box._tokens.pair
        box._tokens.access = self._noted_access  # type: ignore[method-assign]
        box._tokens.pair = self._noted_pair  # type: ignore[method-assign]
        box._issuer.logins = _Logins(self._note)

    def _note(self, kind: str, value: str | None) -> None:
        assert value
        self._known.setdefault(kind, set()).add(value)

    def _noted_access(self, *args: Any, **kwargs: Any) -> str:
        token = self._access(*args, **kwargs)
        self._note("access token", token)
        return token

    def _noted_pair(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        pair = self._pair(*args, **kwargs)
        self._note("refresh token", pair["refresh_token"])
        return pair

    def all(self) -> dict[str, set[str]]:
        for request in self._box.requests:
            query = request.path.partition("?")[2]
            for value in parse_qs(query).get("dcache-http-uuid", ()):
                self._note("pool capability", value)
        return self._known

    def in_(self, text: bytes) -> list[str]:
        """Name the kinds of secrets that a text holds, whole or a telling piece of them."""
        return [
            kind
            for kind, values in self.all().items()
            if any(piece.encode() in text for value in values for piece in pieces(value))
        ]


class _Logins(dict[str, Any]):
    def __init__(self, note: Callable[[str, str], None]) -> None:
        super().__init__()
        self._note = note

    def __setitem__(self, device_code: str, login: Any) -> None:
        self._note("device code", device_code)
        super().__setitem__(device_code, login)


def pieces(value: str) -> set[str]:
    """Give what would tell a secret: itself, its end, its beginning unless a JWT's head."""
    parts = value.split(".")
    if len(parts) == 3:  # a JWT's header and the beginning of its claims are the same for all
        return {value, parts[2][:24], parts[2][-24:]}
    return {value, value[:16], value[-16:]}


class CommandLines:
    """What `ps` shows meanwhile."""

    def __init__(self) -> None:
        self.seen: set[bytes] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.02):
            for process in Path("/proc").iterdir():
                if process.name.isdigit():
                    try:
                        self.seen.add((process / "cmdline").read_bytes())
                    except OSError:
                        continue


class Stage:
    """Runs commands and keeps all that they say."""

    def __init__(self, box: Sandbox) -> None:
        self.box = box
        self.said: list[tuple[str, bytes]] = []

    def run(self, *words: str, code: int, **env: str) -> bytes:
        process = subprocess.Popen(
            [sys.executable, "-m", "ctaflows", *words],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**os.environ, **env},
        )  # fmt: skip
        helper = threading.Thread(target=self._let_in, args=(process,))
        if words[:2] == ("token", "login"):
            helper.start()
        out, err = process.communicate(timeout=240)
        if helper.ident:
            helper.join()
        assert process.returncode == code, (words, process.returncode, out, err)
        self.said += [(f"stdout of {words}", out), (f"stderr of {words}", err)]
        return out

    def _let_in(self, process: subprocess.Popen[bytes]) -> None:
        while process.poll() is None:
            for login in list(self.box._issuer.logins.values()):
                self.box.approve(login.user_code)
            threading.Event().wait(0.05)


@pytest.fixture
def box() -> Iterator[Sandbox]:
    with Sandbox(quirks=Quirks(login_interval_s=0.1)) as sandbox:
        yield sandbox


@pytest.mark.slow
def test_nothing_leaks(
    box: Sandbox, here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_night(box.storage, dt.date(2024, 11, 14), subruns=(2, 1))
    secrets, stage = Secrets(box), Stage(box)
    (tmp_path / "home").mkdir(exist_ok=True)
    tmp = tmp_path / "tmp"
    tmp.mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp))
    with CommandLines() as lines:
        stage.run("token", "login", "-vv", code=0)
        stage.run("token", "status", "--json", "-vv", code=0)
        stage.run("token", "refresh", "-vv", code=0)
        stage.run("token", "print", "--file", "-vv", code=0)
        stage.run("ls", "-l", "-vv", NIGHT, code=0)
        stage.run("get", "-vv", FILE, code=0)
        box.faults.add("truncate", server="pool", times=1)
        stage.run("get", "-vv", FILE, "again.h5", code=0)
        box.faults.add("reset", server="pool", times=None)
        stage.run("get", "-vv", FILE, "never.h5", code=9)
        box.faults.clear()
        for name, code in (("403", 5), ("401", 5), ("500", 8), ("reset", 9), ("html", 8)):
            box.faults.add(name, server="door", times=None)
            stage.run("ls", "-vv", NIGHT, code=code)
            box.faults.clear()
        stage.run("ls", "-vv", "nowhere", code=3)
        stage.run("start-agent", "-vv", code=0)
        stage.run("agent", "status", "--json", "-vv", code=0)
        stage.run("run", "fetch-dl1", "--date", "20241114", "-vv", code=0)
        for name, code in (("503", 8), ("html", 8), ("reset", 9)):
            box.faults.add(name, server="issuer", times=None)
            stage.run("token", "refresh", "-vv", code=code)
            box.faults.clear()
        stage.run("token", "refresh", "-vv", code=5, CTAFLOWS_CLIENT_SECRET="wrong")
        stage.run("stop-agent", "-vv", code=0)
        tokens = Store(box.settings()).read()
        assert tokens is not None
        box.revoke(tokens.refresh_token or "")
        stage.run("token", "refresh", "-vv", code=5)
        printed = stage.run("token", "print", code=0)
        stage.said.pop(-2)  # its stdout is the token, and nothing but the token
        assert printed.decode().strip() == tokens.access_token

    counts = {kind: len(values) for kind, values in secrets.all().items()}
    assert counts["access token"] >= 3, counts
    assert counts["refresh token"] >= 3, counts
    assert counts["device code"] == 1, counts
    assert counts["pool capability"] >= 6, counts
    assert any(b"ctaflows.auth.agent" in line for line in lines.seen), "the watcher watches"

    assert [(who, found) for who, text in stage.said if (found := secrets.in_(text))] == []
    assert [(line, found) for line in lines.seen if (found := secrets.in_(line))] == []
    own = {"tokens/sandbox.json", "tokens/sandbox.token", "tokens/sandbox.secret", "client_secret"}
    files = [
        file
        for folder in (tmp_path, box.config_dir)
        for file in folder.rglob("*")
        if file.is_file() and file not in {box.config_dir / name for name in own}
    ]
    names = {file.name for file in files}
    assert {"agent-sandbox.log", "dl1_LST-1.Run11111.0000.h5", ".never.h5.part.json"} <= names, (
        names
    )
    assert [(str(f), found) for f in files if (found := secrets.in_(f.read_bytes()))] == []
    # and where they belong they are seen by nobody else
    for name in own:
        file = box.config_dir / name
        assert not file.exists() or file.stat().st_mode & 0o077 == 0


def test_the_search_finds(box: Sandbox, here: Path) -> None:
    """The proof above is worth something: what `token print` says is found."""
    secrets, stage = Secrets(box), Stage(box)
    assert secrets.in_(stage.run("token", "print", code=0)) == ["access token"]
    store = (box.config_dir / "tokens/sandbox.json").read_bytes()
    assert secrets.in_(store) == ["access token", "refresh token"]
    assert secrets.in_(box.client_secret[-16:].encode()) == ["client secret"]


@pytest.mark.parametrize("status", [400, 401, 503])
def test_an_issuer_that_repeats_what_it_was_told(
    box: Sandbox, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    """Refresh tokens need not look like tokens: what we sent is known, and taken out."""
    secrets = Secrets(box)

    def call(application: Any, environ: dict[str, Any]) -> Any:
        response = real(application, environ)
        if environ["PATH_INFO"].endswith("/token"):
            tokens = Store(box.settings()).read()
            assert tokens is not None
            text = f"{tokens.refresh_token} of {box.client_secret} is not active"
            response.status = status
            response.body = json.dumps({"error": "invalid_grant", "error_description": text})
            response.body = response.body.encode()
        return response

    real = issuer_module.call_wsgi
    monkeypatch.setattr(issuer_module, "call_wsgi", call)
    with pytest.raises(CtaflowsError) as why:
        TokenProvider(box.settings()).refresh()
    shown = f"{why.value} {why.value.hint} {why.value!r} {vars(why.value)}"
    assert secrets.in_(shown.encode()) == []


def test_repr_and_pickle_hold_no_secret(box: Sandbox) -> None:
    secrets = Secrets(box)
    settings = box.settings()
    provider = TokenProvider(settings)
    tokens = provider.store.read()
    shown = f"{settings!r} {tokens!r} {provider.info()!r} {provider.info().to_dict()}"
    assert secrets.in_(shown.encode()) == []
