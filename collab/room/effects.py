"""What a room wants done. Values only; `collab.node.live_room` performs them, in order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from collab.errors import CloseCode
from collab.protocol.messages import Message, Update
from collab.protocol.peers import PeerEntry
from collab.protocol.values import value
from collab.room.foreign import ForeignUpdate
from collab.room.session import Session


@value(eq=False)
class Proposal:
    """An update somebody wants in the document, numbered among its session's writes."""

    session: Session
    update: bytes
    number: int
    arrived_at: float
    """Monotonic seconds."""
    probe: bool = False
    """Only ask whether it holds anything new (a reader's SyncStep2)."""


@value()
class Integrated:
    """What became of a batch of proposals; `Room.integrated` turns it into effects."""

    taken: tuple[Proposal, ...] = ()
    """New to the document, those that wait for a dependency included; in order."""
    merged: bytes | None = None
    """What ``taken`` brought as one self-contained update; None exactly when ``taken`` is empty."""
    brought: Mapping[Proposal, bytes] = field(default_factory=dict)
    """What those of ``taken`` brought that repeat something which the document held already."""
    waiting: tuple[Proposal, ...] = ()
    """Those of ``taken`` that wait for a dependency."""
    repeated: tuple[Proposal, ...] = ()
    """Held nothing new."""
    still_waiting: tuple[Proposal, ...] = ()
    """Held nothing new either, and some of it waits for a dependency."""
    structless: frozenset[Proposal] = frozenset()
    """Those of the last two that carry no structs: nobody waits to see them confirmed by an echo."""
    refused: tuple[tuple[Proposal, CloseCode, str], ...] = ()
    """Not in the document; with the close code and a detail for the log."""


@value(eq=False)
class Receipt:
    """What follows from a commit: handed to the recorder with the updates and back to `Room.committed` after it."""

    updates: tuple[tuple[bytes, str | None], ...]
    """(update as received, author's subject), in order; empty when the writes repeat what is already recorded."""
    writes: tuple[tuple[Session, int], ...]
    """The writes that settle with this commit."""
    arrived_at: float
    """When the oldest of them arrived; monotonic seconds."""
    echo: Update | None = None
    """What their authors get to see only now (SPEC R4); None of what waits for something the log may lack: its author's
    next SyncStep2 confirms it (SPEC K6)."""
    after: int = 0
    """`Foreign.newest` when they came into the document: they may depend on updates of other nodes up to that one."""
    adopts: tuple[ForeignUpdate, ...] = ()
    """What other nodes brought and this node writes to the log in their place; then ``updates`` is empty."""


@value()
class Greet:
    """Ask a session for what the document lacks: fetch the state vector and call `Room.greet`."""

    session: Session


@value()
class Answer:
    """Compute what a session lacks and send it as SyncStep2."""

    session: Session
    state_vector: bytes


@value()
class Integrate:
    """Put a proposal into the room's next batch for the engine."""

    proposal: Proposal


@value()
class Send:
    """Send a message to one session."""

    session: Session
    message: Message


@value()
class Broadcast:
    """Send a message to every session of the room but ``except_``."""

    message: Message
    except_: frozenset[Session] = frozenset()


@value()
class Echo:
    """Send a committed update to those who wrote it."""

    message: Update
    authors: tuple[Session, ...]
    may_wait: bool = False
    """They wrote all of it, so it only confirms: it may go with what they are sent next."""


@value()
class Record:
    """Commit to the update log, then call `Room.committed` with the receipt."""

    receipt: Receipt


@value()
class Publish:
    """Hand what was just recorded, or is shown before it is, to the other nodes."""

    message: Update
    receipt: Receipt


@value()
class Withdraw:
    """A receipt that was published will not be recorded."""

    receipt: Receipt


@value()
class PublishAwareness:
    """Hand what changed in the presence of this node's sessions to the other nodes."""

    entries: tuple[PeerEntry, ...]


@value()
class Saved:
    """A receipt and all it depends on is in the log, and its authors were told."""

    receipt: Receipt


@value()
class Renew:
    """Verify the token a session's client sent, and tell it how long it may stay."""

    session: Session
    token: bytes


@value()
class Disconnect:
    """Close one session's connection."""

    session: Session
    code: CloseCode
    detail: str = ""
    """For the log, never for the client."""


Effect = (
    Greet
    | Answer
    | Integrate
    | Send
    | Broadcast
    | Echo
    | Record
    | Publish
    | Withdraw
    | PublishAwareness
    | Saved
    | Renew
    | Disconnect
)
