"""What a client and the server can say to each other, whatever the wire.

Frozen values without behaviour: a dialect (`collab.protocol.dialects`) turns frames into them and back, and what they
mean is decided in `collab.room`.
"""

from __future__ import annotations

from collab.protocol.values import value


@value()
class SyncStep1:
    """ "This is what I have": asks for a `SyncStep2` with the rest."""

    state_vector: bytes


@value()
class SyncStep2:
    """The answer to a `SyncStep1`: what the asker lacks."""

    update: bytes


@value()
class Update:
    """A change of the document."""

    update: bytes


@value()
class AwarenessEntry:
    """One client's presence: ``state`` is its JSON text as UTF-8 bytes, or None when it is gone."""

    client: int
    clock: int
    state: bytes | None


@value()
class Awareness:
    """Presence of any number of clients."""

    entries: tuple[AwarenessEntry, ...]


@value()
class QueryAwareness:
    """Asks for everybody's presence."""


@value()
class SyncStatus:
    """y-sweet's message 102: a version the client counts, echoed once everything sent before it is committed."""

    version: bytes
    """The raw payload; echoed byte for byte."""


@value()
class Renewal:
    """A client's new token, before the old one expires. Empty: it understands message 103, and wants to be asked."""

    token: bytes


@value()
class TimeLeft:
    """How long the session has, in whole seconds: the server's question for a `Renewal`, and its answer to one."""

    seconds: int


@value()
class Unknown:
    """A message type this dialect does not know; counted, otherwise ignored."""

    type: int


Message = SyncStep1 | SyncStep2 | Update | Awareness | QueryAwareness | SyncStatus | Renewal | TimeLeft | Unknown
