"""Bearer tokens: where they are found, what is read from them, and how they are kept."""

import base64
import json
import os
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ctaflows.auth import tokens as token_module
from ctaflows.auth.store import Store, TokenSet
from ctaflows.auth.tokens import FoundToken, claims, describe, discover
from ctaflows.errors import AuthError, CtaflowsError
from ctaflows.settings import Settings


@pytest.fixture
def env(monkeypatch, tmp_path):
    """An environment of which only XDG_RUNTIME_DIR is set; /tmp/bt_u<euid> is not ours to see."""
    real = token_module._from_shared_place
    monkeypatch.setattr(
        token_module,
        "_from_shared_place",
        lambda file: None if file.parent == Path("/tmp") else real(file),
    )
    (tmp_path / "run").mkdir()
    return {"XDG_RUNTIME_DIR": str(tmp_path / "run")}


@pytest.fixture
def shared(env):
    """The token file in XDG_RUNTIME_DIR."""
    return Path(env["XDG_RUNTIME_DIR"]) / f"bt_u{os.geteuid()}"


# discovery


def test_the_order_of_discovery(env, shared, tmp_path):
    named = tmp_path / "named"
    named.write_text("from-file\n")
    shared.write_text("from-run\n")
    everything = {**env, "BEARER_TOKEN": "from-variable", "BEARER_TOKEN_FILE": str(named)}
    expected = [
        ("BEARER_TOKEN", "from-variable", "BEARER_TOKEN"),
        ("BEARER_TOKEN_FILE", "from-file", str(named)),
        ("XDG_RUNTIME_DIR", "from-run", str(shared)),
    ]
    for variable, value, source in expected:
        assert discover(everything) == FoundToken(value, source)
        del everything[variable]
    assert discover(everything) is None


