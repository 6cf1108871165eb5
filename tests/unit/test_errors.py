"""The error tree: exit codes, pickles, texts, and that no secret gets through."""

import copy
import pickle
from datetime import UTC, datetime

import cloudpickle
import pytest
from examples import settings
from hypothesis import example, given
from hypothesis import strategies as st

from ctaflows import errors
from ctaflows.errors import CtaflowsError, PartialFailure, Stopped, error_text, redact
from ctaflows.model import Checksum, Report, Transfer
from ctaflows.transport.messages import NotSent as _NotSent

EXIT_CODES = {
    "CtaflowsError": 1,
    "UsageError": 2,
    "NotFound": 3,
    "AlreadyExists": 4,
    "AuthError": 5,
    "TokenMissing": 5,
    "TokenExpired": 5,
    "LoginNeeded": 5,
    "Refused": 5,
    "FileOffline": 6,
    "Nearline": 6,
    "Staging": 6,
    "Lost": 6,
    "IntegrityError": 7,
    "SizeMismatch": 7,
    "ChecksumMismatch": 7,
    "Truncated": 7,
    "SourceChanged": 7,
    "NotHDF5": 7,
    "StorageError": 8,
    "DoorBusy": 8,
    "RateLimited": 8,
    "NoSpace": 8,
    "ListingUnreadable": 8,
    "ProtocolSurprise": 8,
    "NoRanges": 8,
    "NotTheFile": 8,
    "NetworkError": 9,
    "PartialFailure": 10,
    "Stopped": 130,
}
RETRYABLE = {"DoorBusy", "NetworkError", "NotTheFile", "RateLimited", "Staging"}
CLASSES = [getattr(errors, name) for name in EXIT_CODES]
PLAIN_CLASSES = [kind for kind in CLASSES if kind is not PartialFailure]
LOCAL_CLASSES = [_NotSent]

REPORT = Report(
    (
        Transfer("/a/1.h5", "1.h5", 10, 10, 0.5, Checksum("md5", "0" * 32), verified=True),
        Transfer("/a/2.h5", "2.h5", mtime=datetime(2024, 11, 14, tzinfo=UTC), error="Lost: gone"),
    ),
    seconds=1.5,
)


def full(kind, **more):
    """An error with every attribute set."""
    if kind is PartialFailure:
        more["report"] = REPORT
    return kind(
        "It broke",
        where="https://door:2880/cta/a",
        said="500 no pool",
        hint="Wait.",
        status=500,
        retry_after_s=7.5,
        **more,
    )


@pytest.mark.parametrize(("name", "code"), EXIT_CODES.items())
def test_exit_codes_are_those_of_the_tree(name, code):
    assert getattr(errors, name).exit_code == code
    assert getattr(errors, name).retryable == (name in RETRYABLE)


def test_the_table_has_every_class():
    found = {
        name
        for name, thing in vars(errors).items()
        if isinstance(thing, type) and issubclass(thing, CtaflowsError)
    }
    assert found == set(EXIT_CODES)


def test_the_docstring_has_every_class():
    assert errors.__doc__ is not None
    for name, code in EXIT_CODES.items():
        assert name in errors.__doc__
        assert str(code) in errors.__doc__


@pytest.mark.parametrize(("kind", "code"), [(Stopped, 130), (_NotSent, 9)])
def test_local_classes_have_their_exit_codes(kind, code):
    assert kind.exit_code == code


