"""Storage services: a dCache door over WebDAV, and what belongs to it."""
