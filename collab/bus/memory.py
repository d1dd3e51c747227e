"""The in-process bus: several nodes in one process (tests), or one node alone (the default).

`MemoryBus` is the medium; each node talks through its own `MemoryBus.end`. Delivers synchronously and in order, to
everybody but the sender. Loses nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from collab.bus.port import Envelope, Subscription


class MemoryBus:
    """What the nodes of one process share."""

    def __init__(self) -> None:
        self.ears: dict[str, list[_Ear]] = {}

    def end(self, node: str, *, shared: bool = True) -> MemoryBusEnd:
        """The bus as ``node`` sees it."""
        return MemoryBusEnd(self, node, shared=shared)

    def deliver(self, envelope: Envelope, to: str | None) -> None:
        """Hand to everybody who listens, or to one."""
        for ear in tuple(self.ears.get(envelope.document, ())):
            if ear.node != envelope.node and to in (None, ear.node):
                ear.receive(envelope)


class MemoryBusEnd:
    """`collab.bus.port.Bus` for one node."""

    def __init__(self, bus: MemoryBus, node: str, *, shared: bool) -> None:
        self._bus = bus
        self._node = node
        self.shared = shared
        self.connected = True

    async def start(self) -> None:
        """Nothing to start."""

    async def subscribe(
        self, document: str, receive: Callable[[Envelope], None], lost: Callable[[], None]
    ) -> Subscription:
        """Hear ``document``; ``lost`` is never called, nothing is ever missed here."""
        ear = _Ear(self._bus, self._node, document, receive)
        self._bus.ears.setdefault(document, []).append(ear)
        return ear

    def publish(self, envelope: Envelope, *, to: str | None = None) -> None:
        """Deliver now."""
        self._bus.deliver(envelope, to)

    async def close(self) -> None:
        """Forget this node's subscriptions."""
        for ears in tuple(self._bus.ears.values()):
            for ear in tuple(ears):
                if ear.node == self._node:
                    await ear.close()


class _Ear:
    def __init__(self, bus: MemoryBus, node: str, document: str, receive: Callable[[Envelope], None]) -> None:
        self._bus = bus
        self.node = node
        self._document = document
        self.receive = receive

    async def close(self) -> None:
        ears = self._bus.ears.get(self._document)
        if ears is None or self not in ears:
            return
        ears.remove(self)
        if not ears:
            del self._bus.ears[self._document]


def alone() -> MemoryBusEnd:
    """The bus of a node that has no others."""
    return MemoryBus().end("alone", shared=False)
