"""The token goes to one origin, whatever an address looks like."""

from __future__ import annotations

import pytest

from ctaflows.settings import Settings
from ctaflows.transport.ask import Session
from ctaflows.transport.policy import origin
from ctaflows.transport.wishes import Hop, Request

HOME = "https://door.example.org"


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (HOME + "/a", "https://door.example.orgs"),
        (HOME, "https://door.example.orgs"),
        (HOME + "/a", "https://door.example.or"),
        ("https://door.example.org:2880/a", "https://door.example.org:28801"),
        (HOME + "/a", "https://door.example.org.evil.example.org"),
        (HOME, "https://door.example.org?x=/"),
    ],
)
def test_it_goes_nowhere_else(first: str, then: str) -> None:
    session = Session(Settings(), first)
    session.token = "SECRET"
    assert bearers(session, first) == [b"Authorization: Bearer SECRET"]
    expected = bearers(session, first) if origin(then) == origin(first) else []
    assert bearers(session, then) == expected


def bearers(session: Session, url: str) -> list[bytes]:
    """Return the Authorization headers of a request."""
    lines = session.lines_for(Hop(Request("GET", url), url, session.is_home(url)))
    assert lines is not None
    return [line for line in lines if line.startswith(b"Authorization")]
