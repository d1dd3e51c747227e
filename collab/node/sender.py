"""What one room says to the rooms of the same document on other nodes: packed, and numbered, so that holes show."""

from __future__ import annotations

from typing import TYPE_CHECKING

from collab.bus.port import Envelope
from collab.protocol import peers

if TYPE_CHECKING:
    from collab.bus.port import Bus, Kind
    from collab.protocol.peers import PeerMessage

MAX_CARRIED_BYTES = 4 * 1024 * 1024
"""Larger updates are left to the log follower: a few of them would overflow the bus's buffers, and all else in them."""


class Sender:
    """One room's envelopes. It does not know who listens."""

    def __init__(self, document: str, *, node: str, epoch: int, bus: Bus) -> None:
        """``epoch`` is new and greater each time this node opens the document."""
        self._document = document
        self._node = node
        self._epoch = epoch
        self._bus = bus
        self.sequence = 0
        """Number of the newest that was published."""

    def publish(self, kind: Kind, message: PeerMessage, to: str | None = None) -> None:
        """Publish, numbered: to one node too, since a node that hears of us for the first time asks first."""
        self.sequence += 1
        envelope = Envelope(self._document, self._node, self._epoch, self.sequence, kind, peers.pack(message))
        self._bus.publish(envelope, to=to)

    def say(self, kind: Kind, message: PeerMessage, to: str) -> None:
        """Tell one node what is of no use to others; not numbered, nobody would miss it."""
        self._bus.publish(Envelope(self._document, self._node, self._epoch, 0, kind, peers.pack(message)), to=to)