def test_tmp_is_the_last_place(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(token_module, "_from_shared_place", lambda file: asked.append(file))
    name = f"bt_u{os.geteuid()}"
    assert discover({}) is None
    assert asked == [Path("/tmp") / name]
    asked.clear()
    assert discover({"XDG_RUNTIME_DIR": str(tmp_path)}) is None
    assert asked == [tmp_path / name, Path("/tmp") / name]


@pytest.mark.parametrize("empty", ["", " ", "\n", " \t\r\n "])
def test_what_is_empty_is_passed_over(empty, env, shared, tmp_path):
    named = tmp_path / "named"
    named.write_text(empty)
    shared.write_text("from-run")
    env |= {"BEARER_TOKEN": empty, "BEARER_TOKEN_FILE": str(named)}
    assert discover(env).value == "from-run"
    shared.write_text(empty)
    assert discover(env) is None
    assert discover({**env, "BEARER_TOKEN_FILE": "", "XDG_RUNTIME_DIR": ""}) is None


@pytest.mark.parametrize("value", ["tok", "a.b-c_d~e+f/g==", " tok\n", "\ttok ", "eyJ.eyJ.x"])
def test_white_space_around_is_taken_off(value, env, shared, tmp_path):
    assert discover({**env, "BEARER_TOKEN": value}).value == value.strip()
    shared.write_text(value)
    assert discover(env).value == value.strip()
    named = tmp_path / "named"
    named.write_text(value)
    assert discover({**env, "BEARER_TOKEN_FILE": str(named)}).value == value.strip()


INVALID = ["two words", "Bearer s3cr3t", "a\nb", "s3cr3t=x", "s3cr3t\x7f", "tökén", '{"a":1}', "="]


@pytest.mark.parametrize("value", INVALID)
def test_what_is_invalid_is_an_error_and_not_passed_over(value, env, shared, tmp_path):
    shared.write_text("good")
    named = tmp_path / "named"
    named.write_text(value)
    for more, source in [
        ({"BEARER_TOKEN": value}, "BEARER_TOKEN"),
        ({"BEARER_TOKEN_FILE": str(named)}, str(named)),
    ]:
        with pytest.raises(AuthError) as caught:
            discover({**env, **more})
        assert caught.value.where == source
        assert "s3cr3t" not in f"{caught.value} {vars(caught.value)}"
    shared.write_text(value)
    with pytest.raises(AuthError):
        discover(env)


def test_bytes_that_are_no_text_are_an_error(env, shared):
    shared.write_bytes(b"\xff\xfe\x00tok")
    with pytest.raises(AuthError):
        discover(env)
    with pytest.raises(AuthError):
        discover({"BEARER_TOKEN_FILE": str(shared)})


@pytest.mark.parametrize("what", ["missing", "folder", "under a file"])
def test_a_named_file_that_can_not_be_read_is_an_error(what, env, shared, tmp_path):
    shared.write_text("good")
    named = tmp_path / "named"
    if what == "folder":
        named.mkdir()
    elif what == "under a file":
        named = shared / "x"
    with pytest.raises(AuthError) as caught:
        discover({**env, "BEARER_TOKEN_FILE": str(named)})
    assert caught.value.where == str(named)
    assert "BEARER_TOKEN_FILE" in caught.value.hint


@pytest.mark.parametrize("what", ["missing", "symlink", "dangling", "folder", "fifo"])
def test_what_is_no_file_of_ours_is_ignored_in_the_shared_place(what, env, shared, tmp_path):
    real = tmp_path / "real"
    real.write_text("planted")
    if what == "symlink":
        shared.symlink_to(real)
    elif what == "dangling":
        shared.symlink_to(tmp_path / "nowhere")
    elif what == "folder":
        shared.mkdir()
    elif what == "fifo":
        os.mkfifo(shared)
    assert discover(env) is None


def test_somebody_else_s_file_is_ignored_in_the_shared_place(env, shared, monkeypatch):
    shared.write_text("planted")
    assert discover(env).value == "planted"
    other = os.geteuid() + 1
    monkeypatch.setattr(token_module.os, "geteuid", lambda: other)
    shared.rename(shared.with_name(f"bt_u{other}"))
    assert discover(env) is None


def test_a_link_is_followed_where_the_user_named_the_file(env, tmp_path):
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_text("mine")
    link.symlink_to(real)
    assert discover({**env, "BEARER_TOKEN_FILE": str(link)}).value == "mine"


def test_the_token_is_not_in_the_repr():
    found = FoundToken("s3cr3t", "BEARER_TOKEN")
    assert "s3cr3t" not in f"{found!r} {found} {[found]}"
    assert "BEARER_TOKEN" in repr(found)


# claims


def jwt(payload, *, pad=False):
    raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    body = base64.urlsafe_b64encode(raw).decode()
    return f"eyJhbGciOiJub25lIn0.{body if pad else body.rstrip('=')}.c2ln"


@pytest.mark.parametrize("n_more", range(8))
def test_payloads_of_every_length_mod_4(n_more):
    values = {"sub": "x" * n_more, "exp": 1}
    token = jwt(values)
    assert claims(token) == values
    assert claims(jwt(values, pad=True)) == values
    lengths = {len(jwt({"sub": "x" * n, "exp": 1}).split(".")[1]) % 4 for n in range(8)}
    assert lengths == {0, 2, 3}  # 1 is no length of base64


@given(
    st.dictionaries(
        st.text(max_size=8),
        st.text(max_size=20) | st.integers() | st.booleans() | st.lists(st.text(max_size=5)),
        max_size=5,
    )
)
@example({"sub": "日本" * 3, "x": "\u00ff\u00fe>>>???"})
def test_claims_are_read_whatever_they_are(values):
    assert claims(jwt(values)) == values


@given(st.text(max_size=40) | st.binary(max_size=40).map(jwt) | st.text("ab.=_-", max_size=20))
@example("..")
@example("a.b")
@example("a.W10.c")
@example("a.MTI.c")
@example("a.é.c")
def test_rubbish_has_no_claims(token):
    assert isinstance(claims(token), dict)


@pytest.mark.parametrize("payload", [b"[1]", b'"x"', b"5", b"null", b"\xff", b"{", b""])
def test_what_is_no_object_has_no_claims(payload):
    assert claims(jwt(payload)) == {}


def test_a_payload_nested_too_deep_has_no_claims():
    assert claims(jwt(b"[" * 200_000)) == {}
    assert claims(jwt(b'{"a":' * 200_000)) == {}


@pytest.mark.parametrize("token", ["opaque", "MDAxY2xvY2F0aW9u", "a.b.c.d.e", ""])
def test_opaque_tokens_have_no_claims(token):
    assert claims(token) == {}


# describe

NOON = datetime(2024, 11, 15, 12, tzinfo=UTC)


def about(values, **more):
    found = FoundToken(jwt(values), "BEARER_TOKEN")
    return describe(found, **{"refreshable": False, "now": NOON.timestamp(), **more})


def test_describe():
    info = about(
        {
            "iss": "https://issuer",
            "sub": "me",
            "scope": "openid storage.read:/",
            "aud": ["a", "b"],
            "azp": "the-client",
            "exp": NOON.timestamp() + 90.5,
        }
    )
    assert info.to_dict() == {
        "source": "BEARER_TOKEN",
        "issuer": "https://issuer",
        "subject": "me",
        "scopes": ["openid", "storage.read:/"],
        "audience": ["a", "b"],
        "expires_at": "2024-11-15T12:01:30.500000Z",
        "expires_in_s": 90,
        "refreshable": False,
        "client_id": "the-client",
    }
    assert json.loads(json.dumps(info.to_dict())) == info.to_dict()


def test_describe_a_token_that_can_not_be_read():
    info = describe(FoundToken("opaque", "x"), refreshable=True)
    assert (info.issuer, info.subject, info.expires_at, info.expires_in_s) == (None,) * 4
    assert (info.scopes, info.audience, info.refreshable) == ((), (), True)


@pytest.mark.parametrize(
    ("exp", "expires_in_s"),
    [
        (NOON.timestamp(), 0),
        (NOON.timestamp() - 60, -60),
        (0, -int(NOON.timestamp())),
        (None, None),
        ("soon", None),
        ("1731672000", None),
        ([1], None),
        (-1, None),
        (1e300, None),
        (10**400, None),
        (float("inf"), None),
        (float("nan"), None),
    ],
)
def test_the_end_of_life(exp, expires_in_s):
    assert about({"exp": exp}).expires_in_s == expires_in_s


def test_an_end_counted_from_receipt_wins_over_the_token_s_own():
    info = about({"exp": 5}, expires_at=NOON.timestamp() + 30)
    assert info.expires_in_s == 30
    assert info.expires_at.utcoffset().total_seconds() == 0


@pytest.mark.parametrize("expires_at", [1e18, 1e300, float("inf")])
def test_an_end_that_never_comes_is_no_crash(expires_at):
    # an issuer may say expires_in: 10**18
    info = about({}, expires_at=expires_at)
    assert info.expires_at is None or info.expires_in_s > 10**9


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("a b", ("a", "b")),
        ("a", ("a",)),
        ("", ()),
        (["a", "b c"], ("a", "b c")),
        (["a", 5, None], ("a",)),
        (None, ()),
        (5, ()),
        ({"a": 1}, ()),
    ],
)
def test_scopes_and_audience(value, words):
    info = about({"scope": value, "aud": value})
    assert info.scopes == words
    assert info.audience == words


