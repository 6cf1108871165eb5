"""Flows, found by their entry points; and whether Prefect has a server to tell."""

from __future__ import annotations

import os
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

from ctaflows.errors import UsageError

GROUP = "ctaflows.flows"


def entry_points() -> dict[str, metadata.EntryPoint]:
    """Give the flows that installed packages offer, by name."""
    return {point.name: point for point in sorted(metadata.entry_points(group=GROUP))}


def load(name: str) -> Any:
    """Load a flow.

    Raises
    ------
    UsageError
        It can't be imported.
    """
    point = entry_points()[name]
    try:
        return point.load()
    except (ImportError, AttributeError) as why:
        raise UsageError(
            f"The flow {name} can't be loaded", where=point.value, said=str(why)
        ) from why


def first_line(flow: Any) -> str:
    """Give the first line of a flow's description."""
    return (getattr(flow.fn, "__doc__", None) or "").strip().partition("\n")[0]


def prefect_api_url() -> str | None:
    """Say which Prefect API is configured, without importing Prefect.

    It is looked for in ``PREFECT_API_URL`` and in the active profile of
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
