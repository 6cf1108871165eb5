"""CTAO and LST-1 data, fetched, verified and inspected: from notebooks, shells or Prefect flows.

::

    from ctaflows import list_dir, fetch_file, inspect_dl1

    for entry in list_dir("cta/DL1/20241114"):
        print(entry.name, entry.size_bytes)

Each name is imported at its first use: ``import ctaflows`` imports neither prefect nor h5py.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ctaflows import _moved, tasks
from ctaflows._version import __version__ as __version__

if TYPE_CHECKING:
    from ctaflows import ctadata as ctadata
    from ctaflows.blocks import CTACredentials as CTACredentials
    from ctaflows.blocks import CTADownloadService as CTADownloadService
    from ctaflows.blocks import CTAStorage as CTAStorage
    from ctaflows.errors import CtaflowsError as CtaflowsError
    from ctaflows.errors import PartialFailure as PartialFailure
    from ctaflows.model import Checksum as Checksum
    from ctaflows.model import Entry as Entry
    from ctaflows.model import Report as Report
    from ctaflows.model import Transfer as Transfer
    from ctaflows.settings import Settings as Settings
    from ctaflows.tasks.dl1 import *
    from ctaflows.tasks.namespace import *
    from ctaflows.tasks.pictures import *
    from ctaflows.tasks.remote import *
    from ctaflows.tasks.token import *
    from ctaflows.tasks.transfers import *

#: For flows only: it shares a token between runs.
_FOR_FLOWS = {"share_token"}
_HOMES = {
    **{name: "tasks" for name in tasks.__all__ if name not in _FOR_FLOWS},
    "Checksum": "model",
    "CtaflowsError": "errors",
    "Entry": "model",
    "PartialFailure": "errors",
    "Report": "model",
    "Settings": "settings",
    "Transfer": "model",
}
__all__ = sorted([*_HOMES, "__version__", "ctadata"])

#: Found by ``prefect block register -m ctaflows``; not in __all__, since they import Prefect.
_HOMES |= dict.fromkeys(("CTACredentials", "CTADownloadService", "CTAStorage"), "blocks")

_moved.install()


def __getattr__(name: str) -> Any:
    if name == "ctadata":
        return importlib.import_module("ctaflows.ctadata")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"ctaflows.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, *__all__})
