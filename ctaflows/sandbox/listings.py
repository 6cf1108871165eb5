"""Listings that no door should give, and that a client must survive."""

from __future__ import annotations

_HEAD = '<?xml version="1.0" encoding="utf-8"?>\n'
_DIRECTORY = "<d:resourcetype><d:collection/></d:resourcetype>"
_FILE = "<d:resourcetype/><d:getcontentlength>4</d:getcontentlength>"

#: Names that would leave the place where a listing is copied to, or are none.
HOSTILE = (
    "../../etc/passwd",
    "%2e%2e/%2e%2e/etc/passwd",
    "..%2f..%2fetc%2fpasswd",
    "/etc/passwd",
    "https://elsewhere.example/other-host.h5",
    "nul%00byte.h5",
    "%2e%2e",
)


def _response(href: str, properties: str) -> str:
    return (
        f"<d:response><d:href>{href}</d:href><d:propstat><d:prop>{properties}</d:prop>"
        "<d:status>HTTP/1.1 200 OK</d:status></d:propstat></d:response>"
    )


def wrong(name: str, target: str) -> bytes:
    """Give the multistatus of a fault.

    Parameters
    ----------
    name : str
        ``empty207``, ``garbage_xml``, ``xml_bomb`` or ``hostile_names``.
    target : str
        Raw path of the directory.
    """
    directory = target.partition("?")[0].rstrip("/") + "/"
    itself = _response(directory, _DIRECTORY)
    if name == "empty207":
        responses = itself
    elif name == "garbage_xml":
        return f'{_HEAD}<d:multistatus xmlns:d="DAV:">{itself}<d:response><d:href>'.encode()
    elif name == "xml_bomb":
        return _bomb(directory)
    else:
        hrefs = [h if h.startswith(("/", "https:")) else directory + h for h in HOSTILE]
        responses = itself + "".join(_response(h, _FILE) for h in hrefs)
    return f'{_HEAD}<d:multistatus xmlns:d="DAV:">{responses}</d:multistatus>'.encode()


def _bomb(directory: str) -> bytes:
    entities = ['<!ENTITY a0 "ha">']
    entities += [f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 10)]
    bomb = _response(directory + "&a9;", _FILE)
    doctype = f"<!DOCTYPE d:multistatus [{''.join(entities)}]>"
    return f'{_HEAD}{doctype}<d:multistatus xmlns:d="DAV:">{bomb}</d:multistatus>'.encode()
