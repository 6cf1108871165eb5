"""Prefect blocks: a storage, a login, and the platform's download service.

Importing this module makes them known to Prefect; it is the entry point ``prefect.collections``.
A flow takes the name of a block (``profile="block:NAME"``), never what is in it.
"""

from ctaflows.blocks.credentials import CTACredentials
from ctaflows.blocks.downloadservice import CTADownloadService
from ctaflows.blocks.storage import CTAStorage

__all__ = ["CTACredentials", "CTADownloadService", "CTAStorage"]
