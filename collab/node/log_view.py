"""How much of a document's log is known to be in its live room, so that nothing is read twice and nothing overlooked.

A row is known when this node committed it, when the node that did said so after sending its update, or when it was
read from the log; and it must be integrated and shown by then. The log follower reads what stays unknown.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable

MAX_STRETCHES = 1_000
"""More than this are forgotten: the follower then reads those rows, which changes nothing."""


class LogView:
    """The known sequence numbers of one document's log."""

    def __init__(self) -> None:
        self.position = 0
        """Everything up to here is known."""
        self.seen = 0
        """The durable sequence when the follower last looked."""
        self._firsts: list[int] = []
        self._ends: list[int] = []
        """Known stretches beyond the position, from first up to end (exclusive): sorted, none touching another."""

    def add(self, first: int, count: int) -> None:
        """``count`` rows from ``first`` on are known."""
        end = first + count
        if count <= 0 or end <= self.position + 1:
            return
        if not self._firsts and first <= self.position + 1:  # nearly always
            self.position = end - 1
            return
        low, high = bisect_left(self._ends, first), bisect_right(self._firsts, end)
        if low < high:
            first, end = min(first, self._firsts[low]), max(end, self._ends[high - 1])
        self._firsts[low:high], self._ends[low:high] = [first], [end]
        if self._firsts[0] <= self.position + 1:
            self.position = self._ends[0] - 1
            del self._firsts[0], self._ends[0]
        elif len(self._firsts) > MAX_STRETCHES:
            self._firsts.clear()
            self._ends.clear()

    def add_all(self, rows: Iterable[tuple[int, int]]) -> None:
        """Each is (first, count)."""
        for first, count in rows:
            self.add(first, count)

    def advance(self, through: int) -> None:
        """Everything up to ``through`` is known."""
        self.add(self.position + 1, through - self.position)

    def knows(self, seq: int) -> bool:
        """Whether the row is known."""
        index = bisect_right(self._firsts, seq) - 1
        return seq <= self.position or (index >= 0 and seq < self._ends[index])
