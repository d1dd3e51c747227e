"""How much of a document's log is known to be in its live room, so that nothing is read twice and nothing overlooked.

A row is known when this node committed it, when the node that did said so after sending its update, or when it was
read from the log. The log follower reads what stays unknown.
"""

from __future__ import annotations

MAX_RANGES = 1_000
"""More stretches than this are forgotten: the follower then reads those rows, which changes nothing."""


class LogView:
    """The known sequence numbers of one document's log."""

    def __init__(self, position: int = 0) -> None:
        self.position = position
        """Everything up to here is known."""
        self.seen = 0
        """The durable sequence when the follower last looked."""
        self._ranges: dict[int, int] = {}
        """first -> end (exclusive) of known stretches beyond the position."""

    def add(self, first: int, count: int) -> None:
        """``count`` rows from ``first`` on are known."""
        end = first + count
        if first > self.position + 1:
            if len(self._ranges) >= MAX_RANGES:
                self._ranges.clear()
            self._ranges[first] = max(end, self._ranges.get(first, 0))
        elif end - 1 > self.position:
            self.advance(end - 1)

    def advance(self, through: int) -> None:
        """Everything up to ``through`` is known."""
        self.position = max(self.position, through)
        while self._ranges:
            first = min(self._ranges)
            if first > self.position + 1:
                return
            self.position = max(self.position, self._ranges.pop(first) - 1)

    def knows(self, seq: int) -> bool:
        """Whether the row is known."""
        return seq <= self.position or any(first <= seq < end for first, end in self._ranges.items())
