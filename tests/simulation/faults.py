"""The faults a history is made of; each strikes at a random moment and ends by itself or when `World.mend` ends it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random
from typing import TYPE_CHECKING

from collab.errors import CloseCode

if TYPE_CHECKING:
    from tests.simulation.client import Client
    from tests.simulation.node import Node
    from tests.simulation.plan import Fault
    from tests.simulation.world import World


class Faults:
    """Schedules the faults of a plan. Call `begin` once."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._rng: Random = world.rng("faults")
        self._strikes: dict[Fault, Callable[[], None]] = {
            "crash": self._crash,
            "pause": self._pause,
            "drain": self._drain,
            "cut bus": self._cut_bus,
            "bus outage": self._bus_outage,
            "store outage": self._store_outage,
            "engine death": self._engine_death,
            "cut": self._cut,
            "freeze": self._freeze,
            "offline": self._offline,
            "storm": self._storm,
            "slow reader": self._slow_reader,
            "unload": self._unload,
            "cut store": self._cut_store,
            "send away": self._send_away,
        }
        self._over = False

    def begin(self) -> None:
        """Let each fault of the plan strike one to three times while the history lasts."""
        for fault in self._world.plan.faults:
            for _ in range(self._rng.randint(1, 3)):
                self._world.later(self._rng.uniform(0.5, self._world.plan.lasts), self._strike, self._strikes[fault])

    def end(self) -> None:
        """Nothing strikes any more, and nothing that struck before strikes back."""
        self._over = True

    def _strike(self, strike: Callable[[], None]) -> None:
        if not self._over:
            strike()

    def _after(self, least: float, most: float, act: Callable[[], None]) -> None:
        self._world.later(self._rng.uniform(least, most), self._strike, act)

    def _node(self) -> Node:
        return self._rng.choice(self._world.nodes)

    def _client(self) -> Client:
        return self._rng.choice(self._world.clients)

    # nodes

    def _crash(self) -> None:
        node = self._node()
        node.crash()
        self._after(0.3, 8.0, node.start)

    def _pause(self) -> None:
        node = self._node()
        node.pause()
        self._after(0.2, 10.0, node.resume)

    def _drain(self) -> None:
        node = self._node()
        node.drain()
        self._after(0.5, 12.0, node.start)

    def _engine_death(self) -> None:
        life = self._node().life
        if life is not None:
            life.call(life.engine.die)

    # what nodes stand on

    def _cut_bus(self) -> None:
        life = self._node().life
        if life is not None:
            hears, speaks = self._rng.choice(((False, False), (False, True), (True, False)))
            life.bus.cut(hears=hears, speaks=speaks)
            self._after(0.1, 6.0, life.bus.heal)

    def _bus_outage(self) -> None:
        bus = self._world.bus
        if not bus.down:
            bus.stop()
            self._after(0.1, 6.0, lambda: bus.restart() if bus.down else None)

    def _store_outage(self) -> None:
        self._world.note("store", "down")
        self._world.database.down = True
        self._after(0.1, 4.0, self._store_back)

    def _store_back(self) -> None:
        self._world.note("store", "up")
        self._world.database.down = False

    def _cut_store(self) -> None:
        """One node does not reach the database, and the others do."""
        life = self._node().life
        if life is not None:
            self._world.note(life.name, "does not reach the store")
            life.reaches_store = False
            self._after(0.1, 5.0, partial(setattr, life, "reaches_store", True))

    # clients

    def _send_away(self) -> None:
        """The rights of a user have changed: every node closes its sessions, and they come back."""
        life, client = self._node().life, self._client()
        if life is not None:
            self._world.note(life.name, f"sends {client.name} away")
            life.call(life.hub.close_user, client.name, CloseCode.RESTART)

    def _cut(self) -> None:
        link = self._client().link
        if link is not None:
            self._world.note(link.client.name, "cut")
            link.cut()

    def _freeze(self) -> None:
        link = self._client().link
        if link is not None:
            self._world.note(link.client.name, "frozen")
            link.freeze()

    def _offline(self) -> None:
        client = self._client()
        self._world.note(client.name, "offline")
        client.set_offline(True)
        self._after(0.2, 6.0, lambda: client.set_offline(False))

    def _storm(self) -> None:
        self._world.note("world", "every connection is cut")
        for client in self._world.clients:
            if client.link is not None:
                client.link.cut()

    def _slow_reader(self) -> None:
        link = self._client().link
        if link is not None:
            self._world.note(link.client.name, "reads slowly")
            link.down.slow_down(self._rng.choice((50.0, 200.0, 1000.0)))

    def _unload(self) -> None:
        """Everybody leaves a document at once, and comes back while its rooms are being closed."""
        world = self._world
        document = self._rng.choice(world.plan.documents)
        world.note("world", f"everybody leaves {document}")
        for client in world.clients:
            if client.document == document:
                client.set_offline(True)
                self._after(0.0, world.plan.unload_after + 2.0, partial(client.set_offline, False))
