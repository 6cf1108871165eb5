"""Where the pages and pictures of the blocks are, as Prefect's own pages link to them."""

from __future__ import annotations

import os

from pydantic import HttpUrl

from ctaflows.settings import DOCS_URL


def page(name: str) -> HttpUrl:
    """Give the address of a file of docs/, below ``CTAFLOWS_DOCS_URL`` where a site sets it.

    Prefect takes web addresses only (3.9.1, client/schemas/objects.py: BlockType).
    """
    return HttpUrl(f"{(os.environ.get('CTAFLOWS_DOCS_URL') or DOCS_URL).rstrip('/')}/{name}")
