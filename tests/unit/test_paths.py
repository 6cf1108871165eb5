"""Paths at a door: read, written, and never out of their place."""

import os
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from examples import settings
from hypothesis import assume, example, given
from hypothesis import strategies as st

from ctaflows.errors import CtaflowsError, ProtocolSurprise, UsageError
from ctaflows.storage.paths import (
    child,
    common_parent,
    is_safe_name,
    local_path,
    normalise,
    root_of,
    selected,
    url,
)

DOOR = "https://door.example.org:2880"

names = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=60
).filter(lambda n: n not in (".", "..") and len(n.encode()) <= 255)
printable_names = names.filter(str.isprintable)
PARENTS = ["/", "/cta", "/cta/DL1 x/20241114", "/100%/a&b", "/ä/+"]
ODD_NAMES = [
    "100%",
    "%41.h5",
    "%2e%2e",
    "a&b",
    "a#b",
    "a?b=c",
    "a b",
    "a+b",
    " ",
    "...",
    "~",
    "\\",
    "a:b",
    "C:",
    "a;b,c=d",
    "日本語.h5",
    "é",
    "e\u0301",
    "😀",
    "a\u2028b",
    "a\nb",
    "'\"<>",
    "x" * 255,
]


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("", "/"),
        ("/", "/"),
        (".", "/"),
        ("cta", "/cta"),
        ("/cta/", "/cta"),
        ("//cta///DL1//", "/cta/DL1"),
        ("./cta/./DL1", "/cta/DL1"),
        ("a..b/...", "/a..b/..."),
        ("a%2Fb", "/a%2Fb"),
        ("a b+c", "/a b+c"),
        (" a ", "/ a "),
        (f"{DOOR}", "/"),
        (f"{DOOR}/", "/"),
        (f"{DOOR}/cta/DL1/", "/cta/DL1"),
        (f"{DOOR}/a%20b%25/c+d", "/a b%/c+d"),
        (f"{DOOR}/%E6%97%A5", "/日"),
        ("https://DOOR.example.org:2880/a", "/a"),
        (f"{DOOR}/a?b#c", "/a"),
        ("httpsx", "/httpsx"),
    ],
)
def test_normalise(text, path):
    assert normalise(text, DOOR) == path
    assert normalise(path, DOOR) == path


AREA = f"{DOOR}/st%C3%B6rm/a"


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("x", "/x"),
        ("/störm/a/x", "/störm/a/x"),
        (AREA, "/"),
        (f"{AREA}/", "/"),
        (f"{AREA}/x%20y/", "/x y"),
        (f"{DOOR}/störm/a/x", "/x"),
    ],
)
def test_paths_are_relative_to_the_path_of_the_door(text, path):
    assert normalise(text, AREA) == path
    assert normalise(url(AREA, path), AREA) == path
    assert url(AREA, "/x y") == f"{AREA}/x%20y"


@pytest.mark.parametrize("text", [DOOR, f"{DOOR}/st%C3%B6rm/ab", f"{AREA}/../b", f"{DOOR}/x"])
def test_addresses_beside_the_path_of_the_door_are_refused(text):
    with pytest.raises(UsageError):
        normalise(text, AREA)


@pytest.mark.parametrize(
    ("parent", "href", "path"),
    [
        ("/", "/st%C3%B6rm/a/", None),
        ("/", "/st%C3%B6rm/a", None),
        ("/", "/st%C3%B6rm/a/x", "/x"),
        ("/x", f"{AREA}/x/", None),
        ("/x", f"{AREA}/x/y%20z", "/x/y z"),
    ],
)
def test_names_in_listings_of_a_door_with_a_path(parent, href, path):
    assert child(parent, href, root_of(AREA)) == path


@pytest.mark.parametrize("href", ["/x/y", "/st%C3%B6rm/a/y", "/st%C3%B6rm/x/y", "/"])
def test_names_beside_the_path_of_the_door(href):
    with pytest.raises(ProtocolSurprise):
        child("/x", href, root_of(AREA))


def test_the_default_port_may_be_written_or_not():
    assert normalise("https://door:443/a", "https://door") == "/a"
    assert normalise("https://door/a", "https://door:443") == "/a"


@pytest.mark.parametrize(
    "text",
    [
        "..",
        "/a/../b",
        "a/..",
        "a\0b",
        "a\nb",
        "a\x7fb",
        "a\x1b[2Jb",
        f"{DOOR}/a/%2e%2e/b",
        f"{DOOR}/a/%2E%2E%2Fb",
        f"{DOOR}/a%00b",
        "https://evil.example.org:2880/a",
        "http://door.example.org:2880/a",
        "https://door.example.org/a",
        "https://door.example.org:2881/a",
        "https://door.example.org:2880@evil.org/a",
        "https://door.example.org:2880.evil.org/a",
        "https://door.example.org:port/a",
        "https://door.example.org:99999999/a",
        "https://[::1/a",
        "https://",
    ],
)
def test_normalise_refuses(text):
    with pytest.raises(UsageError):
        normalise(text, DOOR)


