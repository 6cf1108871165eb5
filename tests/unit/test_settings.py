"""Settings: which layer wins, where each value came from, and what is refused."""

import itertools
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from ctaflows.block_profiles import BlockProfile, word_for
from ctaflows.errors import UsageError
from ctaflows.settings import PROFILES, Settings, load, variable

DEFAULT_DOOR = "https://dcache.cta.cscs.ch:2880"
DEV_DOOR = "https://dcache-dev.ctaodc.ch:2880"


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """The configuration folder in use."""
    path = tmp_path / "config"
    path.mkdir()
    monkeypatch.setenv("CTAFLOWS_CONFIG_DIR", str(path))
    return path


@pytest.fixture
def config(folder):
    """Write config.toml."""

    def write(text):
        (folder / "config.toml").write_text(text, encoding="utf-8")

    return write


def test_defaults(tmp_path):
    settings = load()
    assert settings == Settings(config_dir=tmp_path / "home" / ".config" / "ctaflows")
    assert settings.door_url == DEFAULT_DOOR
    assert settings.profile == "cscs"
    assert set(settings.origins.values()) == {"default"}
    assert set(settings.origins) == set(Settings.__dataclass_fields__) - {
        "profile",
        "credentials",
        "origins",
    }


LAYERS = ["flag", "environment", "config", "profile"]
VALUES = {
    "flag": "https://flag:1",
    "environment": "https://environment:2",
    "config": "https://config:3",
    "profile": DEV_DOOR,
    "default": DEFAULT_DOOR,
}


@pytest.mark.parametrize(
    "present", [c for n in range(5) for c in itertools.combinations(LAYERS, n)], ids="-".join
)
def test_the_nearest_layer_wins(present, config, monkeypatch):
    profile = "cscs-dev" if "profile" in present else "cscs"
    if "config" in present:
        config(f'[profiles.{profile}]\ndoor_url = "{VALUES["config"]}"\n')
    if "environment" in present:
        monkeypatch.setenv("CTAFLOWS_DOOR_URL", VALUES["environment"])
    settings = load(profile, door_url=VALUES["flag"] if "flag" in present else None)
    winner = next((layer for layer in LAYERS if layer in present), "default")
    assert settings.door_url == VALUES[winner]
    assert settings.origins["door_url"] == winner


CA_LAYERS = {
    "flag": "flag",
    "CTAFLOWS_CA_FILE": "environment",
    "config": "config",
    "SSL_CERT_FILE": "environment",
    "X509_CERT_DIR": "environment",
}


@pytest.mark.parametrize(
    "present", [c for n in range(6) for c in itertools.combinations(CA_LAYERS, n)], ids="-".join
)
def test_the_ca_that_is_set_for_all_programs_is_the_farthest(present, config, monkeypatch):
    if "config" in present:
        config('[profiles.cscs]\nca_file = "/ca/config"\n')
    for name in set(present) - {"flag", "config"}:
        monkeypatch.setenv(name, f"/ca/{name}")
    settings = load(ca_file="/ca/flag" if "flag" in present else None)
    winner = next((layer for layer in CA_LAYERS if layer in present), None)
    assert settings.ca_file == (Path(f"/ca/{winner}") if winner else None)
    assert settings.origins["ca_file"] == (CA_LAYERS[winner] if winner else "default")


