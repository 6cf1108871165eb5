"""The collection: every operation as a task.

Called directly each is a plain function that answers at once; within a Prefect flow the same name
is a tracked task run. Paths at the door are written as ``cta/DL1/20241114``; ``profile`` names the
settings, see `ctaflows.settings.load`.
"""

from ctaflows.tasks.dl1 import inspect_dl1, inspect_dl1_files, list_night
from ctaflows.tasks.namespace import disk_usage, find, list_dir, make_dir, move, remove, stat
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

__all__ = [
    "disk_usage",
    "fetch_dir",
    "fetch_file",
    "fetch_files",
    "find",
    "get_token_info",
    "inspect_dl1",
    "inspect_dl1_files",
    "keep_token",
    "list_dir",
    "list_night",
    "make_dir",
    "move",
    "plan_fetch",
    "refresh_token",
    "remove",
    "share_token",
    "stat",
    "upload_dir",
    "upload_file",
    "verify_dir",
]
