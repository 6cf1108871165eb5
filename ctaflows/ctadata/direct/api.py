"""The client of the direct API, on the same operations as everything else."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from ctaflows.errors import PartialFailure, printable
from ctaflows.model import Report
from ctaflows.storage.connect import connect
from ctaflows.storage.namespace import refuse_undescribed
from ctaflows.storage.walk import walk

if TYPE_CHECKING:
    import os

    from ctaflows.auth.oidc import DeviceLogin
    from ctaflows.model import Transfer
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


class APIClient:
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
        from ctaflows.auth.renewal import TokenProvider

        return TokenProvider(self.settings).token()

    @property
    @translated
    def secret(self) -> str:
        """The OpenID Connect client's secret; one that is set is kept, for us alone."""
        from ctaflows.auth import secret

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
        from ctaflows.auth import secret

        secret.keep(self.settings, value)

    # -- files -------------------------------------------------------------------------------

    @translated
    def list_dir(self, path: RemotePath, recursive: bool = False, n_threads: int = 2) -> list[Name]:
        """List a directory; see `ctaflows.ctadata.direct.list_dir`."""
        where = remote_path(path)
        if not recursive:
            found = tasks.list_dir(where, profile=self.profile)
            return [Name(entry.name, entry.path) for entry in found]
        below = list(walk(connect(self.profile), where))
        refuse_undescribed(below)
        return sorted(Name(entry.path.lstrip("/"), entry.path) for entry in below)

    @translated
    def fetch_and_save_file(
        self, path: RemotePath, save_to_fn: str | os.PathLike[str] | None = None
    ) -> int:
        """Fetch a file; see `ctaflows.ctadata.direct.fetch_and_save_file`."""
        done = tasks.fetch_file(remote_path(path), save_to_fn or ".", profile=self.profile)
        return done.size_bytes or 0

    @translated
    def fetch_and_save_file_or_dir(self, path: RemotePath, recursive: bool = False) -> int:
        """Fetch a file or directory; see `ctaflows.ctadata.direct.fetch_and_save_file_or_dir`."""
        report = self.fetch(path, recursive=recursive)
        if report.failed:
            raise PartialFailure.of(report)
        return sum(done.size_bytes or 0 for done in report.transfers)

    @translated
    def fetch(self, path: RemotePath, *, recursive: bool = False) -> Report:
        """Fetch a file to its name, or a directory's files below its name, here."""
        where = remote_path(path)
        entry = tasks.stat(where, profile=self.profile)
        if not recursive or not entry.is_dir:
            done = tasks.fetch_file(entry, ".", profile=self.profile)
            return Report((done,), done.seconds)
        try:
            return tasks.fetch_dir(entry.path, ".", profile=self.profile)
        except PartialFailure as why:
            if not isinstance(why.report, Report):
                raise
            return why.report

    @translated
    def upload_file(self, local_fn: str | os.PathLike[str], path: str) -> dict[str, Any]:
        """Upload a file; see `ctaflows.ctadata.direct.upload_file`."""
        local = Path(local_fn)
        if not local.exists():
            raise FileNotFoundError(f"There is no such file here: {local}")
        return _answer(tasks.upload_file(local, path, overwrite=True, profile=self.profile))

    @translated
    def upload_dir(self, local_dir: str | os.PathLike[str], path: str) -> list[dict[str, Any]]:
        """Upload a directory; see `ctaflows.ctadata.direct.upload_dir`."""
        from ctaflows.ctadata.uploads import files_in
        from ctaflows.transfer.uploads import upload_many

        report = upload_many(connect(self.profile), files_in(local_dir, path), overwrite=True)
        if report.failed:
            raise PartialFailure.of(report)
        return [_answer(done) for done in report.transfers]

    # -- token -------------------------------------------------------------------------------

    @translated
    def print_token(self) -> None:
        """Print the token, and on stderr how long it is good."""
        import sys

        from ctaflows.auth.renewal import TokenProvider

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


def _answer(done: Transfer) -> dict[str, Any]:
    """Say of an upload what the download service says."""
    return {
        "path": done.path.lstrip("/"),
        "status": "uploaded",
        "total_written": done.size_bytes,
    }


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