def test_general_ca_variables_set_nothing_else(monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", "/ca")
    origins = load().origins
    assert [k for k, v in origins.items() if v != "default"] == ["ca_file"]


ENVIRONMENT = {
    "audience": ("https://door.example.org", "https://door.example.org"),
    "client_id": ("me", "me"),
    "client_secret": ("s3cr3t", "s3cr3t"),
    "client_secret_file": ("/run/secret", Path("/run/secret")),
    "issuer_url": ("https://issuer/realms/x/", "https://issuer/realms/x"),
    "door_url": ("https://door:1/", "https://door:1"),
    "ca_file": ("/ca", Path("/ca")),
    "night_path": ("x/{date}", "x/{date}"),
    "token_source": ("store", "store"),
    "storage": ("download-service", "download-service"),
    "service_url": ("https://hub/services/ds/", "https://hub/services/ds"),
    "hub_token": (" abc ", "abc"),
    "chunk_bytes": ("4096", 4096),
    "transfers": ("3", 3),
    "listings": ("1", 1),
    "retry_s": ("30", 30.0),
    "attempts": ("1", 1),
    "backoff_s": ("0", 0.0),
    "busy_s": ("0.25", 0.25),
    "connect_timeout_s": ("2.5", 2.5),
    "stall_timeout_s": ("1e2", 100.0),
    "listing_timeout_s": ("1e3", 1000.0),
    "fast_bytes": ("false", False),
    "allow_http_pools": ("true", True),
    "allow_http_door": ("true", True),
}


@pytest.mark.parametrize("key", ENVIRONMENT)
def test_each_setting_is_read_from_the_environment(key, monkeypatch):
    text, value = ENVIRONMENT[key]
    monkeypatch.setenv(variable(key), text)
    settings = load()
    assert getattr(settings, key) == value
    assert type(getattr(settings, key)) is type(value)
    assert settings.origins[key] == "environment"
    assert sum(origin != "default" for origin in settings.origins.values()) == 1


def test_the_table_has_every_setting():
    assert set(ENVIRONMENT) == set(Settings.__dataclass_fields__) - {
        "profile",
        "credentials",
        "origins",
        "config_dir",
    }


def test_an_empty_variable_is_no_value(monkeypatch):
    for key in ENVIRONMENT:
        monkeypatch.setenv(variable(key), "")
    for name in ("CTAFLOWS_PROFILE", "SSL_CERT_FILE", "X509_CERT_DIR"):
        monkeypatch.setenv(name, "")
    assert load() == Settings(config_dir=load().config_dir)


def test_a_path_may_begin_with_the_home(monkeypatch, tmp_path):
    monkeypatch.setenv("CTAFLOWS_CA_FILE", "~/ca.pem")
    assert load().ca_file == tmp_path / "home" / "ca.pem"


# where the configuration lies


def test_config_dir_from_flag_environment_xdg_and_home(monkeypatch, tmp_path):
    assert load(config_dir=str(tmp_path / "a")).config_dir == tmp_path / "a"
    monkeypatch.setenv("CTAFLOWS_CONFIG_DIR", str(tmp_path / "b"))
    assert load().config_dir == tmp_path / "b"
    assert load(config_dir=tmp_path / "a").config_dir == tmp_path / "a"
    monkeypatch.delenv("CTAFLOWS_CONFIG_DIR")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "c"))
    assert load().config_dir == tmp_path / "c" / "ctaflows"
    monkeypatch.delenv("XDG_CONFIG_HOME")
    assert load().config_dir == tmp_path / "home" / ".config" / "ctaflows"


def test_the_origin_of_config_dir(monkeypatch, tmp_path):
    assert load(config_dir=tmp_path).origins["config_dir"] == "flag"
    monkeypatch.setenv("CTAFLOWS_CONFIG_DIR", str(tmp_path))
    assert load().origins["config_dir"] == "environment"


def test_a_profile_can_not_move_the_folder_it_stands_in(folder, config):
    config('[profiles.cscs]\nconfig_dir = "/elsewhere"\n')
    try:
        settings = load()
    except UsageError as error:
        assert "config_dir" in str(error)
    else:
        assert settings.config_dir == folder
        assert settings.origins["config_dir"] == "environment"


# profiles

TWO_PROFILES = """
default_profile = "lab"
[profiles.lab]
door_url = "https://lab:1"
transfers = 2
[profiles.cscs-dev]
client_id = "mine"
"""


def test_the_profile_of_the_platform(monkeypatch):
    settings = load("platform")
    assert settings.storage == "download-service"
    assert settings.service_url == "https://platform.cta.cscs.ch/services/downloadservice"
    assert load().storage == "webdav"
    monkeypatch.setenv("CTADS_URL", "https://hub.example/services/downloadservice/")
    assert load("platform").service_url == "https://hub.example/services/downloadservice"
    monkeypatch.setenv("CTADS_URL", "no address")
    with pytest.raises(UsageError, match="CTADS_URL can't be “no address”"):
        load("platform")


