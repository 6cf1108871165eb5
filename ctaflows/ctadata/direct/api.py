"""The client of the direct API, on the same operations as everything else."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from ctaflows import settings as _settings
from ctaflows import tasks
from ctaflows.auth import secret
from ctaflows.auth.oidc import GrantError
from ctaflows.auth.renewal import TokenProvider
from ctaflows.ctadata.entries import Name, RemotePath, remote_path
from ctaflows.ctadata.errors import (
    ClientSecretNotFound,
    DirectApiError,
    StorageException,
    TokenError,
    TokenExpiredError,
    translated,
)
from ctaflows.ctadata.files import FileClient
from ctaflows.errors import printable

if TYPE_CHECKING:
    from ctaflows.auth.oidc import DeviceLogin
    from ctaflows.settings import Settings

__all__ = [
    "APIClient",
    "ClientSecretNotFound",
    "DirectApiError",
    "StorageException",
    "TokenError",
    "TokenExpiredError",
]

DEV_PROFILE = "cscs-dev"


class APIClient(FileClient):
    """A dCache door.

    Parameters
    ----------
    dev_instance : bool
        The development instance's (profile ``cscs-dev``), else that of the profile in use.
    """

    def __init__(self, dev_instance: bool = False) -> None:
        self.profile = DEV_PROFILE if dev_instance else None

    @property
    def settings(self) -> Settings:
        """Settings of the door and its issuer."""
        return _settings.load(self.profile)

    @property
    @translated
    def token(self) -> str:
        """A token that is valid now."""
        return TokenProvider(self.settings).token()

    @property
    @translated
    def secret(self) -> str:
        """The OpenID Connect client's secret; one that is set is kept, for us alone."""
        found = secret.find(self.settings)
        if found is None:
            raise ClientSecretNotFound(
                "Client secret is not provided and not found",
                where=str(secret.kept_file(self.settings)),
                hint="Ask the data centre for it, then start the agent anew.",
            )
        return found

    @secret.setter
    def secret(self, value: str) -> None:
        secret.keep(self.settings, value)

    # -- files -------------------------------------------------------------------------------

    def profile_name(self) -> str | None:
        """Return what tasks take as ``profile``."""
        return self.profile

    @translated
    def list_dir(self, path: RemotePath, recursive: bool = False, n_threads: int = 2) -> list[Name]:
        """List a directory; see `ctaflows.ctadata.direct.list_dir`."""
        where = remote_path(path)
        if recursive:
            below = self._below(where)
            return sorted(Name(entry.path.lstrip("/"), entry.path) for entry in below)
        return [
            Name(entry.name, entry.path) for entry in tasks.list_dir(where, profile=self.profile)
        ]

    # -- token -------------------------------------------------------------------------------

    @translated
    def print_token(self) -> None:
        """Print the token, and on stderr how long it is good."""
        provider = TokenProvider(self.settings)
        token, info = provider.token(), provider.info()
        print(token)  # noqa: T201
        if info.expires_at is not None:
            print("valid till", info.expires_at.astimezone(), file=sys.stderr)  # noqa: T201

    @translated
    def init_agent(self) -> None:
        """Let a person log in, unless somebody has and it still holds."""
        log_in_if_needed(self.settings)

    @translated
    def start_agent_daemon(self) -> None:
        """Keep the token warm; see `ctaflows.ctadata.direct.start_agent_daemon`."""
        from ctaflows.auth import agent

        self.init_agent()
        agent.start(self.settings)

    @translated
    def request_stop_agent(self) -> bool:
        """Stop the agent; False if there was none."""
        from ctaflows.auth import agent

        return agent.stop(self.settings)


api_client = APIClient()


# -- login by a person -----------------------------------------------------------------------------
#
# A login by a person, where the agent needs one.


def log_in_if_needed(settings: Settings) -> bool:
    """Log in with a browser anywhere, unless a login that can be renewed is stored.

    Returns
    -------
    bool
        Was it needed?

    Raises
    ------
    ClientSecretNotFound
        The issuer wants the client's secret, and nobody gave one.
    """
    provider = TokenProvider(settings)
    stored = provider.store.read()
    if stored is not None and stored.refresh_token is not None and stored.refused is None:
        return False
    try:
        provider.log_in(_show)
    except GrantError as why:
        if "client" in why.code and secret.find(settings) is None:
            raise ClientSecretNotFound.of(
                why, hint="Give the client's secret: cta-data start-agent asks for it with -s."
            ) from why
        raise
    return True


def _show(login: DeviceLogin) -> None:
    address = printable(login.uri_complete or login.uri)
    lines = (
        "To log in, open this address in a browser on any device:",
        f"    {address}",
        f"and compare, or type, the code {printable(login.user_code)}",
    )
    print("\n".join(lines), file=sys.stderr, flush=True)  # noqa: T201
