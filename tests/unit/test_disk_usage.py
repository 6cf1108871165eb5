"""Sums over trees: each directory has all that is below it, whatever is told apart."""

from __future__ import annotations

import pytest
from examples import settings
from hypothesis import given
from hypothesis import strategies as st

from ctaflows.model import Entry
from ctaflows.storage.search import Tally, Usage

NAMES = st.lists(st.sampled_from(["a", "b", "a!", "é"]), min_size=1, max_size=4).map(tuple)


def entries_of(files, root):
    """The files' entries and those of all directories on the way."""
    base = root.rstrip("/")
    folders = {parts[:n] for parts in files for n in range(1, len(parts))}
    files = {parts: size for parts, size in files.items() if parts not in folders}
    entries = [Entry(f"{base}/{'/'.join(p)}", is_dir=True) for p in sorted(folders)]
    entries += [Entry(f"{base}/{'/'.join(p)}", size_bytes=s) for p, s in files.items()]
    return entries


@given(
    st.dictionaries(NAMES, st.none() | st.integers(0, 10**12), max_size=12),
    st.sampled_from(["/", "/x", "/x/y z"]),
    st.none() | st.integers(0, 4),
)
@settings(deadline=None)
def test_each_directory_has_all_below_it(files, root, depth):
    entries = entries_of(files, root)
    tally = Tally(root, depth)
    for i in range(0, len(entries), 3):
        tally.add(entries[i : i + 3])
    usages = tally.usages()
    base = root.rstrip("/")

    def level(path):
        return 0 if path == root else path.removeprefix(base).count("/")

    folders = [root] + [e.path for e in entries if e.is_dir]
    assert {u.path for u in usages} == {p for p in folders if depth is None or level(p) <= depth}
    for usage in usages:
        below = [e for e in entries if e.path.startswith(usage.path.rstrip("/") + "/")]
        files_ = [e for e in below if not e.is_dir]
        assert usage.size_bytes == sum(e.size_bytes or 0 for e in files_)
        assert usage.n_files == len(files_)
        assert usage.n_dirs == len(below) - len(files_)
        assert usage.n_unknown == sum(e.size_bytes is None for e in files_)
    order = [u.path for u in usages]
    assert order[-1] == root
    for above in order:
        below = [p for p in order if p != above and p.startswith(above.rstrip("/") + "/")]
        assert all(order.index(p) < order.index(above) for p in below)


def test_a_file_is_its_own_sum():
    tally = Tally("/x/f")
    tally.add([Entry("/x/f", size_bytes=5)])
    assert tally.usages() == [Usage("/x/f", 5, 1)]


def test_only_directories_are_remembered():
    tally = Tally("/x", depth=1)
    for i in range(50):
        tally.add([Entry(f"/x/{i}", is_dir=True), Entry(f"/x/{i}/d", is_dir=True)])
        tally.add([Entry(f"/x/{i}/d/{j}", size_bytes=1) for j in range(100)])
    assert len(tally._sums) == 51
    assert tally.usages()[-1] == Usage("/x", 5000, 5000, 100)


@pytest.mark.parametrize("twice", [False, True])
def test_asking_does_not_change_the_sums(twice):
    tally = Tally("/x")
    tally.add([Entry("/x/d", is_dir=True), Entry("/x/d/f", size_bytes=1)])
    if twice:
        tally.usages()
    assert [u.size_bytes for u in tally.usages()] == [1, 1]