@pytest.mark.parametrize("key", ["hub_token", "client_secret"])
def test_a_secret_is_in_no_text(key, config):
    config(f'[profiles.cscs]\n{key} = "a-secret"\n')
    assert getattr(load(), key) == "a-secret"
    assert "a-secret" not in repr(load())
    config(f"[profiles.cscs]\n{key} = 271828\n")
    with pytest.raises(UsageError, match=key) as caught:
        load()
    assert "271828" not in f"{caught.value} {caught.value.hint}"


class Block:
    """What stands as a profile in this process."""

    def __init__(self, base=None, **values):
        self.said = BlockProfile(base=base, values=values, identity={"client_id": f"of {base}"})

    def as_profile(self):
        return self.said


def test_a_block_may_be_the_base_of_another(config):
    config(TWO_PROFILES)
    lower = Block("lab", transfers=3, listings=3)
    upper = Block(word_for(lower, "cta-storage/lower", None), listings=4)
    settings = load(word_for(upper, "cta-storage/upper", None))
    assert (settings.profile, settings.door_url) == ("lab", "https://lab:1")
    assert (settings.transfers, settings.listings) == (3, 4)
    assert settings.client_id.startswith("of block:"), "the upper one wins"


def test_a_block_that_is_its_own_base():
    block = Block()
    word = word_for(block, "cta-storage/round", None)
    block.said = BlockProfile(base=word)
    with pytest.raises(UsageError, match="no profile"):
        load(word)


def test_default_profile(config, monkeypatch):
    config(TWO_PROFILES)
    assert (load().profile, load().door_url, load().transfers) == ("lab", "https://lab:1", 2)
    monkeypatch.setenv("CTAFLOWS_PROFILE", "cscs-dev")
    assert load().profile == "cscs-dev"
    assert load("cscs").profile == "cscs"
    assert load("cscs").door_url == DEFAULT_DOOR


def test_a_built_in_profile_can_be_changed_in_part(config):
    config(TWO_PROFILES)
    settings = load("cscs-dev")
    assert (settings.door_url, settings.client_id) == (DEV_DOOR, "mine")
    assert settings.origins["door_url"] == "profile"
    assert settings.origins["client_id"] == "config"
    assert PROFILES["cscs-dev"]["client_id"] == "dcache-dev"


@pytest.mark.parametrize("how", ["argument", "CTAFLOWS_PROFILE", "default_profile"])
def test_an_unknown_profile_is_named_and_so_are_the_known_ones(how, config, monkeypatch):
    config('default_profile = "nowhere"\n' if how == "default_profile" else "[profiles.lab]\n")
    if how == "CTAFLOWS_PROFILE":
        monkeypatch.setenv(how, "nowhere")
    with pytest.raises(UsageError, match="nowhere") as caught:
        load("nowhere" if how == "argument" else None)
    assert "cscs-dev" in caught.value.hint
    if how != "default_profile":
        assert "lab" in caught.value.hint


# what is refused

BAD = [
    ("transfers", "0"),
    ("transfers", "-1"),
    ("transfers", "many"),
    ("transfers", "1.5"),
    ("transfers", "9" * 5000),
    ("attempts", "0"),
    ("attempts", "nan"),
    ("backoff_s", "-0.1"),
    ("backoff_s", "nan"),
    ("backoff_s", "inf"),
    ("connect_timeout_s", "1e300"),
    ("attempts", "1000000000001"),
    ("backoff_s", "1e999"),
    ("busy_s", "soon"),
    ("connect_timeout_s", "-1"),
    ("stall_timeout_s", "60 s"),
    ("door_url", "dcache.cta.cscs.ch:2880"),
    ("door_url", "ftp://door"),
    ("door_url", "davs://door"),
    ("door_url", "https://"),
    ("door_url", "https:///path"),
    ("door_url", "https://door:0"),
    ("door_url", "https://door:99999"),
    ("door_url", "https://door:port"),
    ("door_url", "https://[::1"),
    ("door_url", "https://user@door"),
    ("door_url", "https://user:pw@door"),
    ("door_url", "https://:pw@door"),
    ("door_url", "https://door?x=1"),
    ("door_url", "https://door?"),
    ("door_url", "https://door#there"),
    ("door_url", "https://door/cta/../other"),
    ("door_url", "https://door/cta/%2e%2e"),
    ("issuer_url", "keycloak"),
    ("token_source", "file"),
    ("token_source", "AUTO"),
    ("allow_http_pools", "maybe"),
    ("allow_http_pools", "2"),
]


