"""Responses that look alike: what one of them was found to mean, a pattern finds in the others.

A listing is the same response over and over, with other values. An XML parser that calls back for
each tag spends 20 µs on each; a regular expression made from one response that was parsed needs 3.
It holds all bytes of that response but those of its values, and a value may hold only such bytes as
mean themselves in XML: so what it matches, at the place where a response may stand in the same
document, has the same structure, and the parser would have found the same. Pure: no I/O.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

#: The values an entry is made of, in the order in which `Shape.values` gives them.
KEYS = ("href", "size", "mtime", "checksums", "locality", "etag")

#: Printable ASCII but for the marks of XML: nothing to decode, to unescape, to strip or to refuse.
_PLAIN = "(?! )[ !-%'-;=?-~]{0,4096}+(?<! )"
_is_plain = re.compile(_PLAIN).fullmatch

_MOST_COMPILED = 64
_compiled: dict[tuple[str, bool], Shape] = {}


class Value(NamedTuple):
    """A value in a response: its text, and where its end tag begins."""

    text: str
    end: int


class Shape:
    """What responses of one kind look like.

    Parameters
    ----------
    pattern : str
        See `pattern_of`.
    keys : sequence of str
        Names of the pattern's groups.
    is_dir : bool
        Do they describe directories?
    """

    def __init__(self, pattern: str, *, is_dir: bool) -> None:
        compiled = re.compile(pattern)
        self.is_dir = is_dir
        self.match = compiled.match
        # the last group is always empty: it stands for the values that are not there
        nothing = compiled.groups
        self.groups = tuple(compiled.groupindex.get(key, nothing) for key in KEYS)


def pattern_of(response: bytes, values: Mapping[str, Value]) -> str | None:
    """Make the pattern of all responses that differ from one in their values alone.

    Parameters
    ----------
    response : bytes
        The response from the first byte of its begin tag to the last of its end tag.
    values : Mapping
        What was found in it; places count from its first byte. Empty ones are no values.

    Returns
    -------
    str or None
        A regular expression with a group for each value, or None where a value is not plain text
        between two tags.
    """
    text = response.decode("latin-1")
    parts, done = [r"[ \t\r\n]*+"], 0
    for key, value in sorted(values.items(), key=lambda item: item[1].end):
        if not value.text:
            continue
        start = text.rfind(">", 0, value.end) + 1
        inner = text[start : value.end]
        between_tags = text.startswith("</", value.end) and text[start - 2 : start] != "/>"
        if not (between_tags and start > done and _is_plain(inner) and inner == value.text):
            return None
        parts += [re.escape(text[done:start]), f"(?P<{key}>{_PLAIN})"]
        done = value.end
    return "".join([*parts, re.escape(text[done:]), "()"])


class Shapes:
    """The shapes that one document has shown: its begin says what their prefixes mean."""

    #: So many are looked at; a document whose responses all differ is left to the parser.
    most = 8

    def __init__(self) -> None:
        self.known: list[Shape] = []
        self._seen: set[tuple[str, bool]] = set()

    def learn(self, response: bytes, values: Mapping[str, Value], *, is_dir: bool) -> None:
        """Take a response that was parsed for an example; two of a kind make a shape."""
        if len(self._seen) >= self.most:
            return
        pattern = pattern_of(response, values)
        if pattern is None:
            return
        kind = (pattern, is_dir)
        shape = _compiled.get(kind)
        if shape is None and kind in self._seen:
            shape = Shape(pattern, is_dir=is_dir)
            if len(_compiled) >= _MOST_COMPILED:
                _compiled.clear()
            _compiled[kind] = shape
        self._seen.add(kind)
        if shape is not None and shape not in self.known:
            self.known.append(shape)
