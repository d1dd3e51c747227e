"""One connection, one user, one role: who is connected and what it still waits to see saved.

A session is plain state owned by its `Room`. Sockets and queues belong to `collab.node.outbox`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum

from collab.protocol.messages import Update

MAX_UNPROVEN_BYTES = 1024 * 1024
"""Four times what may wait in a document. A session that has sent as much of that, and no answer to the question what
it waits for, may send no more."""

UNPROVEN_BYTES = 100
"""What an update costs beside its bytes while it is kept."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who somebody is, as far as `authenticate` could tell."""

    subject: str
    """Stable id of the user; "anonymous" when nobody was asked."""
    name: str | None = None
    """Display name. When set, it is stamped on the session's awareness, so nobody can wear another's name."""
    color: str | None = None
    """Display colour as #rrggbb; None lets the client choose."""


class Role(Enum):
    """What somebody may do with a document. Each role may what those before it may."""

    READ = "read"
    COMMENT = "comment"
    """Reserved for comment threads: sees, and changes nothing of the document itself."""
    WRITE = "write"
    ADMIN = "admin"
    """Also says who else may."""

    def __init__(self, name: str) -> None:
        self.rank = len(type(self).__members__)
        self.writes = name in {"write", "admin"}
        """Whether updates are taken."""

    def reaches(self, needed: Role) -> bool:
        """Whether this role may everything that ``needed`` may."""
        return self.rank >= needed.rank


@dataclass(slots=True, eq=False)
class Session:
    """A connection to one document.

    Writes are numbered as they come (``received``) and settle in that order (``settled``): a write is settled when
    everything it holds is committed. A sync status (message 102) is echoed when every write before it has settled.
    """

    id: str
    identity: Identity
    role: Role
    joined_at: float = 0.0
    """Monotonic seconds; set when it joins the room."""
    client: int | None = None
    """The one awareness client id this session speaks for, once it has spoken."""
    speaks_sync_status: bool = False
    """It sent a message 102, so it needs no echo of its own updates to know what is saved."""
    synced: bool = False
    """The SyncStep2 it was asked for has arrived: whatever it had when it was asked is now on its way to the log."""
    received: int = 0
    settled: int = 0
    greeted: bool = False
    """It was sent a SyncStep1 and everybody's awareness."""
    asked_again: bool = False
    """It was asked for what its last, still waiting update depends on, and has not answered."""
    refused_writes: int = 0
    unknown_messages: int = 0
    proved_by: int = 0
    """Number of the awaited SyncStep2, once it has arrived; 0 before."""
    unproven: list[Update] = field(default_factory=list)
    """Updates of it that waited for something when they came, and are to be confirmed by an echo. None when it asks
    with sync statuses."""
    unproven_bytes: int = 0
    held: deque[tuple[object, Update]] = field(default_factory=deque)
    """Broadcasts held back to keep their order: what others wrote after a batch this session shares and sees only
    after its commit. With each the receipt it waits for, or None when it only waits for those before it."""
    waiting: deque[tuple[int, bytes]] = field(default_factory=deque)
    """(settled needed, version) of sync statuses not yet echoed."""
    waiting_since: float | None = None
    """When the oldest of them came; None when none waits."""

    def wait(self, version: bytes, now: float) -> None:
        """Remember a sync status until everything before it is committed."""
        self.speaks_sync_status = True
        if self.waiting and self.waiting[-1][0] == self.received:
            self.waiting.pop()  # a newer one behind the same writes stands for it
        self.waiting.append((self.received, version))
        if self.waiting_since is None:
            self.waiting_since = now

    def release(self, receipt: object) -> list[Update]:
        """``receipt`` was shown: what only waited for that, in order."""
        if not self.held or self.held[0][0] is not receipt:
            return []
        self.held.popleft()
        released = []
        while self.held and self.held[0][0] is None:
            released.append(self.held.popleft()[1])
        return released

    def expect_sync(self, update: Update) -> bool:
        """``update`` of it waits for something; its answer to the question for that proves it saved (SPEC K6).

        False when too much waits for that answer already.
        """
        if self.unproven_bytes > MAX_UNPROVEN_BYTES:
            return False
        self.synced = False
        if not self.speaks_sync_status:
            self.unproven.append(update)
            self.unproven_bytes += len(update.update) + UNPROVEN_BYTES
        return True

    def first_sync(self) -> None:
        """Note the awaited SyncStep2 as the newest write: statuses that came before it wait for it too (SPEC K3)."""
        if self.synced:
            return
        self.synced = True
        self.asked_again = False
        self.proved_by = self.received
        self.waiting = deque((self.received, version) for _, version in self.waiting)

    def take_proved(self) -> list[Update]:
        """Those of its updates that waited for something and are saved now with all they waited for."""
        if not self.unproven or not self.synced or self.refused_writes or self.settled < self.proved_by:
            return []
        proved, self.unproven, self.unproven_bytes = self.unproven, [], 0
        return proved

    def take_due_version(self) -> bytes | None:
        """The newest version whose writes have all settled; older ones need no echo of their own."""
        if not self.synced or self.refused_writes:
            return None
        due = None
        while self.waiting and self.waiting[0][0] <= self.settled:
            due = self.waiting.popleft()[1]
        if not self.waiting:
            self.waiting_since = None
        return due
