"""Redis channels: their names, and which of them one connection has asked for and hears. Pure, no network.

Redis answers commands of one connection in order. So a channel is heard when it was last asked for, not given back,
and no answer about it is outstanding; it does not matter how often it was taken and given back meanwhile.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from collab.bus.port import EVERYWHERE


class Names(NamedTuple):
    """How channels are called. Document names reach Redis only as hashes: no name can address another's channel."""

    prefix: str

    def document(self, name: str) -> bytes:
        """The channel of a document, or the one every node hears."""
        if name == EVERYWHERE:
            return f"{self.prefix}:all".encode()
        return f"{self.prefix}:d:{hashlib.sha256(name.encode()).hexdigest()[:32]}".encode()

    def inbox(self, node: str) -> bytes:
        """The channel only ``node`` hears."""
        return f"{self.prefix}:n:{node}".encode()


class Channels:
    """What is wanted, asked for and heard on one connection."""

    def __init__(self) -> None:
        self._wanted: set[bytes] = set()
        self._asked: set[bytes] = set()
        self._unanswered: dict[bytes, int] = {}

    def want(self, channel: bytes) -> None:
        """Hear ``channel`` from now on."""
        self._wanted.add(channel)

    def release(self, channel: bytes) -> None:
        """Hear it no more."""
        self._wanted.discard(channel)

    def hears(self, channel: bytes) -> bool:
        """Whether everything published to ``channel`` from now on arrives here."""
        return channel in self._wanted and channel in self._asked and channel not in self._unanswered

    def questions(self) -> tuple[list[bytes], list[bytes]]:
        """(channels to subscribe to, channels to unsubscribe from); they count as asked for from now on."""
        more, less = list(self._wanted - self._asked), list(self._asked - self._wanted)
        self._asked.update(more)
        self._asked.difference_update(less)
        for channel in (*more, *less):
            self._unanswered[channel] = self._unanswered.get(channel, 0) + 1
        return more, less

    def subscribed(self, channel: bytes) -> bool:
        """Redis says it is subscribed; True when it is heard now, and before this something may have been missed."""
        self._answered(channel)
        return self.hears(channel)

    def unsubscribed(self, channel: bytes) -> bool:
        """Redis says it is unsubscribed; True when nobody asked for that and it must be asked for again."""
        if channel in self._unanswered:
            self._answered(channel)
            return False
        self._asked.discard(channel)
        return channel in self._wanted

    def _answered(self, channel: bytes) -> None:
        left = self._unanswered.pop(channel, 0) - 1
        if left > 0:
            self._unanswered[channel] = left
