"""Updates of other nodes that are in this document and, as far as is known, not in the log yet.

Their origin commits them. Until it says so, nothing that was written on top of them here may be called saved: should
every node die now, a saved update would wait for ever for one that is gone. Whoever waits too long adopts them, which
means that this node writes them to the log itself (SPEC K5).
"""

from __future__ import annotations

from collections.abc import Iterable

from collab.protocol.peers import PeerUpdate
from collab.protocol.values import value


@value(eq=False)
class ForeignUpdate:
    """One of them."""

    ordinal: int
    """Counts up in the order they came into the document."""
    node: str
    message: PeerUpdate
    heard_at: float
    """Monotonic seconds."""


class Foreign:
    """All of them, of one document."""

    def __init__(self) -> None:
        self.newest = 0
        """Ordinal of the newest that ever came; what is written now may depend on all up to it."""
        self._waiting: dict[int, ForeignUpdate] = {}
        self._adopting: set[int] = set()
        self._through: dict[str, int] = {}

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._waiting)

    def updates(self) -> list[bytes]:
        """The updates themselves: a document that is built anew from the log needs them too."""
        return [update.message.update for update in self._waiting.values()]

    def hear(self, node: str, message: PeerUpdate, now: float) -> None:
        """``message`` came into the document."""
        if message.first + message.count - 1 <= self._through.get(node, 0):
            return  # a late envelope: its commit is known already
        self.newest += 1
        self._waiting[self.newest] = ForeignUpdate(self.newest, node, message, now)

    def committed(self, node: str, through: int) -> None:
        """Everything of ``node`` up to this log entry number is in the log."""
        if through <= self._through.get(node, 0):
            return
        self._through[node] = through
        for update in tuple(self._waiting.values()):
            if update.node == node and update.message.first + update.message.count - 1 <= through:
                self._drop(update)

    def is_settled(self, ordinal: int) -> bool:
        """Whether everything that came up to then is in the log."""
        return not self._waiting or next(iter(self._waiting)) > ordinal

    def adopt(
        self, *, through: int | None = None, node: str | None = None, before: float | None = None
    ) -> list[ForeignUpdate]:
        """Those to adopt now, oldest first; each is given out once. None means: whichever."""
        chosen = [
            update
            for update in self._waiting.values()
            if update.ordinal not in self._adopting
            and (through is None or update.ordinal <= through)
            and (node is None or update.node == node)
            and (before is None or update.heard_at <= before)
        ]
        self._adopting.update(update.ordinal for update in chosen)
        return chosen

    def adopted(self, updates: Iterable[ForeignUpdate]) -> None:
        """These are in the log now."""
        for update in updates:
            self._drop(update)

    def _drop(self, update: ForeignUpdate) -> None:
        self._waiting.pop(update.ordinal, None)
        self._adopting.discard(update.ordinal)
