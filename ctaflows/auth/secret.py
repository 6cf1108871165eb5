"""The OAuth 2.0 client's secret: found in settings and files, stored after a login.

It is never a command's argument, which other users of the machine could read.
"""

from __future__ import annotations

import base64
import binascii
from pathlib import Path

from ctaflows.atomic_files import (
    Room,
    local_errors,
    read_private,
    remove_left,
    remove_private,
    write_private,
)
from ctaflows.auth.prefect_blocks import store_for
from ctaflows.errors import AuthError, UsageError
from ctaflows.settings import PROFILES, Settings

_ROOM_BYTES = 4096


def kept_file(settings: Settings) -> Path:
    """Return the file in which a profile's secret is stored after a login."""
    return settings.config_dir / "tokens" / f"{settings.profile}.secret"


def find(settings: Settings) -> str | None:
    """Return the secret from the settings, our store, the settings' file or ctadata's files.

    The first of these that has one. The settings' file comes before our store if it is newer.

    Returns
    -------
    str or None
        None where there is none: a public client has no secret.

    Raises
    ------
    UsageError
        The file that the settings name can't be read.
    """
    if settings.client_secret:
        return settings.client_secret
    kept = read_private(kept_file(settings)) if is_ours(settings) else None
    if kept and not _is_newer(settings.client_secret_file, kept_file(settings)):
        return kept  # a login succeeded with it
    if settings.client_secret_file is not None:
        return read_file(settings.client_secret_file)
    return _of_ctadata(settings)


def read_file(file: Path) -> str | None:
    """Read a secret from a file that a person has named; None where it is empty.

    Raises
    ------
    UsageError
        It can't be read.
    """
    what = "The client secret's file can't be read"
    try:
        with local_errors(file, what, hint="Name another file, or see its permissions."):
            return file.read_text(encoding="utf-8").strip() or None
    except ValueError:
        raise UsageError(what, where=str(file), said="it is no text") from None


def is_ours(settings: Settings) -> bool:
    """Return whether the stored secret belongs to the settings' issuer and client.

    The login that is stored with it decides; True where there is none, or none that can be read.
    """
    try:
        login = store_for(settings).kept()
    except AuthError:
        return True
    return login is None or login.belongs_to(settings)


def forget(settings: Settings) -> None:
    """Remove the stored secret."""
    remove_private(kept_file(settings))


def make_room(settings: Settings) -> Room:
    """Reserve disk space for a secret, as `Store.make_room` does for tokens."""
    return Room(kept_file(settings), _ROOM_BYTES)


def keep(settings: Settings, secret: str, room: Room | None = None) -> None:
    """Store a secret that a person typed, for later renewals.

    Parameters
    ----------
    settings : Settings
        ``config_dir`` and ``profile`` name the file.
    secret : str
        The secret.
    room : Room, optional
        The space that `make_room` reserved.
    """
    remove_left(kept_file(settings))
    if room is None:
        write_private(kept_file(settings), secret)
    else:
        room.fill(secret)


def _is_newer(file: Path | None, than: Path) -> bool:
    try:
        return file is not None and file.stat().st_mtime > than.stat().st_mtime
    except OSError:
        return False


def _of_ctadata(settings: Settings) -> str | None:
    """Return the secret that ctadata 0.7 (base64) or 0.6 (plain) stored (its ``api.py``)."""
    profile = settings.profile
    suffix = {"cscs": "", "cscs-dev": "-dev"}.get(profile)
    if suffix is None:
        return None
    theirs = Settings().replace(**PROFILES[profile])
    if (settings.issuer_url.rstrip("/"), settings.client_id) != (
        theirs.issuer_url,
        theirs.client_id,
    ):
        return None  # the secret is of the built-in issuer and client
    encoded = read_private(Path(f"~/.config/cta-data/secret{suffix}").expanduser())
    if encoded:
        try:
            return base64.b64decode(encoded, validate=True).decode("utf-8").strip() or None
        except (binascii.Error, ValueError):
            return None
    return read_private(Path("~/.secret").expanduser()) if profile == "cscs" else None