@pytest.mark.parametrize(("key", "value"), BAD)
def test_a_bad_value_is_refused_and_named(key, value, monkeypatch, config):
    monkeypatch.setenv(f"CTAFLOWS_{key.upper()}", value)
    with pytest.raises(UsageError) as caught:
        load()
    assert f"CTAFLOWS_{key.upper()}" in str(caught.value)
    assert "environment" in str(caught.value)
    assert caught.value.hint.startswith("It must be ")
    monkeypatch.delenv(f"CTAFLOWS_{key.upper()}")
    with pytest.raises(UsageError, match=key) as caught:
        load(**{key: value})
    assert "(flag)" in str(caught.value)
    config(f'[profiles.cscs]\n{key} = "{value}"\n')
    with pytest.raises(UsageError, match=key) as caught:
        load()
    assert "(config)" in str(caught.value)


@pytest.mark.parametrize("value", [" https://door:1", "https://door:1\n", "https://do\tor:1"])
def test_an_address_keeps_no_white_space(value, monkeypatch):
    # urlsplit ignores it, the HTTP library does not
    monkeypatch.setenv("CTAFLOWS_DOOR_URL", value)
    try:
        url = load().door_url
    except UsageError:
        return
    assert url == "https://door:1"


@pytest.mark.parametrize("where", ["environment", "flag", "config"])
def test_the_home_of_nobody_is_a_usage_error(where, monkeypatch, config):
    value = "~no-such-user-here/ca.pem"
    if where == "environment":
        monkeypatch.setenv("CTAFLOWS_CA_FILE", value)
    elif where == "config":
        config(f'[profiles.cscs]\nca_file = "{value}"\n')
    with pytest.raises(UsageError, match=r"(?i)ca_file"):
        load(**({"ca_file": value} if where == "flag" else {}))


def test_the_config_dir_of_nobody_is_a_usage_error(monkeypatch):
    monkeypatch.setenv("CTAFLOWS_CONFIG_DIR", "~no-such-user-here/x")
    with pytest.raises(UsageError):
        load()


@pytest.mark.parametrize("key", ["door", "DOOR_URL", "profile", "origins", ""])
def test_an_unknown_setting_is_refused_and_the_known_ones_are_named(key, config):
    config(f'[profiles.cscs]\n"{key}" = "x"\n')
    with pytest.raises(UsageError, match=f"“{key}”") as caught:
        load()
    assert "door_url" in caught.value.hint


def test_an_unknown_flag_is_refused():
    with pytest.raises(UsageError, match="doors"):
        load(doors="x")


@pytest.mark.parametrize(
    "text",
    [
        "[profiles.cscs",
        "door_url = https://door",
        "a = 1\na = 2",
        "[profiles.cscs]\ntransfers = ",
        "\0",
    ],
)
def test_broken_toml_names_the_file(text, folder, config):
    config(text)
    with pytest.raises(UsageError) as caught:
        load()
    assert caught.value.where == str(folder / "config.toml")
    assert "CTAFLOWS_CONFIG_DIR" in caught.value.hint


