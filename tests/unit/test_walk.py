"""Walks over trees that are made up: order, helpers, what is held, and how it all ends."""

from __future__ import annotations

import gc
import sys
import threading
import time
from types import SimpleNamespace

import pytest
from examples import settings
from hypothesis import given
from hypothesis import strategies as st

from ctaflows.errors import NotFound, Stopped
from ctaflows.model import Entry
from ctaflows.storage import listing
from ctaflows.storage.listing import ListingPermit, ListingSemaphore
from ctaflows.storage.paths import selected
from ctaflows.storage.walk import files_below, in_order, unless_excluded, walk, walk_batches

DEADLINE_S = 30


def wait_for(claim):
    deadline = time.monotonic() + DEADLINE_S
    while not claim():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.002)


def helpers():
    return [t for t in threading.enumerate() if t.name == "ctaflows-listing"]


def helpers_wait():
    """Do all helpers wait for the consumer?"""
    frames = sys._current_frames()
    tops = [frames[t.ident].f_code.co_name for t in helpers() if t.ident in frames]
    return bool(tops) and set(tops) == {"wait"}


class Tree:
    """A storage made of dicts: a name is that of a file (None) or of a directory (a dict)."""

    def __init__(self, tree, listings=2, batch=2):
        self.tree = tree
        self.settings = SimpleNamespace(listings=listings)
        self.batch = batch
        self.begun = []
        self.ended = []
        self.n_at_once = self.most_at_once = self.n_given = 0
        self.lock = threading.Lock()
        self.at = {}  # path to what is called before the directory is listed

    def normalise(self, path):
        return "/" + path.strip("/")

    def batches(self, path, *, stop=None):
        with self.lock:
            self.begun.append(path)
            self.n_at_once += 1
            self.most_at_once = max(self.most_at_once, self.n_at_once)
        try:
            if path in self.at:
                self.at[path](stop)
            found = self.tree
            for name in path.strip("/").split("/") if path != "/" else ():
                found = found[name]
            base = path.rstrip("/")
            entries = [Entry(f"{base}/{name}", is_dir=v is not None) for name, v in found.items()]
            for start in range(0, len(entries), self.batch):
                self.n_given += len(entries[start : start + self.batch])
                yield entries[start : start + self.batch]
        finally:
            with self.lock:
                self.n_at_once -= 1
                self.ended.append(path)


names = st.text("abc", min_size=1, max_size=2)
trees = st.recursive(
    st.dictionaries(names, st.none(), max_size=4),
    lambda inner: st.dictionaries(names, st.none() | inner, max_size=4),
    max_leaves=20,
)


def expected(tree, base="", *, ordered):
    """All paths, one directory after the other."""
    found = [f"{base}/{name}" for name in (sorted(tree) if ordered else tree)]
    for name in sorted(tree) if ordered else tree:
        if tree[name] is not None:
            found += expected(tree[name], f"{base}/{name}", ordered=ordered)
    return found


@given(trees, st.integers(1, 4), st.integers(1, 3), st.booleans())
@settings(max_examples=150, deadline=None)
def test_any_tree_in_its_order_whatever_the_number_of_listings(tree, listings, batch, ordered):
    storage = Tree(tree, listings, batch)
    found = [e.path for e in walk(storage, "/", ordered=ordered)]
    assert found == expected(tree, ordered=ordered)
    assert len(storage.begun) == len(set(storage.begun)), "each directory is listed once"
    assert storage.begun == [] or len(storage.ended) == len(storage.begun)


@given(trees, st.lists(st.sampled_from(["a", "b*", "*c", "a/b", "*/*", "?b"]), max_size=2))
@settings(max_examples=150, deadline=None)
def test_left_out_directories_are_spared_without_losing_a_file(tree, exclude):
    storage = Tree(tree)
    found = [e.path for e in files_below(storage, "/", ["*"], exclude)]
    every = [e.path for e in walk(Tree(tree), "/", ordered=True) if not e.is_dir]
    assert found == [p for p in every if selected(p[1:], ["*"], exclude)]
    enter = unless_excluded(exclude)
    assert all(enter(Entry(path)) for path in storage.begun if path != "/")