def test_an_argument_on_a_terminal_without_letters_is_the_same_path():
    assert normalise("/cta/n\udcc3\udca9.h5", DOOR) == "/cta/né.h5"
    assert normalise("/cta/\udcff.h5", DOOR) == "/cta/\udcff.h5"
    with pytest.raises(UsageError):
        normalise("/cta/\ud800", DOOR)


@pytest.mark.parametrize("name", ["a\u00a0b", "a\u3000b", "a\u2009b"])
def test_a_name_with_another_kind_of_space_can_be_asked_for(name):
    # a listing gives it, so it must be possible to get it
    path = child("/cta", f"/cta/{name}")
    assert normalise(path, DOOR) == f"/cta/{name}"


@given(printable_names, st.sampled_from(PARENTS))
def test_what_a_listing_gives_can_be_asked_for(name, parent):
    path = child(parent, urlsplit(url(DOOR, parent.rstrip("/") + "/" + name)).path)
    assert normalise(path, DOOR) == path
    assert normalise(url(DOOR, path), DOOR) == path


@given(st.text(max_size=40))
@example("https://door.example.org:2880:x")
@example("http://[")
def test_normalise_gives_a_clean_path_or_a_usage_error(text):
    try:
        path = normalise(text, DOOR)
    except UsageError:
        return
    assert path.startswith("/")
    assert path == "/" or not path.endswith("/")
    assert "//" not in path
    assert not {".", ".."} & set(path.split("/"))


def round_trip(name, parent):
    path = parent.rstrip("/") + "/" + name
    there = url(DOOR, path)
    parts = urlsplit(there)
    assert there.isascii()
    assert (parts.scheme, parts.netloc, parts.query, parts.fragment) == (
        "https",
        "door.example.org:2880",
        "",
        "",
    )
    for href in (there, parts.path, there + "/", parts.path + "/"):
        assert child(parent, href) == path
    assert child(path, parts.path) is None
    assert child(path, parts.path + "/") is None


@given(names, st.sampled_from(PARENTS))
def test_url_and_child_are_each_other_s_inverse(name, parent):
    round_trip(name, parent)


@pytest.mark.parametrize("name", ODD_NAMES)
def test_url_and_child_with_odd_names(name):
    for parent in PARENTS:
        round_trip(name, parent)


def test_names_that_are_not_utf8_keep_their_bytes():
    path = child("/a", "/a/%E9%FF.h5")
    assert os.fsencode(path) == b"/a/\xe9\xff.h5"
    assert url(DOOR, path) == f"{DOOR}/a/%E9%FF.h5"


@pytest.mark.parametrize(
    ("parent", "href", "path"),
    [
        ("/a", "/a", None),
        ("/a", "/a/", None),
        ("/a", "/a//", None),
        ("/a", "/%61/", None),
        ("/e%41", "/e%41", None),
        ("/", "/", None),
        ("/a", f"{DOOR}/a/", None),
        ("/", "/x", "/x"),
        ("/", "/x/", "/x"),
        ("/a", "/a/x%26y", "/a/x&y"),
        ("/a", "/a/x&y", "/a/x&y"),
        ("/a b", "/a%20b/c", "/a b/c"),
        ("/a", "/a/%252e", "/a/%2e"),
        ("/a", "/a/x+y", "/a/x+y"),
        ("/a", "/a/x?y", "/a/x?y"),
        ("/a", "http://10.0.0.1:1/a/x", "/a/x"),
        ("/a", "/a/..x", "/a/..x"),
    ],
)
def test_hrefs(parent, href, path):
    assert child(parent, href) == path


@pytest.mark.parametrize(
    "href",
    [
        "",
        "b",
        "x",
        "/",
        "/ab",
        "/b/c",
        "/a/b/c",
        "/a/..",
        "/a/../b",
        "/a/.",
        "/a/%2e%2e",
        "/a/%2E%2E/",
        "/a/..%2Fb",
        "/a/b%2Fc",
        "/a/%2Fetc%2Fpasswd",
        "/a//b",
        "//a/b",
        "/a/b%00",
        "/a/\0",
        "/A/b",
        "../a/b",
        "http://[bad/a/b",
        "https://door/b/c",
        "file:///etc/passwd",
        "/a/" + "x" * 256,
        "/a/" + "%C3%A9" * 128,
    ],
)
def test_hostile_hrefs_are_refused(href):
    with pytest.raises(ProtocolSurprise):
        child("/a", href)


@given(st.text(max_size=40) | st.text("./%2eEfF\\ab", max_size=20), st.sampled_from(["/", "/a"]))
def test_no_href_leads_out_of_its_directory(tail, parent):
    for href in (tail, f"{parent}/{tail}", f"https://x{parent}/{tail}"):
        try:
            path = child(parent, href)
        except ProtocolSurprise:
            continue
        if path is not None:
            assert path.rpartition("/")[0] == parent.rstrip("/")
            assert is_safe_name(path.rpartition("/")[2])


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/", "a\0", "x" * 256, "é" * 128])
def test_unsafe_names(name):
    assert not is_safe_name(name)


@pytest.mark.parametrize("name", [*ODD_NAMES, "é" * 127, "\udce9", "-rf"])
def test_safe_names(name):
    assert is_safe_name(name)


