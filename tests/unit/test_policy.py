"""Decisions about HTTP: errors, redirects."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from urllib.parse import urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ctaflows.errors import (
    DoorBusy,
    Lost,
    Nearline,
    NoSpace,
    NotFound,
    ProtocolSurprise,
    RateLimited,
    Refused,
    SourceChanged,
    StorageError,
)
from ctaflows.transport.policy import (
    IDEMPOTENT,
    MAX_HOPS,
    REDIRECTS,
    error_for,
    is_in_clear,
    next_hop,
    origin,
    proxy_for,
    retry_after_s,
    size_bytes,
)

DOOR = "https://door:2880/cta/a.h5"
POOL = "https://pool:21000/cta/a.h5?dcache-http-uuid=0f8f"
HTTP_POOL = "http://10.0.0.1:21000/cta/a.h5?dcache-http-uuid=0f8f"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://door:2880/a", ("https", "door", 2880)),
        ("https://door/a", ("https", "door", 443)),
        ("https://door:443", ("https", "door", 443)),
        ("http://door", ("http", "door", 80)),
        ("HTTPS://DOOR", ("https", "door", 443)),
        ("https://user:pw@door", ("https", "door", 443)),
        ("https://[2001:DB8::1]:1/", ("https", "2001:db8::1", 1)),
        ("https://door:2880@evil", ("https", "evil", 443)),
        ("https://door?@evil", ("https", "door", 443)),
        ("https://door#@evil", ("https", "door", 443)),
        ("/only/a/path", ("", "", 0)),
    ],
)
def test_origin(url, expected):
    assert origin(url) == expected


SAME = [
    ("https://door/a", "https://door:443/b", True),
    ("https://door/a", "https://DOOR/b?c", True),
    ("https://door/a", "http://door/a", False),
    ("https://door/a", "https://door:8443/a", False),
    ("https://door/a", "https://door.evil/a", False),
    ("https://door/a", "https://door./a", False),
    ("https://door/a", "https://evil/?https://door/a", False),
]


@pytest.mark.parametrize(("one", "other", "same"), SAME)
def test_same_origin(one, other, same):
    assert (origin(one) == origin(other)) is same


GOES = [
    # method, here, location, allow_http, there
    ("GET", DOOR, POOL, False, POOL),
    ("PUT", DOOR, POOL, False, POOL),
    ("GET", POOL, DOOR, False, DOOR),
    ("GET", DOOR, HTTP_POOL, True, HTTP_POOL),
    ("PUT", DOOR, HTTP_POOL, True, HTTP_POOL),
    ("GET", "http://door/a", HTTP_POOL, False, HTTP_POOL),
    ("GET", "http://door/a", POOL, False, POOL),
    ("GET", DOOR, "/cta/b.h5", False, "https://door:2880/cta/b.h5"),
    ("GET", DOOR, "b.h5", False, "https://door:2880/cta/b.h5"),
    ("GET", DOOR, "?x=1", False, "https://door:2880/cta/a.h5?x=1"),
    ("GET", DOOR, "//pool:1/a", False, "https://pool:1/a"),
    ("GET", DOOR, "HTTPS://pool:1/a", False, "https://pool:1/a"),
    ("PROPFIND", DOOR, "/cta/a.h5/", False, "https://door:2880/cta/a.h5/"),
    ("PROPFIND", DOOR, "https://DOOR:2880/x", False, "https://DOOR:2880/x"),
    ("MOVE", DOOR, "/x", False, "https://door:2880/x"),
    ("DELETE", DOOR, "/x", False, "https://door:2880/x"),
    ("HEAD", "https://door/a", "https://door:443/b", False, "https://door:443/b"),
    # a manager of XRootD redirects all methods
    ("PROPFIND", DOOR, POOL, False, POOL),
    ("HEAD", DOOR, POOL, False, POOL),
    ("MOVE", DOOR, POOL, False, POOL),
    ("DELETE", DOOR, POOL, False, POOL),
    ("MKCOL", DOOR, POOL, False, POOL),
]
REFUSED = [
    ("GET", DOOR, None, True),
    ("GET", DOOR, "", True),
    ("GET", DOOR, HTTP_POOL, False),
    ("PUT", DOOR, HTTP_POOL, False),
    ("GET", DOOR, "HTTP://pool/a", False),
    ("GET", POOL, "http://door:2880/cta/a.h5", False),
    ("GET", "HTTPS://door/a", HTTP_POOL, False),
    ("PROPFIND", DOOR, "http://door:2880/cta", True),
    ("PROPFIND", DOOR, HTTP_POOL, True),
    ("HEAD", DOOR, HTTP_POOL, True),
    ("MOVE", DOOR, HTTP_POOL, True),
    ("DELETE", DOOR, HTTP_POOL, True),
    ("MKCOL", DOOR, HTTP_POOL, True),
    ("POST", DOOR, POOL, True),
    ("get", DOOR, POOL, True),
    ("GET", DOOR, "https://user@pool/a", True),
    ("GET", DOOR, "https://user:pw@pool/a", True),
    ("GET", DOOR, "https://:pw@pool/a", True),
    ("GET", DOOR, "https://user:pw@door:2880/a", True),
    ("GET", DOOR, "https://door:2880@evil/a", True),
    ("GET", DOOR, "javascript:alert(1)", True),
    ("GET", DOOR, "file:///etc/passwd", True),
    ("GET", DOOR, "ftp://pool/a", True),
    ("GET", DOOR, "data:text/plain,x", True),
    ("GET", DOOR, "gsiftp://pool/a", True),
    ("GET", DOOR, "https://:80/a", True),
    ("GET", DOOR, "https://pool:port/a", True),
    ("GET", DOOR, "https://pool:99999/a", True),
    ("GET", DOOR, "https://[::1/a", True),
    ("GET", DOOR, "mailto:me@door", True),
]


@pytest.mark.parametrize(("method", "here", "location", "allow_http", "there"), GOES)
def test_redirects_that_are_followed(method, here, location, allow_http, there):
    assert next_hop(method, here, location, allow_http=allow_http) == there


@pytest.mark.parametrize(("method", "here", "location", "allow_http"), REFUSED)
def test_redirects_that_are_refused(method, here, location, allow_http):
    with pytest.raises(ProtocolSurprise) as caught:
        next_hop(method, here, location, allow_http=allow_http)
    assert "0f8f" not in str(caught.value)
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize("method", ["MOVE", "DELETE", "MKCOL"])
def test_a_change_of_names_goes_elsewhere_by_307_and_308_alone(method):
    for status in (301, 302, 303):  # as to the page of a login
        with pytest.raises(ProtocolSurprise, match=method):
            next_hop(method, DOOR, POOL, allow_http=False, status=status)
        assert next_hop(method, DOOR, "/cta/b", allow_http=False, status=status)
    for status in (307, 308):
        assert next_hop(method, DOOR, POOL, allow_http=False, status=status) == POOL


def test_a_path_is_no_reason():
    where = "https://door:2880/cta/nearline/not%20online/x"
    said = "Permission denied for GET on path /cta/nearline/not%20online/x"
    assert type(error_for(403, {}, said, method="GET", where=where)) is Refused
    said = "Path /cta/nearline/not online/x: QoS policy nearline"
    assert type(error_for(403, {}, said, method="GET", where=where)) is Nearline


def test_a_refused_downgrade_says_how_to_allow_it():
    with pytest.raises(ProtocolSurprise) as caught:
        next_hop("GET", DOOR, HTTP_POOL, allow_http=False)
    assert "CTAFLOWS_ALLOW_HTTP_POOLS" in caught.value.hint


locations = st.text(max_size=30) | st.builds(
    "{}{}{}".format,
    st.sampled_from(["https://", "http://", "//", "https:", "HTTP:/", "javascript:", "\\\\", " "]),
    st.text("ab.:@/[]\\?#%2 ", max_size=12),
    st.text(max_size=6),
)


@given(st.sampled_from(["GET", "PUT", "PROPFIND", "HEAD", "DELETE"]), locations, st.booleans())
@example("GET", "https://door:2880\\@evil/", True)
def test_whatever_the_location_a_hop_is_sound(method, location, allow_http):
    try:
        there = next_hop(method, DOOR, location, allow_http=allow_http)
    except ProtocolSurprise:
        return
    parts = urlsplit(there)
    assert parts.scheme == "https" or (allow_http and parts.scheme == "http")
    assert parts.hostname
    assert parts.username is None
    assert parts.password is None
    assert method in ("GET", "PUT") or parts.scheme == "https"


@pytest.mark.parametrize(
    ("asked", "path", "kept"),
    [
        # dCache 11.2.5 composes what was asked for decomposed, and its pool then finds no such file
        ("/caf%65%CC%81.h5", "/caf%C3%A9.h5", True),
        ("/cafe%CC%81/a%20b.h5", "/caf%C3%A9/a%20b.h5", True),
        ("/a%28b%29", "/a(b)", True),
        # XRootD 5.5 does not encode at all
        ("/%2541", "/%41", True),
        ("/a%23b", "/a#b", True),
        ("/cafe%CC%81.h5", "/other.h5", False),
        ("/100%25", "/100%25", True),  # the raw name is a prefix of its encoded form
        ("/a%20b", "/a%2520b", False),
        ("/cafe.h5", "/caf%C3%A9.h5", False),
    ],
)
def test_a_redirect_keeps_the_name_that_was_asked_for(asked, path, kept):
    there = next_hop("GET", "https://door" + asked, f"https://pool{path}?u=0f8f", allow_http=False)
    assert there == f"https://pool{asked if kept else path}?u=0f8f"


def test_the_numbers_of_redirects_and_hops():
    assert {301, 302, 303, 307, 308} == REDIRECTS
    assert MAX_HOPS == 5
    assert {"GET", "HEAD", "OPTIONS", "PROPFIND"} == IDEMPOTENT


# Retry-After

NOW = datetime(2024, 11, 15, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("", None),
        (" ", None),
        ("0", 0.0),
        ("20", 20.0),
        (" 20 ", 20.0),
        ("9" * 400, 1e9),
        ("-1", None),
        ("+1", None),
        ("1.5", None),
        ("1e3", None),
        ("٣", None),
        ("²", None),
        ("soon", None),
        ("20, 30", None),
        ("inf", None),
        ("Fri, 15 Nov 2024 12:00:30 GMT", 30.0),
        ("Fri, 15 Nov 2024 13:01:00 +0100", 60.0),
        ("Fri, 15 Nov 2024 12:00:30 -0000", 30.0),
        ("Friday, 15-Nov-24 12:00:30 GMT", 30.0),
        ("Fri Nov 15 12:00:30 2024", 30.0),
        ("Fri, 15 Nov 2024 11:59:00 GMT", 0.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("Fri, 32 Nov 2024 12:00:00 GMT", None),
        ("Mon, 01 Jan 99999999999999999999 00:00:00 GMT", None),
        ("Mon, 01 Jan 2024 00:00:00 +99999999999999999999", None),
        ("Mon, 01 Jan 2024 00:00:00 +9999", None),
    ],
)
def test_retry_after(value, seconds):
    assert retry_after_s(value, NOW) == seconds


@given(st.text(max_size=40) | st.text("0123456789 :,+-GMTJanFri", max_size=40))
def test_retry_after_never_raises(value):
    seconds = retry_after_s(value, NOW)
    assert seconds is None or seconds >= 0


@given(st.integers(0, 10**6))
def test_retry_after_by_date(n_seconds):
    text = format_datetime(NOW + timedelta(seconds=n_seconds), usegmt=True)
    assert retry_after_s(text, NOW) == n_seconds


def test_retry_after_by_date_counts_from_the_present():
    soon = datetime.now(UTC) + timedelta(seconds=100)
    assert 90 < retry_after_s(format_datetime(soon, usegmt=True)) <= 100


# errors

KINDS = {
    400: ProtocolSurprise,
    401: Refused,
    403: Refused,
    404: NotFound,
    405: ProtocolSurprise,
    408: DoorBusy,
    409: ProtocolSurprise,
    410: NotFound,
    412: ProtocolSurprise,
    416: SourceChanged,
    418: ProtocolSurprise,
    429: RateLimited,
    431: Refused,
    500: DoorBusy,
    501: ProtocolSurprise,
    502: DoorBusy,
    503: DoorBusy,
    504: DoorBusy,
    505: ProtocolSurprise,
    507: NoSpace,
    599: ProtocolSurprise,
}


@pytest.mark.parametrize(("status", "kind"), KINDS.items())
def test_the_error_of_each_status(status, kind):
    headers = {"retry-after": "7"}
    for method in ("GET", "PROPFIND", "PUT", "BREW"):
        error = error_for(status, headers, "the reason", method=method, where=DOOR)
        assert type(error) is kind
        assert error.status == status
        assert error.where == DOOR
        assert error.said == f"{status} the reason"
        assert error.retry_after_s == (7.0 if kind in (DoorBusy, RateLimited) else None)
        assert "{" not in str(error)


def test_why_a_token_is_refused_is_told():
    headers = {
        "www-authenticate": 'Bearer error="invalid_token", error_description="no aud claim found"'
    }
    error = error_for(401, headers, "Unauthorized", method="GET", where=DOOR)
    assert error.said == "401 Unauthorized: no aud claim found"


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        # seen with dCache 11.2.5
        ("Internal problem: File is broken", Lost),
        ("Failed to read the file, because file is Broken.", Lost),
        ("Internal problem: java.lang.NullPointerException", StorageError),
        ('Cannot invoke "io.milton.Resource.authorise()" because "resource" is null', StorageError),
        ("Internal problem: PNFSID does not correspond to provided file.", StorageError),
        ("Directory is not empty: /cta/secret", StorageError),
        ("No pool candidates available/configured/left for stage", Nearline),
        ("Internal problem: denied activity MANAGE", Refused),  # until 10.2.13
        ("Internal problem: … ERROR: stack depth limit exceeded", NotFound),  # 12.0.1
        # what passes
        ("Internal problem: File upload not yet completed", DoorBusy),
        ("Internal problem: No write pools online for [net=127.0.0.1,protocol=Https/1]", DoorBusy),
        ("Failed to deliver PnfsGetFileAttributes message", DoorBusy),
        ("Route for >p1@pool1< not found at >core<", DoorBusy),
        ("Internal problem: Request to [>PoolManager@core] timed out.", DoorBusy),
    ],
)
def test_a_500_is_told_by_its_text(said, kind):
    error = error_for(500, {"retry-after": "7"}, said, method="DELETE", where=DOOR)
    assert type(error) is kind
    assert error.retryable is (kind is DoorBusy)
    assert error.retry_after_s == (7.0 if kind is DoorBusy else None)
    assert error.hint
    assert "{" not in str(error)


def test_a_500_of_storm_may_be_a_matter_of_the_token():
    error = error_for(500, {"server": "StoRM-WebDAV/x"}, "", method="PROPFIND", where=DOOR)
    assert type(error) is DoorBusy
    assert "token" in (error.hint or "")


def test_a_token_in_clear_is_told_as_such():
    said = "not allowed to send bearer token unencrypted"
    error = error_for(401, {}, said, method="GET", where=DOOR)
    assert type(error) is Refused
    assert "https" in (error.hint or "")


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("Forbidden", Refused),
        ("", Refused),
        ("File not online. Staging not allowed.", Nearline),
        ("FILE NOT ONLINE", Nearline),
        ("Read is forbidden for file with QoS policy nearline", Nearline),
        ("Permission denied online", Refused),
    ],
)
def test_a_403_of_a_file_on_tape(said, kind):
    error = error_for(403, {}, said, method="GET", where=DOOR)
    assert type(error) is kind
    assert error.status == 403


@pytest.mark.parametrize("status", [401, 404, 500])
def test_nearline_in_another_status_means_nothing(status):
    error = error_for(status, {}, "nearline", method="GET", where=DOOR)
    assert type(error) is KINDS[status]


@pytest.mark.parametrize(
    ("method", "word"),
    [
        ("GET", "read"),
        ("HEAD", "look at"),
        ("PROPFIND", "look at"),
        ("PUT", "write"),
        ("MKCOL", "make"),
        ("MOVE", "move"),
        ("DELETE", "remove"),
        ("COPY", "COPY"),
    ],
)
def test_a_403_says_what_was_not_allowed(method, word):
    error = error_for(403, {}, "", method=method, where=DOOR)
    assert f"Not allowed to {word} this ({method})" in str(error)
    assert error.said == "403"
    for reason in ("mode", "scopes", "macaroon"):
        assert reason in (error.hint or "")


def test_an_unexpected_answer_names_the_method():
    assert "Unexpected answer to MOVE" in str(error_for(400, {}, "", method="MOVE", where=DOOR))


def test_errors_hide_what_pools_put_into_addresses():
    error = error_for(500, {}, f"no such mover {POOL}", method="GET", where=POOL)
    assert "0f8f" not in f"{error} {vars(error)}"


@pytest.mark.parametrize(
    ("url", "in_clear"),
    [
        ("https://door:2880", False),
        ("http://door:2880", True),
        ("HTTP://10.0.0.1", True),
        ("http://localhost.evil.org", True),
        ("http://127.0.0.1:2880", False),
        ("http://127.1.2.3", False),
        ("http://[::1]:2880", False),
        ("http://LOCALHOST:2880/cta", False),
        ("http://door.localhost", False),
    ],
)
def test_what_can_be_read_on_its_way(url, in_clear):
    assert is_in_clear(url) is in_clear


@pytest.mark.parametrize(
    ("url", "env", "named"),
    [
        (DOOR, {}, None),
        (DOOR, {"https_proxy": "http://p:1"}, "https_proxy"),
        (DOOR, {"HTTPS_PROXY": "http://p:1"}, "HTTPS_PROXY"),
        (DOOR, {"http_proxy": "http://p:1"}, None),
        (DOOR, {"https_proxy": " "}, None),
        (DOOR, {"ALL_PROXY": "socks5h://p:1"}, "ALL_PROXY"),
        (DOOR, {"ALL_PROXY": "socks5h://p:1", "https_proxy": "http://p:1"}, "https_proxy"),
        (DOOR, {"https_proxy": "http://p:1", "NO_PROXY": "door"}, None),
        (DOOR, {"https_proxy": "http://p:1", "no_proxy": "*"}, None),
        (DOOR, {"https_proxy": "http://p:1", "no_proxy": "oor, or"}, "https_proxy"),
        (DOOR, {"https_proxy": "http://p:1", "no_proxy": ",, [, fd00::/8"}, "https_proxy"),
        ("https://a.cta.ch/", {"all_proxy": "http://p:1", "no_proxy": "cta.ch"}, None),
        ("https://a.cta.ch/", {"all_proxy": "http://p:1", "no_proxy": "x .CTA.ch y"}, None),
        ("https://acta.ch/", {"all_proxy": "http://p:1", "no_proxy": "cta.ch"}, "all_proxy"),
        ("http://127.0.0.1:1/", {"HTTP_PROXY": "http://p:1", "NO_PROXY": "127.0.0.0/8"}, None),
        ("http://10.1.2.3/", {"HTTP_PROXY": "http://p", "NO_PROXY": "127.0.0.0/8"}, "HTTP_PROXY"),
        ("http://[::1]:1/", {"HTTP_PROXY": "http://p:1", "NO_PROXY": "localhost,[::1]"}, None),
        ("http://[fd00::7]/", {"HTTP_PROXY": "http://p:1", "NO_PROXY": "fd00::/8,[::1]"}, None),
    ],
)
def test_the_proxy_for_an_address(url, env, named):
    found = proxy_for(url, env)
    assert (found.variable if found else None) == named


def test_a_proxy_without_a_scheme_speaks_http_and_shows_no_password():
    found = proxy_for(DOOR, {"https_proxy": "user:pass@p:1"})
    assert found is not None
    assert found.url == "http://user:pass@p:1"
    assert "pass" not in repr(found)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("12", 12),
        ("", None),
        ("-1", None),
        ("1.5", None),
        ("٣", None),
        ("9" * 18, 10**18 - 1),
        ("9" * 5000, None),
    ],
)
def test_a_number_of_bytes_is_one_that_a_file_can_have(text, number):
    assert size_bytes(text) == number
