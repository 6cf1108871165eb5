"""Addresses that are nobody's (RFC 2606), or that nobody answers at."""

DOOR = "https://door.example"
ISSUER = "https://stranger.example"
DOCS = "https://docs.example.org/ctaflows"
#: The port discard, where nothing listens.
SILENT = "http://127.0.0.1:9"


def on_loopback(port: int) -> str:
    """Give the address of a server that a test has started."""
    return f"http://127.0.0.1:{port}"
