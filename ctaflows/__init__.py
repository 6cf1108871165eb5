"""CTAO and LST-1 data, fetched, proven and inspected: from a notebook, a shell or Prefect flows.

::

    from ctaflows import list_dir, fetch_file, inspect_dl1

    for entry in list_dir("cta/DL1/20241114"):
        print(entry.name, entry.size_bytes)

Each name is loaded when it is first used: ``import ctaflows`` loads neither prefect nor h5py.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ctaflows import _moved

if TYPE_CHECKING:
    from ctaflows import ctadata
    from ctaflows.blocks import CTACredentials as CTACredentials
    from ctaflows.blocks import CTADownloadService as CTADownloadService
    from ctaflows.blocks import CTAStorage as CTAStorage
    from ctaflows.errors import CtaflowsError, PartialFailure
    from ctaflows.model import Checksum, Entry, Report, Transfer
    from ctaflows.settings import Settings
    from ctaflows.tasks import (
        disk_usage,
        fetch_dir,
        fetch_file,
        fetch_files,
        fetch_tables,
        find,
        get_token_info,
        inspect_dl1,
        inspect_dl1_files,
        inspect_remote_dl1,
        inspect_remote_dl1_files,
        keep_token,
        list_dir,
        list_night,
        look_at_night,
        make_dir,
        move,
        open_remote,
        plot_night,
        refresh_token,
        remove,
        stat,
        upload_dir,
        upload_file,
        verify_dir,
        write_page,
    )

__version__ = "0.1.1"

__all__ = [
    "Checksum",
    "CtaflowsError",
    "Entry",
    "PartialFailure",
    "Report",
    "Settings",
    "Transfer",
    "__version__",
    "ctadata",
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
    "plot_night",
    "refresh_token",
    "remove",
    "stat",
    "upload_dir",
    "upload_file",
    "verify_dir",
    "write_page",
]

#: Found by ``prefect block register -m ctaflows``; not in __all__, since they import Prefect.
_BLOCKS = ("CTACredentials", "CTADownloadService", "CTAStorage")

_HOMES = {
    **dict.fromkeys(_BLOCKS, "blocks"),
    "Checksum": "model",
    "CtaflowsError": "errors",
    "Entry": "model",
    "PartialFailure": "errors",
    "Report": "model",
    "Settings": "settings",
    "Transfer": "model",
}


_moved.install()


def __getattr__(name: str) -> Any:
    if name not in __all__ and name not in _BLOCKS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "ctadata":
        return importlib.import_module("ctaflows.ctadata")
    value = getattr(importlib.import_module(f"ctaflows.{_HOMES.get(name, 'tasks')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_BLOCKS})
