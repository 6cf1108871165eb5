"""The flows that installed packages register as entry points, and Prefect's configured API."""

from __future__ import annotations

import os
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

from ctaflows.errors import UsageError

GROUP = "ctaflows.flows"


def entry_points() -> dict[str, metadata.EntryPoint]:
    """Return the entry points of all registered flows, by name."""
    return {point.name: point for point in sorted(metadata.entry_points(group=GROUP))}


def load(name: str) -> Any:
    """Return the flow that is registered under a name.

    Raises
    ------
    UsageError
        The flow can't be imported.
    """
    point = entry_points()[name]
    try:
        return point.load()
    except (ImportError, AttributeError) as why:
        raise UsageError(
            f"The flow {name} can't be loaded", where=point.value, said=str(why)
        ) from why


def first_line(flow: Any) -> str:
    """Return the first line of a flow's docstring."""
    return (getattr(flow.fn, "__doc__", None) or "").strip().partition("\n")[0]


def prefect_api_url() -> str | None:
    """Return the address of the Prefect API that is configured, without importing Prefect.

    It is that of ``PREFECT_API_URL``, else of the active profile in
    ``$PREFECT_HOME/profiles.toml`` (Prefect 3: settings/profiles, default ``~/.prefect``).
    """
    if url := os.environ.get("PREFECT_API_URL"):
        return url
    home = Path(os.environ.get("PREFECT_HOME") or "~/.prefect").expanduser()
    file = Path(os.environ.get("PREFECT_PROFILES_PATH") or home / "profiles.toml")
    try:
        profiles = tomllib.loads(file.read_text(encoding="utf-8"))
        active = os.environ.get("PREFECT_PROFILE") or profiles.get("active", "")
        url = profiles.get("profiles", {}).get(active, {}).get("PREFECT_API_URL")
    except (OSError, ValueError, AttributeError):
        return None
    return url if isinstance(url, str) and url else None
