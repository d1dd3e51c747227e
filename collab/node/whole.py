"""A large document's whole state as frames that everybody who joins with nothing shares.

Encoding it for each joiner would cost the engine, the socket between the processes and the memory of the gateway its
size each time; typing would make each answer another one. So one encoded state is kept while people join, as an update;
what was integrated since follows it, and an empty SyncStep2 ends it: at that one a client calls itself synced, and by
then it has everything.
"""

from __future__ import annotations

from collab.node.outbox import Frame
from collab.protocol.dialects.y_websocket import encode
from collab.protocol.messages import SyncStep2, Update
from collab.protocol.yjs import EMPTY_UPDATE

LARGE_BYTES = 64 * 1024
"""A smaller state is answered with one SyncStep2 of its own."""

MAX_SINCE = 64
"""So many updates may follow the state; then it is encoded anew."""

MAX_SINCE_BYTES = 64 * 1024
"""The same in bytes, or an eighth of the state if that is more. Guessed."""

KEPT_FOR = 2.0
"""Seconds without a joiner after which it is forgotten."""


THAT_WAS_ALL = Frame(encode(SyncStep2(EMPTY_UPDATE)))


class Whole:
    """Kept by one loaded document, which tells it of everything it integrates."""

    def __init__(self) -> None:
        self._frames: list[Frame] = []
        self._since_bytes = 0
        self._used_at = 0.0

    def frames(self, now: float) -> list[Frame]:
        """All that answers a SyncStep1, in order; empty when nothing is kept."""
        self._used_at = now
        return [*self._frames, THAT_WAS_ALL] if self._frames else []

    def keep(self, update: bytes, now: float) -> None:
        """Keep ``update``, which is the whole document now, if it is large."""
        self._frames = [Frame(encode(Update(update)))] if len(update) >= LARGE_BYTES else []
        self._since_bytes = 0
        self._used_at = now

    def integrated(self, merged: bytes | None) -> None:
        """The document changed by this. Hot path."""
        if not self._frames or merged is None:
            return
        self._since_bytes += len(merged)
        if len(self._frames) > MAX_SINCE or self._since_bytes > max(MAX_SINCE_BYTES, self._frames[0].size // 8):
            self.forget()
        else:
            self._frames.append(Frame(encode(Update(merged))))

    def forget(self) -> None:
        """Free it; the next joiner's answer is encoded anew."""
        self._frames = []

    def tick(self, now: float) -> None:
        """Let time pass; about once a second."""
        if now - self._used_at > KEPT_FOR:
            self.forget()