COPIES = {
    **{
        f"pickle{p}": lambda e, p=p: pickle.loads(pickle.dumps(e, p))
        for p in range(pickle.HIGHEST_PROTOCOL + 1)
    },
    "cloudpickle": lambda e: pickle.loads(cloudpickle.dumps(e)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


@pytest.mark.parametrize("kind", CLASSES + LOCAL_CLASSES)
def test_errors_survive_pickling_with_all_attributes(kind):
    error = full(kind)
    error.retryable = not kind.retryable  # set on one error only, as for a bad certificate
    error.add_note("seen by the flow")
    for how, copied in COPIES.items():
        back = copied(error)
        assert type(back) is kind, how
        assert vars(back) == vars(error), how
        assert back.retryable is not kind.retryable, how
        assert (back.what, back.where, back.said) == (error.what, error.where, error.said), how
        assert (back.hint, back.status, back.retry_after_s) == ("Wait.", 500, 7.5), how
        assert str(back) == str(error), how
        assert back.args == error.args, how
        assert error_text(back) == error_text(error), how


@pytest.mark.parametrize("how", COPIES)
def test_a_partial_failure_keeps_its_report(how):
    back = COPIES[how](PartialFailure.of(REPORT))
    assert back.report == REPORT
    assert back.report.failed[0].path == "/a/2.h5"


def test_a_class_with_arguments_of_its_own_survives_too():
    class Odd(CtaflowsError):
        def __init__(self, one, two):
            super().__init__(f"{one} and {two}")
            self.two = two

    back = pickle.loads(cloudpickle.dumps(Odd(1, two=2)))
    assert (str(back), back.two) == ("1 and 2", 2)


@pytest.mark.parametrize(
    ("given_", "text"),
    [
        ({}, "It broke"),
        ({"where": "/a"}, "It broke: /a"),
        ({"said": "no"}, "It broke (said: no)"),
        ({"where": "/a", "said": "no"}, "It broke: /a (said: no)"),
        ({"where": "", "said": ""}, "It broke"),
        ({"where": "/a", "hint": "Wait.", "status": 500}, "It broke: /a"),
    ],
)
def test_str_is_what_where_and_said(given_, text):
    error = CtaflowsError("It broke", **given_)
    assert str(error) == text
    assert error.args == (text,)
    assert error_text(error) == f"CtaflowsError: {text}"


@pytest.mark.parametrize("kind", PLAIN_CLASSES + LOCAL_CLASSES)
def test_a_hint_given_wins_over_the_class_s_own(kind):
    assert kind("It broke").hint == kind.default_hint
    assert kind("It broke", hint="").hint == kind.default_hint
    assert kind("It broke", hint="Do this.").hint == "Do this."


def test_token_errors_say_what_to_do():
    for kind in (errors.TokenMissing, errors.TokenExpired, errors.LoginNeeded):
        assert kind("Gone").hint


def test_partial_failure_counts_and_names_the_first():
    error = PartialFailure.of(REPORT)
    assert str(error) == "1 of 2 files failed, the first: /a/2.h5: Lost: gone"
    assert error.report is REPORT
    assert error.hint
    assert PartialFailure.of(REPORT, hint="Again.").hint == "Again."


def test_error_text_of_a_foreign_error_is_redacted():
    text = error_text(OSError("can't read https://p/x?authz=abcdefghij"))
    assert text == "OSError: can't read https://p/x"


# redact

B64TOKEN = st.text(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/", min_size=16, max_size=90
)
URL_SAFE = st.text(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", min_size=16, max_size=90
)
BEARER_PLACES = [
    "Authorization: Bearer {}",
    "authorization: bearer  {}",
    "headers {{'Authorization': 'Bearer {}'}}",
    'curl -H "Authorization: Bearer {}" https://door/',
    "TransferHeaderAuthorization: Bearer {}\nOverwrite: T",
    "Authorization: Basic {}==",
    "BEARER {}",
]
QUERY_PLACES = [
    "https://door:2880/cta/a?authz={}",
    "https://door:2880/cta/a?x=1&authz={}&y=2",
    "https://door:2880/cta/a?authz=Bearer%20{}",
    "https://door/a?authz=first&authz={}",
    "https://pool:21000/cta/a?dcache-http-uuid={}&dcache-http-ref=https%3A%2F%2Fdoor",
    "<a href='https://pool/a?DCACHE-HTTP-UUID={}'>",
    "grant_type=refresh_token&refresh_token={}",
    "client_id=me&client_secret={}&scope=openid",
    "https://x/cb#access_token={}",
    'see "refresh_token={}"',
]
USERINFO_PLACES = [
    "https://user:{}@door:2880/cta",
    "http://{}@door/",
    "HTTPS://{}:x@door/",
    "from https://a/ to https://user:{}@b/",
    "https://:{}@door/",
]
OTHER_SCHEMES = ["davs://user:{}@door/", "dav://{}@door/", "socks5://user:{}@proxy:1080"]


def _is_new(token):
    """Hypothesis also tries words of our own source: those stand in the places anyway."""
    return not any(token in place for place in BEARER_PLACES + QUERY_PLACES + USERINFO_PLACES)


@given(B64TOKEN.filter(_is_new))
@example("a" * 16)
@example("0f8fad5b-d9cb-469f-a165-70867728950e")
def test_bearer_tokens_never_survive(token):
    for place in BEARER_PLACES:
        assert token not in redact(place.format(token)), place


@given(B64TOKEN.filter(_is_new))
@example("%2B%2F%3D==%20abcdefgh")
def test_secrets_in_queries_and_forms_never_survive(token):
    for place in QUERY_PLACES:
        assert token not in redact(place.format(token)), place


@given(URL_SAFE.filter(_is_new))
@example("p%40ss%2Fword-and-more")
def test_userinfo_never_survives(token):
    for place in USERINFO_PLACES:
        text = redact(place.format(token))
        assert token not in text, place
        assert "@" in text


@pytest.mark.parametrize("place", OTHER_SCHEMES)
def test_userinfo_of_other_schemes_does_not_survive(place):
    assert "hunter2hunter2" not in redact(place.format("hunter2hunter2"))


def test_a_password_with_an_at_sign_does_not_survive():
    # urllib takes all up to the last @ for userinfo
    assert "secondhalf" not in redact("https://user:first@secondhalf@door/cta")


@pytest.mark.parametrize(
    "place",
    [
        "{}",
        "token {} is bad",
        "('{}',)",
        "token={}",
        '{{"access_token": "{}"}}',
        "https://x/?t=Bearer%20{}",
        "https://x/?t=%22{}%22",
        "bt_{}",
        "id{}",
    ],
)
@given(header=URL_SAFE, payload=URL_SAFE, signature=URL_SAFE | st.just(""))
@settings(max_examples=40)
def test_a_jwt_never_survives(place, header, payload, signature):
    text = redact(place.format(f"eyJ{header}.{payload}.{signature}"))
    assert payload not in text
    assert not signature or signature not in text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "There is nothing at this path: https://door:2880/cta/DL1/20241114/v0.1",
        "/cta/DL1/20241114/v0.1/tailcut84/dl1_LST-1.Run11111.0000.h5",
        "What stands there is no bearer token",
        "https://door:2880/a@b/c",
        "mail me@example.org",
        "eyJ is how tokens begin",
        "authz is a key, dcache-http-uuid another, client_secret a third",
        "adler32:03da0195 promised, 11111111 came",
        "naïve – “quoted” … ✓",
        "Basic or Bearer?",
        "a=b&c=d",
    ],
)
def test_ordinary_text_is_left_alone(text):
    assert redact(text) == text