def test_a_file_that_is_no_text_names_the_file(folder):
    (folder / "config.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match=r"config\.toml"):
        load()


def test_a_folder_in_place_of_the_file_names_it(folder):
    (folder / "config.toml").mkdir()
    with pytest.raises(UsageError, match=r"config\.toml"):
        load()


@pytest.mark.parametrize(
    "text",
    [
        "default_profile = 5",
        'default_profile = ["cscs"]',
        "profiles = 3",
        'profiles = ["cscs"]',
        "[profiles]\ncscs = 3",
        '[profiles]\ncscs = "x"',
        "[[profiles.cscs]]\ntransfers = 2",
        "[profiles.cscs]\nca_file = 5",
        '[profiles.cscs]\nca_file = ["/ca"]',
        '[profiles.cscs]\nclient_id = ["me"]',
        "[profiles.cscs]\ntransfers = 2.5",
        "[profiles.cscs]\ntransfers = true",
        "[profiles.cscs]\ndoor_url = 5",
        "[profiles.cscs]\ntoken_source = []",
        "[profiles.cscs.transfers]\nx = 1",
    ],
)
def test_toml_of_another_shape_is_a_usage_error(text, config):
    config(text)
    with pytest.raises(UsageError):
        load()


# secrets


def test_the_secret_is_never_shown():
    settings = load(client_secret="s3cr3t-s3cr3t")
    assert settings.client_secret == "s3cr3t-s3cr3t"
    for text in (repr(settings), str(settings), f"{settings}", repr(settings.origins)):
        assert "s3cr3t-s3cr3t" not in text


@pytest.mark.parametrize("url", ["https://me:hunter22@door", "https://me:hunt@hunter22@door"])
def test_a_password_in_an_address_is_not_repeated(url, monkeypatch):
    monkeypatch.setenv("CTAFLOWS_DOOR_URL", url)
    with pytest.raises(UsageError) as caught:
        load()
    assert "hunter22" not in f"{caught.value} {caught.value.hint}"


def test_broken_toml_does_not_repeat_a_secret(config):
    config('[profiles.cscs]\nclient_secret = "s3cr3t-s3cr3t\n')
    with pytest.raises(UsageError) as caught:
        load()
    assert "s3cr3t-s3cr3t" not in str(caught.value)


def test_replace_gives_a_copy():
    settings = load()
    assert settings.replace(transfers=1).transfers == 1
    assert settings.transfers == 32


NO_IO = """
import sys
import contextvars, dataclasses, importlib.util, os, pathlib
import tomllib, urllib.parse, typing, ctaflows.errors
seen = []
def hook(event, args):
    if event == "open" and "settings" not in str(args[0]):
        seen.append((event, args))
    elif event.startswith(("os.putenv", "os.listdir", "socket", "subprocess", "os.mkdir")):
        if event != "os.listdir" or "ctaflows" not in str(args[0]):
            seen.append((event, args))
class Env(dict):
    def __getitem__(self, key): seen.append(("env", key)); raise KeyError(key)
    def get(self, key, default=None): seen.append(("env", key)); return default
sys.addaudithook(hook)
real, os.environ = os.environ, Env()
import ctaflows.settings
os.environ = real
assert not seen, seen
"""


def test_the_import_reads_nothing():
    done = subprocess.run(
        [sys.executable, "-c", NO_IO], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr


NONE = resource.RLIM_INFINITY


@pytest.mark.parametrize(
    ("files", "memory", "wanted", "given"),
    [
        (1024, NONE, 8, 8),
        (64, NONE, 8, 7),
        (32, NONE, 8, 2),
        (32, NONE, 1, 1),
        (8, NONE, 8, 1),
        (NONE, NONE, 8, 8),
        (NONE, 300_000 << 10, 8, 1),
        (NONE, 360 << 20, 8, 2),
        (NONE, 500 << 20, 32, 32),
        (64, 4 << 30, 100, 7),
    ],
)
def test_no_more_transfers_than_there_may_be_files_and_memory_for(
    monkeypatch, files, memory, wanted, given
):
    limits = {resource.RLIMIT_NOFILE: files, resource.RLIMIT_AS: memory}
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (limits[kind],) * 2)
    assert load(transfers=wanted).transfers == given
