"""Settings: flags > environment > block or profile in config.toml > built-in profile > default.

Environment and files are read by `load`, not when this module is imported.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import resource
import tomllib
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from ctaflows.errors import UsageError, register_secret

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ctaflows.block_profiles import BlockProfile

DEFAULT_PROFILE = "cscs"

#: Services of the JupyterHub platform, which ctadata uses.
PLATFORM_URL = "https://platform.cta.cscs.ch/services/"
#: The download service's own default (cta-epfl/downloadservice @ 6c84bcf, default_chunk_size).
CHUNK_BYTES = 10 << 20
#: Where the documentation is published; a reserved name (RFC 2606) until it has an address.
DOCS_URL = "https://ctaflows.example"

#: Built-in profiles: the production and the development instance of the Swiss data centre, and the
#: download service of its JupyterHub platform.
PROFILES: dict[str, dict[str, Any]] = {
    "cscs": {},
    "cscs-dev": {"door_url": "https://dcache-dev.ctaodc.ch:2880", "client_id": "dcache-dev"},
    "platform": {"storage": "download-service"},
}


@dataclass(frozen=True)
class Settings:
    """The values of all settings.

    Attributes
    ----------
    profile : str
        Name of the profile.
    config_dir : Path
        Folder of config.toml, of stored tokens and of journals.
    storage : str
        What kind of storage is asked: ``webdav``, at ``door_url`` with a token of the issuer's, or
        ``download-service``, at ``service_url`` with the hub's token.
    door_url : str
        URL of the WebDAV door, without a trailing slash: scheme, host and port, and perhaps a path,
        to which all remote paths are relative (such as that of a StoRM storage area).
    service_url : str
        URL of a JupyterHub platform's download service, without a trailing slash; ``CTADS_URL`` in
        the environment, as in ctadata.
    hub_token : str or None
        The hub's token; ``JUPYTERHUB_API_TOKEN`` in the environment. Never shown.
    chunk_bytes : int
        Bytes that the download service reads from the storage behind it at once.
    issuer_url : str
        URL of the OpenID Connect issuer, without a trailing slash.
    client_id : str
        OAuth 2.0 client.
    audience : str or None
        Audience to request tokens for, where the issuer needs it (WLCG profile, ``audience``).
    client_secret, client_secret_file : str or None, Path or None
        The client's secret, or the file that has it. The secret is not shown by ``repr``.
    ca_file : Path or None
        CA bundle (file) or hashed directory; None means the system's.
    night_path : str
        Remote path of a night, with ``{date}`` and ``{version}`` to be filled in.
    transfers : int
        Greatest number of requests of transfers on their way at once, of which there are as many as
        bring more; `load` gives no more than the process may have open files and memory for
        (``ulimit -n`` and ``-v``).
    listings : int
        Greatest number of directories listed concurrently: each takes time in a door's name space,
        and memory.
    retry_s : float
        For how long what fails is tried again without progress, seconds: services of dCache that
        restart take 20 to 40 s (seen with 11.2.5). Pauses that a server asks for count.
    attempts : int or None
        Greatest number of tries in a row without progress; None for as many as ``retry_s`` allows.
    backoff_s : float
        First pause between tries, seconds; it doubles each time, with jitter.
    busy_s : float
        Longest pause after a 429 without Retry-After, seconds; the first is a second, which
        doubles. A dCache door blocks a client's IP for 20 s (webdav.properties,
        webdav.limits.error.*, dCache 12.1; seen with 11.2.5).
    connect_timeout_s : float
        Longest wait for a connection, seconds.
    stall_timeout_s : float
        Longest wait for the next bytes, seconds. A whole transfer has no time limit.
    listing_timeout_s : float
        Longest wait for the next bytes of a listing, seconds: a dCache door completes it before it
        sends the first byte (DefaultWebDavResponseHandler.java, Milton 2.7.3).
    token_source : str
        Where tokens are looked for: ``auto`` (WLCG token discovery, then our store, then ctadata's
        files and JupyterHub's variable), ``environment`` (only WLCG token discovery), ``store``
        (only our store), or ``block:NAME`` (a Prefect Secret block that `maintain-token` writes).
    fast_bytes : bool
        Without effect since 0.2: libcurl transfers all files.
    allow_http_pools : bool
        Follow redirects from https to http: bytes are then sent unencrypted; their checksum is
        compared all the same.
    allow_http_door : bool
        Send the token to a door of ``http://`` on another machine, where anybody on the way can
        read it.
    credentials : str or None
        CTACredentials block with the login. It is set only by a profile that is a block, since the
        login belongs to that block's issuer and client.
    origins : dict
        For each setting where its value came from: ``flag``, ``environment``, ``block``,
        ``config``, ``profile`` or ``default``.
    """

    profile: str = DEFAULT_PROFILE
    config_dir: Path = field(default_factory=lambda: Path.home() / ".config" / "ctaflows")
    storage: str = "webdav"
    door_url: str = "https://dcache.cta.cscs.ch:2880"
    service_url: str = f"{PLATFORM_URL}downloadservice"
    hub_token: str | None = field(default=None, repr=False)
    chunk_bytes: int = CHUNK_BYTES
    issuer_url: str = "https://keycloak.cta.cscs.ch/realms/master"
    client_id: str = "dcache-cta-cscs-ch-users"
    audience: str | None = None
    client_secret: str | None = field(default=None, repr=False)
    client_secret_file: Path | None = None
    ca_file: Path | None = None
    night_path: str = "cta/DL1/{date}/{version}"
    token_source: str = "auto"  # noqa: S105
    transfers: int = 32
    listings: int = 2
    retry_s: float = 180.0
    attempts: int | None = None
    backoff_s: float = 0.5
    busy_s: float = 20.0
    connect_timeout_s: float = 30.0
    stall_timeout_s: float = 60.0
    listing_timeout_s: float = 300.0
    fast_bytes: bool = True
    allow_http_pools: bool = False
    allow_http_door: bool = False
    credentials: str | None = None
    origins: dict[str, str] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        register_secret(self.client_secret)
        register_secret(self.hub_token)

    def replace(self, **changes: Any) -> Settings:
        """Return a copy with some values changed."""
        return dataclasses.replace(self, **changes)


_NOT_SET = ("profile", "credentials", "origins")
_FIELDS = {f.name: f for f in dataclasses.fields(Settings) if f.name not in _NOT_SET}
#: Environment variables that are named as in ctadata, not ``CTAFLOWS_`` and the setting.
_VARIABLES = {"service_url": "CTADS_URL", "hub_token": "JUPYTERHUB_API_TOKEN"}
_SECRETS = ("client_secret", "hub_token")
_STORAGES = ("webdav", "download-service")
_INTS = {"transfers": 1, "listings": 1, "attempts": 1, "chunk_bytes": 1}
_FLOATS = (
    "retry_s",
    "backoff_s",
    "busy_s",
    "connect_timeout_s",
    "stall_timeout_s",
    "listing_timeout_s",
)
#: 30 years in seconds; CPython counts waits in 64 bits of nanoseconds, 292 years.
_MOST = 1e9
_BOOLS = ("fast_bytes", "allow_http_pools", "allow_http_door")
_PATHS = ("config_dir", "client_secret_file", "ca_file")
_URLS = ("door_url", "service_url", "issuer_url")
#: Limit for blocks that name another block as their profile, lest one that names itself loop.
_MAX_BLOCKS = 8
_TOKEN_SOURCE = re.compile(r"auto|environment|store|block:[a-z0-9-]+")


_overrides: ContextVar[dict[str, Any]] = ContextVar("ctaflows_settings", default={})  # noqa: B039


@contextlib.contextmanager
def overridden(**flags: Any) -> Iterator[None]:
    """Let values win over environment and files, for all operations within.

    Parameters
    ----------
    **flags : Any
        Settings by name; those that are None do not count.

    Examples
    --------
    >>> with overridden(transfers=4):  # doctest: +SKIP
    ...     fetch_dir("cta/DL1/20241114/v0.1")
    """
    token = _overrides.set(_with(_overrides.get(), flags))
    try:
        yield
    finally:
        _overrides.reset(token)


def _with(values: dict[str, Any], flags: dict[str, Any]) -> dict[str, Any]:
    return values | {key: value for key, value in flags.items() if value is not None}


def load(profile: str | None = None, **flags: Any) -> Settings:
    """Return the settings, from flags, environment and files.

    Parameters
    ----------
    profile : str, optional
        Profile to use; by default ``CTAFLOWS_PROFILE``, then ``default_profile`` of config.toml,
        then ``cscs``. ``block:NAME`` is a CTAStorage block of Prefect, see `block_profiles`.
    **flags : Any
        Values that take precedence over all others; None is ignored.

    Returns
    -------
    Settings
        The values, each with its origin.

    Raises
    ------
    UsageError
        The profile does not exist, a value is invalid, or config.toml can't be read.
    NetworkError
        The profile is a block, and the Prefect server does not answer.
    """
    env = os.environ
    flags = _with(_overrides.get(), flags)
    where, said_by = _config_dir(flags, env)
    config_dir: Path = _converted("config_dir", where, said_by)
    config = _read_config(config_dir / "config.toml")
    name = (
        profile or env.get("CTAFLOWS_PROFILE") or config.get("default_profile") or DEFAULT_PROFILE
    )
    blocks: list[BlockProfile] = []  # each is the base of the next
    while name.startswith("block:") and len(blocks) < _MAX_BLOCKS:
        from ctaflows import block_profiles  # rarely used

        blocks.insert(0, block_profiles.read(name))
        name = blocks[0].base or config.get("default_profile") or DEFAULT_PROFILE
    layers = [
        ("environment", _general_ca(env)),
        ("profile", PROFILES.get(name, {})),
        ("config", _profile_table(config, name, config_dir / "config.toml")),
        *(("block", block.values) for block in blocks),
        ("environment", _from_environment(env)),
        *(("block", block.identity) for block in blocks),
        ("flag", flags),
    ]
    values, origins = _merged(layers)
    values["config_dir"], origins["config_dir"] = config_dir, said_by
    # stored tokens and secrets are named after the profile: those of the base profile are of
    # another login
    credentials = next((block.credentials for block in blocks[::-1] if block.credentials), None)
    if credentials:
        name = f"credentials:{credentials}"
    settings = Settings(profile=name, credentials=credentials, origins=origins, **values)
    return settings.replace(transfers=min(settings.transfers, _most_transfers()))


def check(key: str, value: Any) -> Any:
    """Return a setting's value, converted to the setting's type.

    Raises
    ------
    UsageError
        There is no such setting, or the value is invalid.
    """
    return _converted(key, value, "given")


#: What the system may limit, how much of it is used beside transfers, and by one.
_NEEDED = (
    # streams, pipes, a manifest, listings, modules; connections to a door and to a pool, two of
    # libcurl's own, a file, its journal
    (resource.RLIMIT_NOFILE, 20, 6),
    # address space, which batch systems limit by ``ulimit -v``: Python with its libraries,
    # listings, two threads (each a stack of 8 MiB and an arena of 64 MiB, glibc 2.36); a connection
    (resource.RLIMIT_AS, 350 << 20, 4 << 20),
)


def _most_transfers() -> int:
    """Return for how many transfers at once this process may have files and memory, at least 1."""
    most = int(_MOST)
    for kind, others, per_transfer in _NEEDED:
        limit, _ = resource.getrlimit(kind)
        if limit != resource.RLIM_INFINITY:
            most = min(most, (limit - others) // per_transfer)
    return max(1, most)


def _merged(
    layers: Sequence[tuple[str, Mapping[str, Any]]],
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the values of the last layer that has each, with their origins; None unsets one."""
    values: dict[str, Any] = {}
    origins = dict.fromkeys(_FIELDS, "default")
    for origin, layer in layers:
        for key, value in layer.items():
            if value is None:
                values.pop(key, None)
            else:
                values[key] = _converted(key, value, origin)
            origins[key] = origin
    return values, origins


def _config_dir(flags: dict[str, Any], env: os._Environ[str]) -> tuple[Any, str]:
    """Return the configuration's folder, and the origin of that value."""
    if flags.get("config_dir"):
        return flags["config_dir"], "flag"
    if env.get("CTAFLOWS_CONFIG_DIR"):
        return env["CTAFLOWS_CONFIG_DIR"], "environment"
    return f"{env.get('XDG_CONFIG_HOME') or '~/.config'}/ctaflows", "default"


def _read_config(file: Path) -> dict[str, Any]:
    what = "The configuration can't be read"
    hint = "Mend the file, or name another folder in CTAFLOWS_CONFIG_DIR."
    try:
        config = tomllib.loads(file.read_text(encoding="utf-8"))
        _check_shape(config)
    except (FileNotFoundError, NotADirectoryError):  # the home may be no folder, as a daemon's is
        return {}
    except OSError as why:
        from ctaflows.atomic_files import local_error  # seldom met

        raise local_error(why, file, what, hint=hint) from None
    except (ValueError, RecursionError) as why:
        raise UsageError(what, where=str(file), said=str(why), hint=hint) from None
    return config


def _check_shape(config: dict[str, Any]) -> None:
    if not isinstance(config.get("default_profile", ""), str):
        raise ValueError("default_profile is no text")
    tables = config.get("profiles", {})
    if not isinstance(tables, dict) or not all(isinstance(t, dict) for t in tables.values()):
        raise ValueError("a profile is a table: [profiles.NAME]")


def _profile_table(config: dict[str, Any], name: str, file: Path) -> dict[str, Any]:
    tables = config.get("profiles", {})
    if name not in tables and name not in PROFILES:
        known = ", ".join(sorted({*tables, *PROFILES}))
        raise UsageError(
            f"There is no profile “{name}”", where=str(file), hint=f"Known profiles: {known}."
        )
    return dict(tables.get(name, {}))


def _from_environment(env: os._Environ[str]) -> dict[str, str]:
    return {key: env[variable(key)] for key in _FIELDS if env.get(variable(key))}


def variable(key: str) -> str:
    """Return the name of the environment variable for a setting."""
    return _VARIABLES.get(key, f"CTAFLOWS_{key.upper()}")


def _general_ca(env: os._Environ[str]) -> dict[str, str]:
    """Return the CAs that are set for all programs, with less precedence than a profile's."""
    named = env.get("SSL_CERT_FILE") or env.get("X509_CERT_DIR")
    return {"ca_file": named} if named else {}


def _converted(key: str, value: Any, origin: str) -> Any:
    """Return a value converted to the setting's type, or raise UsageError."""
    shown = variable(key) if origin == "environment" else key
    if key not in _FIELDS:
        known = ", ".join(sorted(_FIELDS))
        raise UsageError(f"There is no setting “{key}” ({origin})", hint=f"Settings: {known}.")
    try:
        return _typed(key, value)
    except ValueError as why:
        given = "what is given" if key in _SECRETS else f"“{value}”"
        raise UsageError(
            f"{shown} can't be {given} ({origin})", hint=f"It must be {why}."
        ) from None


def _typed(key: str, value: Any) -> Any:
    if key in _INTS:
        return _number(value, int, _INTS[key])
    if key in _FLOATS:
        return _number(value, float, 0.0)
    if key in _BOOLS:
        return _boolean(value)
    if not isinstance(value, str | os.PathLike):
        raise ValueError("a text")
    if key in _PATHS:
        return _path(value)
    if key in _URLS:
        return _url(str(value).strip())
    if key == "storage" and value not in _STORAGES:
        raise ValueError(" or ".join(_STORAGES))
    if key == "hub_token":
        return str(value).strip() or None
    if key == "token_source" and not _TOKEN_SOURCE.fullmatch(str(value)):
        raise ValueError("auto, environment, store, or block:NAME of a Prefect block")
    return str(value)


def _number(value: Any, kind: type[Any], least: float) -> Any:
    try:
        number = None if isinstance(value, bool) else kind(value)
        if number is not None and not isinstance(value, str) and number != value:
            number = None  # fractions are not cut off
    except (TypeError, ValueError, OverflowError):
        number = None
    if number is None or not least <= number <= _MOST:
        kind_of = "a whole" if kind is int else "a"
        raise ValueError(f"{kind_of} number of at least {least} and at most {_MOST:g}")
    return number


def _path(value: str | os.PathLike[str]) -> Path:
    try:
        return Path(value).expanduser()
    except RuntimeError:
        raise ValueError("a path, and ~ somebody who has a home") from None


def _url(text: str) -> str:
    try:
        parts = urlsplit(text)
        valid = parts.scheme in ("https", "http") and bool(parts.hostname) and parts.port != 0
        valid = valid and not {".", ".."} & {*unquote(parts.path).split("/")}
    except ValueError:
        valid = False
    if not valid or any(c in "@?#" or c.isspace() or not c.isprintable() for c in text):
        raise ValueError(
            "an address such as https://host:port or https://host:port/path, without user, query "
            "or fragment"
        )
    return text.rstrip("/")


def _boolean(value: Any) -> bool:
    words = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
    try:
        return words[str(value).lower()]
    except KeyError:
        raise ValueError("true or false") from None
