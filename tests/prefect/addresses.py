"""URLs with reserved names (RFC 2606), and one at which nothing listens."""

DOOR = "https://door.example"
ISSUER = "https://stranger.example"
DOCS = "https://docs.example.org/ctaflows"
#: The port discard, where nothing listens.
SILENT = "http://127.0.0.1:9"


def on_loopback(port: int) -> str:
    """Return the URL of a server that a test has started."""
    return f"http://127.0.0.1:{port}"
