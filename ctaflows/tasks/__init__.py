"""The collection: every operation as a task.

Called directly each is a plain function that answers at once; within a Prefect flow the same name
is a tracked task run. Paths at the door are written as ``cta/DL1/20241114``; ``profile`` names the
settings, see `ctaflows.settings.load`. Each name is loaded when it is first used: a listing needs
nothing of what transfers need.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ctaflows.tasks.dl1 import inspect_dl1, inspect_dl1_files, list_night, look_at_night
    from ctaflows.tasks.namespace import disk_usage, find, list_dir, make_dir, move, remove, stat
    from ctaflows.tasks.pictures import plot_night, write_page
    from ctaflows.tasks.remote import (
        fetch_tables,
        inspect_remote_dl1,
        inspect_remote_dl1_files,
        open_remote,
    )
    from ctaflows.tasks.token import get_token_info, keep_token, refresh_token, share_token
    from ctaflows.tasks.transfers import (
        fetch_dir,
        fetch_file,
        fetch_files,
        plan_fetch,
        upload_dir,
        upload_file,
        verify_dir,
    )

_HOMES = {
    "dl1": ("inspect_dl1", "inspect_dl1_files", "list_night", "look_at_night"),
    "namespace": ("disk_usage", "find", "list_dir", "make_dir", "move", "remove", "stat"),
    "pictures": ("plot_night", "write_page"),
    "remote": ("fetch_tables", "inspect_remote_dl1", "inspect_remote_dl1_files", "open_remote"),
    "token": ("get_token_info", "keep_token", "refresh_token", "share_token"),
    "transfers": (
        "fetch_dir",
        "fetch_file",
        "fetch_files",
        "plan_fetch",
        "upload_dir",
        "upload_file",
        "verify_dir",
    ),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "disk_usage",
    "fetch_dir",
    "fetch_file",
    "fetch_files",
    "fetch_tables",
    "find",
    "get_token_info",
    "inspect_dl1",
    "inspect_dl1_files",
    "inspect_remote_dl1",
    "inspect_remote_dl1_files",
    "keep_token",
    "list_dir",
    "list_night",
    "look_at_night",
    "make_dir",
    "move",
    "open_remote",
    "plan_fetch",
    "plot_night",
    "refresh_token",
    "remove",
    "share_token",
    "stat",
    "upload_dir",
    "upload_file",
    "verify_dir",
    "write_page",
]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
