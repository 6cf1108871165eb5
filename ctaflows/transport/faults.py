"""Faults of the network, said in the same words whichever library met them."""

from __future__ import annotations

from ctaflows.errors import NetworkError


class NotSent(NetworkError):
    """No connection came about, so nothing was sent."""


def unreachable(url: str, said: str) -> NetworkError:
    """Say that no connection came about."""
    return NotSent(
        "The server can't be reached",
        where=url,
        said=said,
        hint="Is the network up, and the address right?",
    )


def untrusted(url: str, said: str) -> NetworkError:
    """Say that the server's certificate was refused; trying again is no use."""
    error = NetworkError(
        "The server's certificate is not one we trust",
        where=url,
        said=said,
        hint="Name the site's CA in CTAFLOWS_CA_FILE. Verification can't be switched off.",
    )
    error.retryable = False
    return error


def silent(url: str, said: str) -> NetworkError:
    """Say that no byte came for too long."""
    return NetworkError("The server went silent", where=url, said=said)
