"""The bus port: how the nodes of one deployment hear of each other's updates and presence.

Delivery is best effort: an envelope may be lost, repeated or late, never changed. Whoever needs more resynchronises:
``lost`` tells when something may have been missed. Truth lives in the store, not here.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Protocol

from collab.protocol.values import value


class Kind(IntEnum):
    """What an envelope carries."""

    UPDATE = 1
    """A self-contained Yjs v1 update, never one relative to a state vector."""
    AWARENESS = 2
    """Awareness entries owned by the sending node."""


@value()
class Envelope:
    """A message between nodes about one document."""

    document: str
    node: str
    """The sender; a node ignores its own."""
    epoch: int
    """New at every start of the sending node."""
    sequence: int
    """Counts up within (node, epoch, document); a hole means something was lost."""
    kind: Kind
    payload: bytes


class Subscription(Protocol):
    """One room's ear on the bus."""

    async def close(self) -> None:
        """Hear nothing more; closing twice is no mistake."""
        ...


class Bus(Protocol):
    """Best-effort fan-out between nodes."""

    async def subscribe(
        self, document: str, receive: Callable[[Envelope], None], lost: Callable[[], None]
    ) -> Subscription:
        """Call ``receive`` for every envelope of ``document`` from now on, and ``lost`` when some may be missing.

        Returns once the subscription is in force, so what is published after is heard (SPEC N2).
        """
        ...

    def publish(self, envelope: Envelope) -> None:
        """Hand over and return at once; never waits for the network."""
        ...

    async def close(self) -> None:
        """Stop; nothing is delivered afterwards."""
        ...
