"""The bus port: how the nodes of one deployment hear of each other's updates, presence and wishes.

Delivery is best effort: an envelope may be lost, repeated or late, never changed. Whoever needs more resynchronises:
``lost`` tells when something may have been missed. Truth lives in the store, not here.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Final, Protocol

from collab.protocol.values import value

EVERYWHERE: Final = "*"
"""The channel every node hears, in place of a document's name (which cannot be "*")."""


class Kind(IntEnum):
    """What an envelope carries, on a document's channel unless said otherwise. Other kinds are ignored (SPEC B4)."""

    UPDATE = 1
    """A self-contained Yjs v1 update, never one relative to a state vector, with the names of its log entries."""
    COMMITTED = 2
    """How far the sender's updates of this document are in the log."""
    AWARENESS = 3
    """Awareness entries owned by the sender's sessions."""
    DIGEST = 4
    """What the sender's document and presence hash to."""
    ASK = 5
    """A state vector: send me what I lack, and who is with you. Also to one node."""
    ANSWER = 6
    """To one node: what it lacks, relative to the vector it sent, and the sender's presence."""
    ALIVE = 7
    """On `EVERYWHERE`: the sender is there."""
    LEAVING = 8
    """On `EVERYWHERE`: the sender is going, everything of it is saved."""
    CONTROL = 9
    """On `EVERYWHERE`, or to one node: a typed wish for the nodes it names, see `collab.node.control`."""
    WHO = 10
    """On `EVERYWHERE`: who is connected to a document?"""
    PRESENT = 11
    """To one node: the answer to `WHO`."""


@value()
class Envelope:
    """A message between nodes."""

    document: str
    """A document's name, or `EVERYWHERE`."""
    node: str
    """The sender; a node ignores its own."""
    epoch: int
    """New whenever the sender opens the document anew; grows."""
    sequence: int
    """Counts up from 1 within (node, epoch, document); a hole means something was lost. 0: nobody would miss it."""
    kind: int
    """One of `Kind`, or what a newer version of collab knows."""
    payload: bytes


class Subscription(Protocol):
    """One ear on the bus."""

    async def close(self) -> None:
        """Hear nothing more; closing twice is no mistake."""
        ...


class Bus(Protocol):
    """Best-effort fan-out between nodes."""

    @property
    def shared(self) -> bool:
        """Whether other nodes may be on it. Where not, nobody looks for what was missed."""
        ...

    @property
    def connected(self) -> bool:
        """Whether, as far as is known, envelopes arrive here and leave from here right now."""
        ...

    async def start(self) -> None:
        """Begin to work. Returns soon also when nothing answers: a node starts without its bus."""
        ...

    async def subscribe(
        self, document: str, receive: Callable[[Envelope], None], lost: Callable[[], None]
    ) -> Subscription:
        """Call ``receive`` for every envelope of ``document`` from now on, and ``lost`` when some may be missing.

        ``document`` may be `EVERYWHERE`; it may be subscribed to once at a time. Returns once the subscription is in
        force, so what is published after is heard (SPEC N2); while the bus is down it returns after a short wait, and
        ``lost`` is called when it is in force. Both callbacks are called from the event loop and must not raise.
        """
        ...

    def publish(self, envelope: Envelope, *, to: str | None = None) -> None:
        """Hand over and return at once; never waits for the network.

        With ``to`` only that node hears it, through its subscription of ``envelope.document``.
        """
        ...

    async def close(self) -> None:
        """Stop, after handing on what was published; nothing is delivered afterwards."""
        ...