@pytest.mark.parametrize(
    ("path", "base", "relative"),
    [
        ("/a/b", "/a", "b"),
        ("/a/b/c", "/a", "b/c"),
        ("/a/b/c", "/", "a/b/c"),
        ("/a/b/c", "/a/", "b/c"),
    ],
)
def test_local_path(path, base, relative):
    assert local_path(path, base, Path("dest")) == Path("dest") / relative


@pytest.mark.parametrize(
    ("path", "base"),
    [
        ("/a", "/a"),
        ("/a/", "/a"),
        ("/ab/c", "/a"),
        ("/b", "/a"),
        ("/a/../b", "/a"),
        ("/a/b/../../c", "/a"),
        ("/a//etc/passwd", "/a"),
        ("/a/./b", "/a"),
        ("/a/b\0", "/a"),
        ("a/b", "/a"),
        ("", "/"),
        ("/", "/"),
        ("/a/" + "x" * 256, "/a"),
    ],
)
def test_local_path_refuses(path, base):
    with pytest.raises(ProtocolSurprise):
        local_path(path, base, Path("dest"))


@given(
    st.text("/.ab\0 ", max_size=20) | st.text(max_size=30),
    st.sampled_from(["/", "/a", "/a/b"]),
)
def test_local_path_never_leaves_the_destination(tail, base):
    dest = Path("/some/where")
    for path in (tail, f"{base}/{tail}", base + tail):
        try:
            local = local_path(path, base, dest)
        except ProtocolSurprise:
            continue
        clean = Path(os.path.normpath(local))
        assert clean == local
        assert dest in clean.parents


TREE = "tailcut84/dl1_LST-1.Run11111.0000.h5"


@pytest.mark.parametrize(
    ("name", "include", "exclude", "wanted"),
    [
        (TREE, [], [], True),
        (TREE, ["*.h5"], [], True),
        (TREE, ["*.fits"], [], False),
        (TREE, ["*.fits", "*.h5"], [], True),
        (TREE, ["dl1_*"], [], True),
        (TREE, ["tailcut84"], [], True),
        (TREE, ["tailcut*"], [], True),
        (TREE, ["tailcut"], [], False),
        (TREE, ["tailcut84/dl1*"], [], True),
        (TREE, ["tailcut85/dl1*"], [], False),
        (TREE, ["*Run11111*"], [], True),
        (TREE, ["*Run1111[02]*"], [], False),
        (TREE, ["DL1_*"], [], False),
        (TREE, [], ["*.h5"], False),
        (TREE, [], ["tailcut84"], False),
        (TREE, [], ["datacheck"], True),
        (TREE, ["*.h5"], ["*0000*"], False),
        (TREE, ["*.h5"], ["*0001*"], True),
        ("datacheck/x.pdf", [], ["datacheck"], False),
        ("a/datacheck/b/x.pdf", [], ["datacheck"], False),
        ("datacheck_x.pdf", [], ["datacheck"], True),
        ("x.h5", ["x.h5"], [], True),
        ("sub/x.h5", ["x.h5"], [], True),
        ("x[1].h5", ["x[[]1].h5"], [], True),
        ("x.h5", [""], [], False),
        ("x.h5", [], [""], True),
    ],
)
def test_selected(name, include, exclude, wanted):
    assert selected(name, include, exclude) is wanted
    assert selected(name, tuple(include), tuple(exclude)) is wanted


@pytest.mark.parametrize(
    ("paths", "parent"),
    [
        ([], "/"),
        (["/a"], "/"),
        (["/a", "/b"], "/"),
        (["/a/b"], "/a"),
        (["/a/b", "/a/c"], "/a"),
        (["/a/b/c", "/a/b"], "/a"),
        (["/a/bc/x", "/a/bd/x"], "/a"),
        (["/a/b/c", "/a/b/c"], "/a/b"),
        (["/ab/x", "/a/x"], "/"),
    ],
)
def test_common_parent(paths, parent):
    assert common_parent(paths) == parent
    assert common_parent(reversed(paths)) == parent
    assert common_parent(iter(paths)) == parent


@given(st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=5), min_size=1, max_size=5))
def test_the_common_parent_holds_all_and_none_deeper_does(split):
    paths = ["/" + "/".join(parts) for parts in split]
    parent = common_parent(paths)
    base = parent.rstrip("/") + "/"
    assert all(p.startswith(base) for p in paths)
    deeper = {p[len(base) :].partition("/")[0] for p in paths if "/" in p[len(base) :]}
    assert len(deeper) != 1 or any("/" not in p[len(base) :] for p in paths)


@given(st.lists(names, min_size=1, max_size=3), st.lists(names, min_size=0, max_size=3))
@settings(max_examples=40)
def test_local_path_keeps_the_tree(below, above):
    assume(len("/".join(below)) < 4000)
    base = "/" + "/".join(above)
    local = local_path(base.rstrip("/") + "/" + "/".join(below), base, Path("/d"))
    assert local == Path("/d").joinpath(*below)
    assert issubclass(ProtocolSurprise, CtaflowsError)
