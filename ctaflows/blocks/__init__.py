"""Prefect blocks: a storage, a login, and the platform's download service.

Importing this module registers them with Prefect; it is the entry point ``prefect.collections``.
Flows and tasks take the name of a block (``profile="block:NAME"``), never its content.
"""

from ctaflows.blocks.credentials import CTACredentials
from ctaflows.blocks.downloadservice import CTADownloadService
from ctaflows.blocks.storage import CTAStorage

__all__ = ["CTACredentials", "CTADownloadService", "CTAStorage"]