@given(st.text(max_size=80))
@example("https://u:p@h/?authz=abc Bearer abcdefghijk eyJabcdef.gh.ij")
def test_redacting_twice_changes_nothing_more(text):
    assert redact(redact(text)) == redact(text)


@pytest.mark.parametrize("piece", ["a.", "a-b@", "bearer ", "https://", "authz=&", "x://"])
@pytest.mark.timeout(60)
def test_long_texts_end(piece):
    # tracebacks and log lines pass through as well; where time grows with the square, this long
    # text takes ten minutes and more
    text = piece * (400_000 // len(piece))
    assert len(redact(text)) > 0


def test_what_is_not_secret_stays():
    assert redact("grant_type=x&refresh_token=abcd&scope=y") == (
        "grant_type=x&refresh_token=[redacted]&scope=y"
    )
    assert redact("https://user:pw@door:2880/cta") == "https://[redacted]@door:2880/cta"


@given(
    st.sampled_from(PLAIN_CLASSES + LOCAL_CLASSES),
    URL_SAFE.filter(_is_new),
    st.sampled_from(BEARER_PLACES + QUERY_PLACES + USERINFO_PLACES),
)
@settings(max_examples=150)
def test_no_error_holds_a_token_that_was_given_to_it(kind, token, place):
    secret = place.format(token)
    error = kind(secret, where=secret, said=secret, hint=secret)
    seen = f"{error} {error!r} {error.args} {vars(error)} {error_text(error)}"
    assert token not in seen


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("to https://p:1094/cta/a.h5?xrdhttptk=0a1b&xrdhttptime=1", "to https://p:1094/cta/a.h5"),
        ("https://s3/b/a.h5?X-Amz-Signature=0a1b2c and more", "https://s3/b/a.h5 and more"),
        ("https://door/a?type=metalink&x=1", "https://door/a"),
        ("https://door/a#key", "https://door/a"),
        ("https://door?a", "https://door"),
        ("There is no file: run?id=5.txt: no", "There is no file: run?id=5.txt: no"),
        ("https://door/a#b.h5: it failed", "https://door/a: it failed"),
        ("https://pool/with blank/a.h5?sig=abc", "https://pool/with blank/a.h5"),
        ("https://user:pa?ss@door/cta?x=y", "https://[redacted]@door/cta"),
        ("/cta/what? no=1", "/cta/what? no=1"),
    ],
)
def test_no_query_and_no_fragment_of_a_url_is_shown(text, shown):
    assert redact(text) == shown