@pytest.mark.parametrize("value", [None, 5, ["x"], {}])
def test_names_that_are_no_text_are_none(value):
    info = about({"iss": value, "sub": value})
    assert (info.issuer, info.subject) == (None, None)


def test_nothing_shows_the_token():
    token = jwt({"sub": "me"})
    info = describe(FoundToken(token, "x"), refreshable=False)
    assert token.split(".")[1] not in f"{info!r} {info.to_dict()}"


# the store

TOKENS = TokenSet("s3cr3t-access", "s3cr3t-refresh", 300.0, 1000.0, "openid")


@pytest.fixture
def store(tmp_path):
    return Store(Settings(config_dir=tmp_path / "config", profile="lab"))


@pytest.fixture
def open_umask():
    """The most careless umask there is."""
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_a_store_reads_what_was_written(store):
    assert store.read() is None
    store.write(TOKENS)
    assert store.read() == TOKENS
    assert store.file.name == "lab.json"
    bare = TokenSet("only")
    store.write(bare)
    assert store.read() == bare


@pytest.mark.usefixtures("open_umask")
def test_file_and_folder_are_private_whatever_the_umask(store):
    store.write(TOKENS)
    assert mode(store.file) == 0o600
    assert mode(store.file.parent) == 0o700
    store.write(TOKENS)
    assert mode(store.file) == 0o600
    with store.lock():
        for file in store.file.parent.iterdir():
            assert mode(file) == 0o600


