"""A document's whole state as frames that everybody who joins with nothing shares.

Encoding it for each joiner would cost the engine, the socket between the processes and the memory of the gateway its
size each time; typing would make each answer another one. So one encoded state is kept while people join: a small one
as a SyncStep2 until something is integrated, a large one as an update; what was integrated since follows it, and an
empty SyncStep2 ends it: at that one a client calls itself synced, and by then it has everything.
"""

from __future__ import annotations

from collab.node.outbox import Frame
from collab.protocol.dialects.y_websocket import encode
from collab.protocol.messages import SyncStep2, Update
from collab.protocol.yjs import EMPTY_UPDATE

LARGE_BYTES = 64 * 1024
"""A smaller state is encoded anew after every change."""

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
        self._small: Frame | None = None
        self._since_bytes = 0
        self._used_at = 0.0

    def frames(self, now: float) -> list[Frame]:
        """All that answers a SyncStep1, in order; empty when nothing is kept."""
        self._used_at = now
        if self._small is not None:
            return [self._small]
        return [*self._frames, THAT_WAS_ALL] if self._frames else []

    def keep(self, update: bytes, now: float) -> None:
        """Keep ``update``, which is the whole document now."""
        large = len(update) >= LARGE_BYTES
        self._frames = [Frame(encode(Update(update)))] if large else []
        self._small = None if large else Frame(encode(SyncStep2(update)))
        self._since_bytes = 0
        self._used_at = now

    def integrated(self, merged: bytes | None) -> None:
        """The document changed by this. Hot path."""
        if merged is None:
            return
        self._small = None
        if not self._frames:
            return
        self._since_bytes += len(merged)
        if len(self._frames) > MAX_SINCE or self._since_bytes > max(MAX_SINCE_BYTES, self._frames[0].size // 8):
            self.forget()
        else:
            self._frames.append(Frame(encode(Update(merged))))

    def forget(self) -> None:
        """Free it; the next joiner's answer is encoded anew."""
        self._frames = []
        self._small = None

    def tick(self, now: float) -> None:
        """Let time pass; about once a second."""
        if now - self._used_at > KEPT_FOR:
            self.forget()
