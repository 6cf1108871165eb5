"""A sequence that Prefect takes for one thing."""

from __future__ import annotations

import pickle

import pytest

from ctaflows.flows import batches
from ctaflows.tracking.opaque import OpaqueSequence


def test_it_is_a_sequence() -> None:
    sealed = OpaqueSequence(n for n in "abc")
    assert len(sealed) == 3
    assert list(sealed) == ["a", "b", "c"]
    assert sealed[0] == "a"
    assert sealed[-1] == "c"
    assert sealed[1:] == ["b", "c"]
    assert "b" in sealed
    assert "d" not in sealed
    assert not OpaqueSequence()
    assert repr(sealed) == "('a', 'b', 'c')"


def test_it_is_equal_to_others_with_the_same_items() -> None:
    sealed = OpaqueSequence([1, 2])
    assert sealed == OpaqueSequence([1, 2])
    assert sealed == (1, 2)
    assert sealed == [1, 2]
    assert sealed != (2, 1)
    assert sealed != {1, 2}
    assert hash(sealed) == hash((1, 2))


def test_it_can_be_sent_to_another_process() -> None:
    assert pickle.loads(pickle.dumps(OpaqueSequence("ab"))) == ("a", "b")


def test_prefect_does_not_look_into_it() -> None:
    collections = pytest.importorskip("prefect.utilities.collections")
    seen: list[object] = []
    collections.visit_collection({"paths": OpaqueSequence(["a", "b"])}, seen.append)
    assert "a" not in seen
    assert len(seen) == 3  # the dict, its key, its value


@pytest.mark.parametrize(
    ("n_files", "here", "elsewhere"),
    [
        (0, 100, 100),
        (110, 100, 100),
        (1_600, 400, 100),
        (1_601, 401, 101),
        (10_000, 2_500, 625),
        (1_000_000, 4_000, 1_000),
    ],
)
def test_a_batch_has_a_share_of_the_files(
    n_files: int, here: int, elsewhere: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert batches.files_a_batch(n_files) == here
    monkeypatch.setattr(batches, "_is_in_process", lambda: False)
    assert batches.files_a_batch(n_files) == elsewhere
