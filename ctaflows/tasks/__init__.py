"""The Prefect collection: every operation of ctaflows.

Called directly, a task is a plain function that needs no Prefect server; called within a flow, it
is a tracked task run. Operations that stream (`iter_dir`) or only plan (`plan_fetch`) are plain
functions everywhere. Remote paths are written as ``cta/DL1/20241114``; ``profile`` names the
settings, see `ctaflows.settings.load`.

Each module is imported when one of its names is first used, so that a listing does not import what
only transfers need.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ctaflows.tasks.dl1 import *
    from ctaflows.tasks.namespace import *
    from ctaflows.tasks.pictures import *
    from ctaflows.tasks.remote import *
    from ctaflows.tasks.token import *
    from ctaflows.tasks.transfers import *

#: The operations by module: the only list of their names.
OPERATIONS = {
    "dl1": ("inspect_dl1", "inspect_dl1_files", "list_night", "look_at_night"),
    "namespace": (
        "disk_usage",
        "find",
        "iter_dir",
        "iter_find",
        "iter_remove",
        "list_dir",
        "make_dir",
        "move",
        "plan_removal",
        "remove",
        "stat",
    ),
    "pictures": ("plot_night", "write_page"),
    "remote": (
        "fetch_tables",
        "fetch_tables_of_files",
        "inspect_remote_dl1",
        "inspect_remote_dl1_files",
        "open_remote",
        "plan_tables",
    ),
    "token": ("get_token_info", "keep_token", "refresh_token", "share_token"),
    "transfers": (
        "failed_transfers",
        "fetch_dir",
        "fetch_file",
        "fetch_files",
        "fetch_into",
        "find_extraneous",
        "find_uploads",
        "list_tree",
        "plan_fetch",
        "plan_uploads",
        "prune_tree",
        "upload_dir",
        "upload_file",
        "upload_files",
        "verify_dir",
    ),
}
_HOMES = {name: home for home, names in OPERATIONS.items() for name in names}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
