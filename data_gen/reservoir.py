"""Samples and counts of a stream in flat memory, the same whatever the order of the rows.

A name is drawn by its hash: those with the smallest hashes stay. The bar only ever falls, so all
members of a group that stays in the end have been kept, neighbours or not.
"""

import heapq
from typing import Generic, TypeVar

from data_gen.public import order_key

T = TypeVar("T")
_SPACE = 1 << 64  # of the hashes


class Smallest:
    """The k smallest of the hashes of all names seen."""

    def __init__(self, k: int) -> None:
        """`k`: at least 1."""
        self.k = k
        self.keys: set[int] = set()
        self._largest: list[int] = []  # a heap of negated hashes

    @property
    def bar(self) -> int:
        """Hashes from here on are not among the smallest."""
        return -self._largest[0] if len(self.keys) == self.k else _SPACE

    def add(self, key: int) -> int | None:
        """Takes a hash; the one that has to go for it, if any."""
        if key in self.keys or key >= self.bar:
            return None
        gone = None
        if len(self.keys) == self.k:
            gone = -heapq.heappop(self._largest)
            self.keys.remove(gone)
        heapq.heappush(self._largest, -key)
        self.keys.add(key)
        return gone


class GroupReservoir(Generic[T]):
    """The members of at most so many groups, drawn by seed; of each group the first ones."""

    def __init__(self, seed: str, *, groups: int, members: int) -> None:
        """`groups` are drawn, `members` kept of each; both at least 1."""
        self._seed, self._members = seed, members
        self._smallest = Smallest(groups)
        self._kept: dict[int, list[T]] = {}

    def add(self, group: str, member: T) -> None:
        """Takes one row."""
        key = _hash(self._seed, group)
        gone = self._smallest.add(key)
        if gone is not None:
            del self._kept[gone]
        if key in self._smallest.keys:
            found = self._kept.setdefault(key, [])
            if len(found) < self._members:
                found.append(member)

    def drawn(self) -> list[list[T]]:
        """The groups in the order of their hashes; members in the order of the stream."""
        return [members for _, members in sorted(self._kept.items(), key=lambda kept: kept[0])]


class Distinct:
    """How many different names there are: exact below a limit, then estimated.

    Of k smallest hashes in [0, 1) the largest is about k / n; the estimate is off by about
    1 / sqrt(k) (Bar-Yossef et al., "Counting distinct elements in a data stream", 2002).
    """

    def __init__(self, limit: int) -> None:
        """`limit`: names from which on it is an estimate; at least 2."""
        self._smallest = Smallest(limit)

    def add(self, name: str) -> None:
        """Takes one name."""
        self._smallest.add(_hash("distinct", name))

    def count(self) -> tuple[int, bool]:
        """The number, and whether it is exact."""
        found = self._smallest
        if len(found.keys) < found.k:
            return len(found.keys), True
        return round((found.k - 1) * _SPACE / found.bar), False


def _hash(seed: str, name: str) -> int:
    return int.from_bytes(order_key(seed, name)[:8], "big")
