"""TLS: always verified, against the system's CAs or those the settings name."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING

from ctaflows.errors import UsageError

if TYPE_CHECKING:
    from ctaflows.settings import Settings

#: Where grid sites keep the CAs of IGTF, in OpenSSL's hashed form.
GRID_CA_DIR = Path("/etc/grid-security/certificates")


def ca_paths(settings: Settings) -> tuple[str | None, list[str]]:
    """Say which bundle and which hashed folders hold the CAs, for libraries that read them.

    Parameters
    ----------
    settings : Settings
        As for `ssl_context`, which trusts the same CAs.
    """
    ca = settings.ca_file
    if ca is not None:
        return (None, [str(ca)]) if ca.is_dir() else (str(ca), [])
    system = ssl.get_default_verify_paths()
    folders = [folder for folder in (system.capath, str(GRID_CA_DIR)) if folder]
    return system.cafile, [folder for folder in folders if Path(folder).is_dir()]


def ssl_context(settings: Settings) -> ssl.SSLContext:
    """Make the context in which every connection is verified.

    Parameters
    ----------
    settings : Settings
        ``ca_file`` names a PEM bundle or a hashed directory that stands in for the system's CAs.

    Raises
    ------
    UsageError
        The CA file can't be read or holds no certificate.
    """
    ca = settings.ca_file
    try:
        if ca is None:
            context = ssl.create_default_context()
            if GRID_CA_DIR.is_dir():
                context.load_verify_locations(capath=str(GRID_CA_DIR))
        elif ca.is_dir():
            context = ssl.create_default_context(capath=str(ca))
        else:
            context = ssl.create_default_context(cafile=str(ca))
    except (OSError, ssl.SSLError) as why:
        raise UsageError(
            "The CA certificates can't be read",
            where=str(ca),
            said=str(why),
            hint="Name a PEM bundle or a hashed directory in CTAFLOWS_CA_FILE.",
        ) from why
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
