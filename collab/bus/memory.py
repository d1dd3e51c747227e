"""The in-process bus: several nodes in one process (tests), or one node alone (the default).

Delivers synchronously and in order, to every subscriber but the sending node. Loses nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from collab.bus.port import Envelope, Subscription


class _Ear:
    def __init__(self, bus: MemoryBus, document: str, receive: Callable[[Envelope], None]) -> None:
        self._bus = bus
        self._document = document
        self.receive = receive

    async def close(self) -> None:
        ears = self._bus.ears.get(self._document)
        if ears is None or self not in ears:
            return
        ears.remove(self)
        if not ears:
            del self._bus.ears[self._document]


class MemoryBus:
    """A bus between the nodes of one process."""

    def __init__(self) -> None:
        self.ears: dict[str, list[_Ear]] = {}

    async def subscribe(
        self, document: str, receive: Callable[[Envelope], None], lost: Callable[[], None]
    ) -> Subscription:
        """Hear ``document``; ``lost`` is never called, nothing is ever missed here."""
        ear = _Ear(self, document, receive)
        self.ears.setdefault(document, []).append(ear)
        return ear

    def publish(self, envelope: Envelope) -> None:
        """Deliver now."""
        for ear in tuple(self.ears.get(envelope.document, ())):
            ear.receive(envelope)

    async def close(self) -> None:
        """Forget every subscriber."""
        self.ears.clear()
