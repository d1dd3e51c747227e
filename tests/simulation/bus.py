"""The bus of a history: a medium like Redis pub/sub in front of which every wire may fail, both ways or one way.

An envelope may be lost, repeated, damaged or late on each of its hops. A node whose wire to the medium is cut finds out
after a while (``connected`` turns False) and is told ``lost`` when it is back; when the cut was shorter than that, what
was sent meanwhile is gone and nobody ever says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from collab.bus.envelope import pack, unpack
from collab.bus.port import Envelope, Kind, Subscription
from collab.errors import MalformedMessage
from collab.protocol.peers import read_answer

if TYPE_CHECKING:
    from tests.simulation.node import Life
    from tests.simulation.world import World

DETECTED_AFTER = (0.05, 4.0)
"""Seconds until a node notices that its wire is cut: a heartbeat that does not come back."""
RECONNECTED_AFTER = (0.05, 0.6)
SUBSCRIBE_PATIENCE = 1.0
"""Seconds `BusEnd.subscribe` waits at most."""

BeforePublish = Callable[["Life", Envelope], None]


class Medium:
    """What the nodes share; stands for Redis."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.down = False
        self.ends: dict[str, BusEnd] = {}
        self.on_publish: list[BeforePublish] = []
        """Failpoints: called with every envelope a node hands over."""
        self.deaf_to: Callable[[Envelope], bool] = lambda _: False
        """Envelopes that are all lost."""
        self.damaged = 0

    def end(self, life: Life) -> BusEnd:
        """The bus as one life of a node sees it."""
        end = self.ends[life.name] = BusEnd(self, life)
        return end

    def stop(self) -> None:
        """The medium dies; with it all it has not delivered."""
        self.world.note("bus", "down")
        self.down = True
        for end in tuple(self.ends.values()):
            end.forgotten()
            end.notice_soon()

    def restart(self) -> None:
        """It is back, and knows nothing of before."""
        self.world.note("bus", "up")
        self.down = False
        for end in tuple(self.ends.values()):
            end.try_again()

    def route(self, data: bytes, document: str, to: str | None) -> None:
        """An envelope has reached the medium."""
        if self.down:
            return
        for end in tuple(self.ends.values()):
            if to in (None, end.life.name):
                end.carry(data, document)


