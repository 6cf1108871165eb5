"""Where the pages and pictures of the blocks are, as Prefect's own pages link to them."""

from __future__ import annotations

import os

from pydantic import HttpUrl

#: A name that is nobody's (RFC 2606), until the documentation has an address; Prefect takes web
#: addresses only (3.9.1, client/schemas/objects.py: BlockType).
_NOWHERE = "https://ctaflows.example"


def page(name: str) -> HttpUrl:
    """Give the address of a file of docs/, below ``CTAFLOWS_DOCS_URL`` where a site sets it."""
    return HttpUrl(f"{(os.environ.get('CTAFLOWS_DOCS_URL') or _NOWHERE).rstrip('/')}/{name}")
