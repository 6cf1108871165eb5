"""The token goes to one origin, whatever an address looks like."""

from __future__ import annotations

import pytest
from ctaflows.transport.lines import Lines

from ctaflows.transport.policy import origin

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
    def token_for(url: str) -> str | None:
        return "SECRET" if origin(url) == origin(first) else None

    lines = Lines({}, token_for)
    assert b"Authorization: Bearer SECRET" in lines.to(first)
    told = b"Authorization: Bearer SECRET" in lines.to(then)
    assert told == (origin(then) == origin(first))