@pytest.mark.parametrize(
    ("exclude", "found", "listed"),
    [
        ("a", ["/d/a!"], ["/", "/d"]),
        ("a/b", ["/a/b/c", "/d/a!"], ["/", "/a", "/a/b", "/d"]),
        ("b", ["/d/a!"], ["/", "/a", "/d"]),
        ("*/*", [], ["/", "/a", "/a/b", "/d"]),
        ("*", [], ["/"]),
    ],
)
def test_only_a_name_that_fits_spares_a_directory(exclude, found, listed):
    storage = Tree({"a": {"b": {"c": None}}, "d": {"a!": None}})
    assert [e.path for e in files_below(storage, "/", exclude=[exclude])] == found
    assert sorted(storage.begun) == listed


def test_without_further_threads_each_directory_is_listed_in_its_turn(monkeypatch):
    def refuse(_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    tree = {"a": {"b": None, "c": {"d": None}}, "e": {}, "f": {"g": None}}
    found = [entry.path for entry in walk(Tree(tree), "/", ordered=True)]
    assert found == expected(tree, ordered=True)


def test_empty_directories_are_told():
    doubtful = []
    tree = {"full": {"f": None}, "empty": {}, "deep": {"empty": {}}}
    found = list(walk(Tree(tree), "/", on_empty=doubtful.append))
    assert len(found) == 5
    assert doubtful == ["/empty", "/deep/empty"]
    assert list(walk(Tree({}), "/", on_empty=doubtful.append)) == []
    assert doubtful[-1] == "/"


def test_entries_appear_before_the_listing_ends():
    storage = Tree({f"f{i}": None for i in range(10)})
    entries = walk(storage, "/")
    assert next(entries).path == "/f0"
    assert storage.ended == []
    entries.close()
    assert storage.ended == ["/"]


def test_directories_are_listed_ahead_of_their_turn_as_many_as_there_may_be():
    storage = Tree({f"d{i}": {"f": None} for i in range(6)}, listings=2)
    together = threading.Barrier(2)
    for i in range(6):
        storage.at[f"/d{i}"] = lambda stop: together.wait(DEADLINE_S)
    assert len(list(walk(storage, "/"))) == 12
    assert storage.most_at_once >= 2


def test_helpers_hold_no_more_than_they_may(monkeypatch):
    monkeypatch.setattr("ctaflows.storage.walk.HELD_ENTRIES", 100)
    tree = {f"d{i:02}": {f"f{j}": None for j in range(1000)} for i in range(20)}
    storage = Tree(tree, listings=3, batch=10)
    entries = walk(storage, "/")
    for _ in range(21):  # the root, and the first entry of the first directory
        next(entries)
    wait_for(helpers_wait)
    assert 2 <= len(storage.begun) <= 1 + 1 + 3
    assert storage.n_given <= 20 + 10 + 100 + 3 * 110
    assert len(list(entries)) == 20 + 20 * 1000 - 21
    wait_for(lambda: not helpers())


def test_many_empty_directories_ahead_count_too(monkeypatch):
    monkeypatch.setattr("ctaflows.storage.walk.HELD_ENTRIES", 50)
    storage = Tree({"first": {"f": None}, **{f"d{i}": {} for i in range(500)}}, listings=2)
    go_on = threading.Event()
    storage.at["/first"] = lambda stop: go_on.wait(DEADLINE_S)
    found = []
    reader = threading.Thread(target=lambda: found.extend(walk(storage, "/")))
    reader.start()
    wait_for(lambda: len(storage.begun) >= 50)
    wait_for(helpers_wait)
    assert len(storage.begun) <= 55
    go_on.set()
    reader.join(DEADLINE_S)
    assert len(found) == 502


@pytest.mark.parametrize("n_read", [0, 1, 15])
def test_a_consumer_that_stops_early_leaves_no_thread(n_read):
    tree = {f"d{i}": {f"f{j}": None for j in range(10)} for i in range(50)}
    storage = Tree(tree, listings=4)
    entries = walk(storage, "/")
    for _ in range(n_read + 50):
        next(entries)
    entries.close()
    assert not helpers()
    assert storage.n_at_once == 0


def test_a_consumer_that_forgets_the_walk_leaves_no_thread():
    storage = Tree({f"d{i}": {"f": None} for i in range(50)}, listings=4)
    entries = walk(storage, "/")
    for _ in range(60):
        next(entries)
    del entries
    gc.collect()
    wait_for(lambda: not helpers())


def test_a_consumer_that_fails_leaves_no_thread():
    storage = Tree({f"d{i}": {"f": None} for i in range(50)}, listings=4)

    def consume():
        for n, _ in enumerate(walk(storage, "/")):
            if n > 55:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        consume()
    gc.collect()
    wait_for(lambda: not helpers())


def test_helpers_that_wait_for_a_silent_door_do_not_hold_up_the_end():
    storage = Tree({f"d{i}": {"f": None} for i in range(5)}, listings=2)
    silent, asked = threading.Event(), threading.Event()

    def say_nothing(stop):
        asked.set()
        silent.wait(DEADLINE_S)

    for i in range(1, 5):
        storage.at[f"/d{i}"] = say_nothing
    entries = walk(storage, "/")
    for _ in range(6):
        next(entries)
    assert asked.wait(DEADLINE_S)
    began = time.monotonic()
    entries.close()
    assert time.monotonic() - began < 10
    assert all(t.daemon for t in helpers())
    silent.set()
    wait_for(lambda: not helpers())


@pytest.mark.parametrize("where", ["/d0", "/d1", "/d4"])
@pytest.mark.parametrize("listings", [1, 2])
def test_an_error_comes_in_its_turn_and_stops_the_rest(where, listings, monkeypatch):
    monkeypatch.setattr("ctaflows.storage.walk.HELD_ENTRIES", 50)
    storage = Tree({f"d{i}": {"f": None} for i in range(200)}, listings=listings)

    def fail(stop):
        raise NotFound("gone", where=where)

    storage.at[where] = fail
    entries, found = walk(storage, "/"), []

    def consume():
        for entry in entries:
            found.append(entry.path)  # noqa: PERF401  what came before the error is looked at

    with pytest.raises(NotFound):
        consume()
    assert found[200:] == [f"/d{i}/f" for i in range(int(where[2:]))]
    wait_for(lambda: not helpers())
    assert len(storage.begun) < 100


def test_after_an_error_nothing_is_begun_that_comes_later():
    storage = Tree({f"d{i}": {"f": None} for i in range(1000)}, listings=2)
    failed, go_on = threading.Event(), threading.Event()

    def fail(stop):
        failed.set()
        raise NotFound("gone")

    storage.at = {
        "/d0": lambda stop: go_on.wait(DEADLINE_S),
        "/d1": fail,
        "/d2": lambda stop: failed.wait(DEADLINE_S),
    }
    entries, caught = walk(storage, "/"), []

    def consume():
        with pytest.raises(NotFound) as why:
            list(entries)
        caught.append(why)

    reader = threading.Thread(target=consume)
    reader.start()
    assert failed.wait(DEADLINE_S)
    wait_for(lambda: len(helpers()) <= 1)  # one may be at d0
    assert len(storage.begun) < 500
    go_on.set()
    reader.join(DEADLINE_S)
    assert len(caught) == 1


def test_a_listing_in_one_piece_will_do():
    tree = {"a": {"b": None, "c": {}}, "d": {"e": None}, "f": None}

    class Service:
        settings = SimpleNamespace(listings=2)

        def normalise(self, path):
            return path

        def list(self, path):
            return (e for batch in Tree(tree).batches(path) for e in batch)

    assert [e.path for e in walk(Service(), "/")] == expected(tree, ordered=False)


def test_the_context_of_the_caller_is_that_of_the_helpers():
    import contextvars

    whose = contextvars.ContextVar("whose", default="nobody")
    seen = set()
    storage = Tree({f"d{i}": {"f": None} for i in range(5)}, listings=2)
    for i in range(5):
        storage.at[f"/d{i}"] = lambda stop: seen.add(whose.get())
    whose.set("mine")
    list(walk(storage, "/"))
    assert seen == {"mine"}


# order


@given(st.lists(st.lists(names, max_size=4), max_size=5), st.integers(0, 12))
@settings(deadline=None)
def test_few_entries_are_sorted_and_many_stream(batches, most):
    given_ = [[Entry(f"/{name}") for name in batch] for batch in batches]
    found = [e for batch in in_order(given_, most) for e in batch]
    every = [e for batch in given_ for e in batch]
    if len(every) <= most:
        assert found == sorted(every, key=lambda e: e.path)
    else:
        assert found == every


def test_no_more_than_the_limit_is_held():
    taken = []

    def batches():
        for i in range(100):
            taken.append(i)
            yield [Entry(f"/{i}")]

    found = in_order(batches(), 10)
    assert len(next(found)) == 11
    assert len(taken) == 11


def test_sub_directories_follow_in_the_order_in_which_they_were_shown():
    tree = {"b": {"y": None, "x": None}, "a": {"z": None}}
    flat = [[e.path for e in batch] for batch in walk_batches(Tree(tree, batch=9), "/", sort=2)]
    assert flat == [["/a", "/b"], ["/a/z"], ["/b/x", "/b/y"]]


# slots


def test_no_more_listings_than_slots():
    shared, lock = ListingSemaphore(2), threading.Lock()
    n_now, most = 0, 0

    def work():
        nonlocal n_now, most
        for _ in range(20):
            slot = ListingPermit()
            shared.acquire(slot)
            with lock:
                n_now += 1
                most = max(most, n_now)
            time.sleep(0.001)
            with lock:
                n_now -= 1
            shared.release(slot)

    threads = [threading.Thread(target=work) for _ in range(6)]
    [t.start() for t in threads]
    [t.join(DEADLINE_S) for t in threads]
    assert most == 2


def test_a_slot_that_is_lent_is_not_taken_at_once(monkeypatch):
    monkeypatch.setattr(listing, "RECLAIM_AFTER_S", 1000)
    shared = ListingSemaphore(1)
    mine, other, stop = ListingPermit(), ListingPermit(), threading.Event()
    shared.acquire(mine)
    shared.lend(mine)

    def wait():
        with pytest.raises(Stopped):
            shared.acquire(other, stop)

    waiting = threading.Thread(target=wait)
    waiting.start()
    shared.acquire(mine)
    assert (mine.is_held, other.is_held) == (True, False)
    stop.set()
    waiting.join(DEADLINE_S)
    assert not waiting.is_alive()


def test_a_slot_whose_reader_stays_away_goes_to_who_needs_it():
    shared = ListingSemaphore(1)
    mine, other = ListingPermit(), ListingPermit()
    shared.acquire(mine)
    shared.lend(mine)
    shared.acquire(other)
    assert (mine.is_held, other.is_held) == (False, True)
    shared.release(mine)  # no longer its own to give
    third, stop = ListingPermit(), threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        shared.acquire(third, stop)
    shared.release(other)
    shared.acquire(mine)
    assert mine.is_held


def test_giving_twice_makes_no_second_slot():
    shared, mine = ListingSemaphore(1), ListingPermit()
    shared.acquire(mine)
    shared.release(mine)
    shared.release(mine)
    shared.lend(mine)
    shared.acquire(mine)
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        shared.acquire(ListingPermit(), stop)


# -- symbolic links --------------------------------------------------------------------------------


class Linked(Tree):
    """A tree in which a name that ends in ``->`` is a link to a path; ids are made of paths."""

    def normalise(self, path):
        return "/" + path.strip("/")

    def real(self, path):
        """Follow the links of a path."""
        found, parts = "/", [part for part in path.split("/") if part]
        for part in parts:
            here = self.inside(found)
            found = here[f"{part} ->"] if f"{part} ->" in here else f"{found.rstrip('/')}/{part}"
        return found

    def inside(self, real):
        found = self.tree
        for name in [part for part in real.split("/") if part]:
            found = found[name]
        return found

    def tag(self, real):
        return f'"{real.encode().hex().upper():0>36}_1"'

    def stat(self, path):
        return Entry(path, is_dir=True, etag=self.tag(self.real(path)))

    def batches(self, path, *, stop=None):
        self.begun.append(path)
        for name, content in self.inside(self.real(path)).items():
            own = f"{path.rstrip('/')}/{name.removesuffix(' ->')}"
            if not name.endswith("->"):
                tag = self.tag(f"{self.real(path).rstrip('/')}/{name}")
                yield [Entry(own, is_dir=content is not None, etag=tag)]
            elif content is None:
                yield [Entry(own, link="nothing")]
            else:
                yield [Entry(own, etag=self.tag(content), link="directory")]


NIGHT = {
    "n": {
        "a ->": "/n/v1",
        "b ->": "/other",
        "c ->": "/other/sub",
        "d ->": None,
        "up ->": "/n",
        "v1": {"x": None, "again ->": "/n/v1"},
    },
    "other": {"y": None, "back ->": "/", "sub": {"z": None}},
}


def walked(tree, path, **how):
    links = []
    found = [e.path for e in walk(tree, path, on_link=links.append, **how)]
    return found, [link.path for link in links]


def test_links_to_directories_are_not_entered_and_told_unless_what_they_lead_to_is_listed():
    tree = Linked(NIGHT)
    found, told = walked(tree, "n", ordered=True)
    assert found == ["/n/a", "/n/b", "/n/c", "/n/d", "/n/up", "/n/v1", "/n/v1/again", "/n/v1/x"]
    assert tree.begun == ["/n", "/n/v1"]
    assert told == ["/n/b", "/n/c", "/n/d"]


def test_followed_links_lead_to_each_directory_once():
    tree = Linked(NIGHT)
    found, told = walked(tree, "n", ordered=True, follow=True)
    assert found[8:] == [
        *("/n/b/back", "/n/b/sub", "/n/b/y"),
        "/n/c/z",  # not below /n/b/sub as well
        # the root, of which all else is listed by now
        *("/n/b/back/n", "/n/b/back/other"),
    ]
    assert sorted(tree.begun) == ["/n", "/n/b", "/n/b/back", "/n/c", "/n/v1"]
    assert told == ["/n/d", "/n/b/sub", "/n/b/back/n", "/n/b/back/other"]


def test_which_links_are_followed_may_be_chosen():
    found, told = walked(Linked(NIGHT), "n", follow=lambda link: link.name == "c")
    assert "/n/c/z" in found
    assert told == ["/n/b", "/n/d"]


def test_excluded_links_are_neither_followed_nor_told():
    tree = Linked(NIGHT)
    entered = unless_excluded(["b", "d"])
    assert walked(tree, "n", follow=True, enter=entered)[1] == []
    assert "/n/b" not in tree.begun


def test_a_link_whose_target_can_t_be_told_apart_is_not_followed():
    class Untold(Linked):
        def tag(self, real):
            return "untold"

    assert walked(Untold(NIGHT), "n", follow=True)[1] == [
        *("/n/a", "/n/b", "/n/c", "/n/d", "/n/up", "/n/v1/again"),
    ]


def test_without_links_nothing_is_asked_for_them():
    tree = Linked({"n": {"v1": {"x": None}}})
    tree.stat = None
    assert walked(tree, "n", follow=True) == (["/n/v1", "/n/v1/x"], [])


def test_files_below_are_not_the_links_to_directories():
    assert [e.path for e in files_below(Linked(NIGHT), "n")] == ["/n/v1/x"]