@pytest.fixture
def opaque():
    """A token that looks like any other word, as this process holds one."""
    secret = "AgMDMjM/x+y_0Z="
    errors.register_secret(secret)
    return secret


@pytest.mark.parametrize(
    "said",
    [
        "I do not like {}",
        "token {}is no macaroon",
        "at=%22{percent}%22",
        "at={plus}&x=y",
        '{{"got": "{json}"}}',
        "{}{}{}",
    ],
)
def test_a_secret_of_this_process_is_never_shown_however_it_looks(opaque, said):
    forms = {
        "percent": "AgMDMjM%2Fx%2By_0Z%3D",
        "plus": "AgMDMjM/x%2By_0Z%3D",
        "json": opaque.replace("/", r"\/"),
    }
    error = CtaflowsError(
        said.format(*[opaque] * 3, **forms), hint=said.format(*[opaque] * 3, **forms)
    )
    assert "MDMjM" not in f"{error} {error.hint} {error!r}"
    assert "[redacted]" in str(error)


def test_a_secret_is_not_shown_in_part_where_a_text_was_cut(opaque):
    for n in range(8, len(opaque)):
        assert redact(f"read {opaque[:n]}") == "read [redacted]"
    error = CtaflowsError("It broke", said="." * 290 + opaque)
    assert error.said == "." * 290 + "[redacted]"


def test_a_long_answer_is_shown_in_part():
    assert CtaflowsError("It broke", said="x" * 1000).said == "x" * 300


def test_texts_that_are_set_later_are_shown_by_the_same_rule(opaque):
    error = CtaflowsError("It broke", where="/a")
    error.said, error.where = f"no {opaque}", "https://door/a?b=c"
    assert str(error) == "It broke: https://door/a (said: no [redacted])"
    assert error.args == (str(error),)


def test_no_control_character_gets_through():
    error = CtaflowsError("a\x1b[2J", where="b\x07\nc", said="d\r\ne", hint="f\x9bg \udce9")
    seen = f"{error} {error.hint} {error!r}"
    assert seen.isprintable()
    assert "\\x" not in seen


def test_what_is_known_of_secrets_is_not_in_a_repr(opaque):
    kept = errors._secrets
    assert opaque not in f"{kept!r} {kept} {getattr(kept, '__dict__', '')}"


def test_short_words_and_nothing_are_no_secrets():
    for word in ("", "user", None):
        errors.register_secret(word)
    assert redact("the user has a name") == "the user has a name"


def test_of_a_process_that_renews_for_ever_only_the_newest_tokens_are_known(opaque):
    for n in range(1000):
        errors.register_secret(f"renewed-token-{n:04d}")
        errors.register_secret(opaque)  # in use all the time
    assert redact("renewed-token-0999") == "[redacted]"
    assert redact(opaque) == "[redacted]"
    assert len(errors._secrets._forms) <= 200


@pytest.mark.parametrize("kind", CLASSES + LOCAL_CLASSES)
def test_no_class_shows_a_token_of_where(kind):
    more = {"report": REPORT} if kind is PartialFailure else {}
    for place in BEARER_PLACES + QUERY_PLACES + USERINFO_PLACES:
        error = kind("It broke", where=place.format("s3cr3t-s3cr3t-s3cr3t"), **more)
        assert "s3cr3t-s3cr3t" not in f"{error} {error!r} {vars(error)}", place
