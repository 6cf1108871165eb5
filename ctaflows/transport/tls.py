"""The certificate authorities that are trusted: the system's, or those of the settings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ctaflows.settings import Settings

#: Where grid sites install the CA certificates of IGTF, as a hashed directory of OpenSSL.
GRID_CA_DIR = Path("/etc/grid-security/certificates")


def ca_paths(settings: Settings) -> tuple[str | None, list[str]]:
    """Return the files of the CAs that are trusted, as `tls_context.ssl_context` does.

    Parameters
    ----------
    settings : Settings
        As for `tls_context.ssl_context`.

    Returns
    -------
    bundle : str or None
        PEM file.
    folders : list of str
        Hashed directories.
    """
    ca = settings.ca_file
    if ca is not None:
        return (None, [str(ca)]) if ca.is_dir() else (str(ca), [])
    import ssl  # takes 7 ms

    system = ssl.get_default_verify_paths()
    folders = [folder for folder in (system.capath, str(GRID_CA_DIR)) if folder]
    return system.cafile, [folder for folder in folders if Path(folder).is_dir()]
