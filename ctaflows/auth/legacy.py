"""Tokens that other programs of our users keep: ctadata's files, JupyterHub's environment.

ctadata 0.7.0 (api.py): ``~/.config/cta-data/token``, with ``-dev`` for the development instance.
ctadata 0.6.0 (direct/api.py): ``~/.cta_token``.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ctaflows.atomic_files import read_private
from ctaflows.auth.tokens import FoundToken, is_token

if TYPE_CHECKING:
    from collections.abc import Mapping

_FILES = {
    "cscs": ("~/.config/cta-data/token", "~/.cta_token"),
    "cscs-dev": ("~/.config/cta-data/token-dev",),
}


def discover(profile: str, env: Mapping[str, str] = os.environ) -> FoundToken | None:
    """Look for a token that another program keeps for this profile.

    Returns
    -------
    FoundToken or None
        What is no token is passed over: these files are not ours to complain about.
    """
    for name in _FILES.get(profile, ()):
        value = read_private(Path(name).expanduser())
        if value and is_token(value):
            return FoundToken(value, name)
    value = env.get("JUPYTERHUB_API_TOKEN", "").strip()
    if value and is_token(value):
        return FoundToken(value, "JUPYTERHUB_API_TOKEN")
    return None