class BusEnd:
    """`collab.bus.port.Bus` for one life of a node."""

    shared = True

    def __init__(self, medium: Medium, life: Life) -> None:
        self.life = life
        self.connected = True
        self.hears = True
        """Whether the wire from the medium works."""
        self.speaks = True
        """Whether the wire to the medium works."""
        self._medium = medium
        self._world = medium.world
        self._ears: dict[str, _Ear] = {}
        self._noticing = 0
        self._closed = False

    @property
    def heard(self) -> list[str]:
        """The channels it listens to."""
        return list(self._ears)

    # what happens to its wire

    def cut(self, *, hears: bool, speaks: bool) -> None:
        """One or both ways stop to work."""
        self._world.note("bus", f"cut from {self.life.name}: hears={hears} speaks={speaks}")
        self.hears, self.speaks = hears, speaks
        self.notice_soon()

    def heal(self) -> None:
        """Both ways work again."""
        if not (self.hears and self.speaks):
            self._world.note("bus", f"healed to {self.life.name}")
            self.hears = self.speaks = True
            self.try_again()

    @property
    def _works(self) -> bool:
        return self.hears and self.speaks and not self._medium.down

    def forgotten(self) -> None:
        """The medium has lost its subscriptions; they are made again with the next connection."""
        for ear in self._ears.values():
            ear.in_force = False

    def notice_soon(self) -> None:
        """Something is wrong with the wire: the node finds out, unless it is over before."""
        self._noticing += 1
        self._world.later(self._world.delay(*DETECTED_AFTER), self._notice, self._noticing)

    def _notice(self, number: int) -> None:
        if number == self._noticing and not self._works and not self._closed:
            self._world.note("bus", f"{self.life.name} knows it is cut off")
            self.connected = False

    def try_again(self) -> None:
        """The wire may work again: reconnect, if it was noticed that it did not."""
        self._world.later(self._world.delay(*RECONNECTED_AFTER), self._reconnect)

    def _reconnect(self) -> None:
        if not self._works or self._closed:
            return
        if not self.connected:
            self.connected = True
            self._world.note("bus", f"{self.life.name} reconnected")
            self.forgotten()
        for ear in self._ears.values():
            if not ear.in_force:
                ear.force()
                self.life.call(ear.lost)

    # the port

    async def start(self) -> None:
        """Nothing to start."""

    async def subscribe(
        self, document: str, receive: Callable[[Envelope], None], lost: Callable[[], None]
    ) -> Subscription:
        if document in self._ears:
            self._world.history.wrong(f"{self.life.name} subscribed to {document} twice")
        ear = self._ears[document] = _Ear(self._ears, document, receive, lost)
        self._world.later(self._world.delay(*self._world.weather.bus_delay), self._confirm, ear)
        with suppress(TimeoutError):
            async with asyncio.timeout(SUBSCRIBE_PATIENCE):
                await ear.confirmed.wait()
        return ear

    def _confirm(self, ear: _Ear) -> None:
        if self._works and self.connected:
            ear.force()

    def publish(self, envelope: Envelope, *, to: str | None = None) -> None:
        if self._closed:
            return
        world = self._world
        if envelope.kind == Kind.ANSWER and not read_answer(envelope.payload).same:
            world.checker.carried = True
        world.note(self.life.name, f"says {Kind(envelope.kind).name} {envelope.document}#{envelope.sequence} to {to}")
        for failpoint in tuple(self._medium.on_publish):
            failpoint(self.life, envelope)
        if not self.connected or self._medium.deaf_to(envelope):
            return
        data = pack(envelope)
        for _ in range(1 + world.chance(world.weather.bus_repeat)):
            if not world.chance(world.weather.bus_loss):
                world.later(world.delay(*world.weather.bus_delay), self._sent, data, envelope.document, to)

    def _sent(self, data: bytes, document: str, to: str | None) -> None:
        if self.speaks:
            self._medium.route(data, document, to)

    def carry(self, data: bytes, document: str) -> None:
        """An envelope leaves the medium for this node."""
        world, ear = self._world, self._ears.get(document)
        if ear is None or not ear.in_force or world.chance(world.weather.bus_loss):
            return
        if world.chance(world.weather.bus_damage):
            at = world.roll(len(data))
            data = data[:at] + bytes((data[at] ^ (1 + world.roll(255)),)) + data[at + 1 :]
        world.later(world.delay(*world.weather.bus_delay), self._arrive, ear, data)

    def _arrive(self, ear: _Ear, data: bytes) -> None:
        if self.hears and not self._medium.down:
            self.life.call(self._receive, ear, data)

    def _receive(self, ear: _Ear, data: bytes) -> None:
        try:
            envelope = unpack(data)
        except MalformedMessage:
            self._medium.damaged += 1
            return
        if not ear.closed and envelope.node != self.life.name:
            ear.receive(envelope)

    async def close(self) -> None:
        """Hear and say nothing more."""
        self.gone()

    def gone(self) -> None:
        """The process is no more; the medium drops its subscriptions."""
        self._closed = True
        self._medium.ends.pop(self.life.name, None)
        for ear in tuple(self._ears.values()):
            ear.end()


class _Ear:
    def __init__(
        self, ears: dict[str, _Ear], document: str, receive: Callable[[Envelope], None], lost: Callable[[], None]
    ) -> None:
        self._ears = ears
        self._document = document
        self.receive = receive
        self.lost = lost
        self.in_force = False
        self.closed = False
        self.confirmed = asyncio.Event()

    def force(self) -> None:
        """The subscription is in force."""
        self.in_force = True
        self.confirmed.set()

    def end(self) -> None:
        """Hear nothing more."""
        self.closed = True
        if self._ears.get(self._document) is self:
            del self._ears[self._document]

    async def close(self) -> None:
        self.end()