@pytest.mark.usefixtures("open_umask")
def test_nobody_else_can_put_another_folder_in_the_place_of_ours(store):
    store.write(TOKENS)
    assert not mode(store.file.parent.parent) & 0o022


@pytest.mark.usefixtures("open_umask")
def test_the_file_is_private_from_its_first_byte(store, monkeypatch):
    seen = []
    real = os.open

    def watched(path, flags, *more, **named):
        descriptor = real(path, flags, *more, **named)
        if flags & os.O_CREAT:
            about = os.fstat(descriptor)
            seen.append((stat.S_IMODE(about.st_mode), about.st_size, bool(flags & os.O_EXCL)))
        return descriptor

    monkeypatch.setattr(os, "open", watched)
    store.write(TOKENS)
    assert set(seen) == {(0o600, 0, True)}


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(store, monkeypatch):
    store.write(TOKENS)

    def broken(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(KeyboardInterrupt):
        store.write(TokenSet("newer"))
    monkeypatch.undo()
    assert store.read() == TOKENS
    assert not [f for f in store.file.parent.iterdir() if f.name.startswith(".")]


def test_the_file_is_replaced_not_rewritten(store):
    store.write(TOKENS)
    with store.file.open(encoding="utf-8") as held:
        store.write(TokenSet("newer"))
        assert json.load(held)["access_token"] == "s3cr3t-access"
    assert store.read().access_token == "newer"


BROKEN = [
    b"",
    b"{",
    b"null",
    b"5",
    b'"x"',
    b"[]",
    b"{}",
    b'{"refresh_token": "s3cr3t"}',
    b"\xff\xfe",
    b'{"access_token": null}',
    b'{"access_token": ""}',
    b'{"access_token": 5}',
    b'{"access_token": "s3cr3t", "expires_in": "soon"}',
    b'{"access_token": "s3cr3t", "refresh_token": {"a": 1}}',
    b"[" * 200_000,
]


@pytest.mark.parametrize("content", BROKEN, ids=range(len(BROKEN)))
def test_a_broken_file_is_an_auth_error(content, store):
    store.write(TOKENS)
    store.file.write_bytes(content)
    with pytest.raises(AuthError) as caught:
        store.read()
    assert caught.value.where == str(store.file)
    assert caught.value.hint
    assert "s3cr3t" not in f"{caught.value} {vars(caught.value)}"


def test_a_folder_in_place_of_the_file_is_an_auth_error(store):
    store.file.mkdir(parents=True)
    with pytest.raises(AuthError):
        store.read()


def test_keys_that_we_do_not_know_are_passed_over(store):
    store.write(TOKENS)
    values = json.loads(store.file.read_text())
    store.file.write_text(json.dumps({**values, "id_token": "x"}))
    assert store.read() == TOKENS


@pytest.mark.parametrize("action", ["write", "lock"])
def test_a_place_that_can_not_be_written_is_our_error(action, tmp_path):
    (tmp_path / "file").write_text("")
    store = Store(Settings(config_dir=tmp_path / "file" / "config"))
    with pytest.raises(CtaflowsError):  # noqa: PT012
        if action == "write":
            store.write(TOKENS)
        else:
            with store.lock():
                pass


def test_a_full_disk_is_our_error(store, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CtaflowsError):
        store.write(TOKENS)


def test_no_token_in_the_repr():
    assert "s3cr3t" not in f"{TOKENS!r} {TOKENS} {[TOKENS]}"


@pytest.mark.parametrize(
    ("tokens", "expires_at", "remaining_s"),
    [
        (TOKENS, 1300.0, 290.0),
        (TokenSet("x"), None, float("inf")),
        (TokenSet("x", expires_in=0, obtained_at=1000.0), 1000.0, -10.0),
    ],
)
def test_the_life_of_stored_tokens(tokens, expires_at, remaining_s):
    assert tokens.expires_at == expires_at
    assert tokens.remaining_s(now=1010.0) == remaining_s
