"""A sequence whose items Prefect does not visit.

Prefect searches the lists, tuples, dicts and dataclasses among a task's arguments and a flow's
results for futures, recursively (prefect 3.9.1, utilities/collections.py: visit_collection): 0.1 ms
for each file's record, twice for a batch, once more for a night.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar, overload

T = TypeVar("T")


class OpaqueSequence(Sequence[T]):
    """An immutable sequence that is neither list nor tuple, but equal to those with the same items.

    Parameters
    ----------
    items : iterable
        The items; by default there are none.
    """

    __slots__ = ("_items",)

    def __init__(self, items: Iterable[T] = ()) -> None:
        self._items = tuple(items)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> OpaqueSequence[T]: ...
    def __getitem__(self, index: int | slice) -> T | OpaqueSequence[T]:
        if isinstance(index, slice):
            return OpaqueSequence(self._items[index])
        return self._items[index]

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[T]:
        return iter(self._items)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, (OpaqueSequence, list, tuple)):
            return self._items == tuple(other)
        return NotImplemented

    def __hash__(self) -> int:
        return hash(self._items)

    def __repr__(self) -> str:
        return repr(self._items)
