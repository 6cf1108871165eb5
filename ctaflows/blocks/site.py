"""URLs of the documentation and logos of the blocks, which Prefect's UI links to."""

from __future__ import annotations

import os

from pydantic import HttpUrl

from ctaflows.settings import DOCS_URL


def page(name: str) -> HttpUrl:
    """Return the URL of a file of docs/, below ``CTAFLOWS_DOCS_URL`` where that is set.

    Prefect accepts http and https URLs only (3.9.1, client/schemas/objects.py: BlockType).
    """
    return HttpUrl(f"{(os.environ.get('CTAFLOWS_DOCS_URL') or DOCS_URL).rstrip('/')}/{name}")
