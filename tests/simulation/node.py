"""A node of the simulation: a real `Hub` with everything around it, and every way in which its process may end."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from collab.node import Hub, HubLimits, RoomLimits
from tests.simulation.engine import MortalEngine
from tests.simulation.loop import Owner

if TYPE_CHECKING:
    from tests.simulation.network import Link
    from tests.simulation.world import World

DRAIN_TIMEOUT = 8.0


class Life(Owner):
    """One process of a node, from its start to its end; its name is the node id."""

    def __init__(self, world: World, name: str) -> None:
        super().__init__(name)
        self.world = world
        self.links: dict[Link, None] = {}
        self.engine = MortalEngine(world, name, delay=world.plan.engine_delay)
        self.bus = world.bus.end(self)
        self.hub: Hub = self.context.run(self._make_hub)
        self.reaches_store = True
        self.serving = False
        """Whether clients may come."""

    def _make_hub(self) -> Hub:
        world, plan = self.world, self.world.plan
        limits = HubLimits(
            room=RoomLimits(keep_alive_every=2.0, crowd=world.plan.crowd, show_plain_at_once=world.plan.fast),
            cluster=plan.times,
            unload_after=plan.unload_after,
            compact_after_updates=plan.compact_after,
            drain_spread=1.0,
        )
        return Hub(
            node=self.name,
            epoch=world.next_epoch(),
            engine=self.engine,
            store=world.database.end(self),
            bus=self.bus,
            limits=limits,
            wall_clock=world.wall_clock,
            rng=world.rng("hub", self.name),
        )

    def call(self, function: Callable[..., object], *args: Any) -> None:
        """Run ``function`` as this process, soon; never when it is dead, later when it is paused."""
        self.world.loop.call_soon(function, *args, context=self.context)

    def spawn(self, make: Callable[[], Any], name: str) -> None:
        """Run a coroutine as this process."""
        self.call(lambda: self.world.loop.create_task(make(), name=f"{self.name} {name}"))

    async def run(self) -> None:
        """What `collab serve` does first."""
        await self.bus.start()
        self.hub.start()
        self.serving = True


class Node:
    """A place where processes run, one after the other."""

    def __init__(self, world: World, index: int) -> None:
        self.world = world
        self.index = index
        self.life: Life | None = None
        self._lives = 0

    def start(self) -> None:
        """Start a process, unless one runs."""
        if self.life is not None:
            return
        self._lives += 1
        self.life = Life(self.world, f"n{self.index}.{self._lives}")
        self.world.note(self.life.name, "started")
        self.life.spawn(self.life.run, "start")

    def crash(self) -> None:
        """kill -9: nothing of the process runs any more, not even a ``finally``."""
        life = self.life
        if life is None:
            return
        self.world.note(life.name, "CRASHED")
        self.world.crashes += 1
        self.world.node_lost_at = self.world.now
        self._end(life)

    def _end(self, life: Life) -> None:
        life.dead = True
        life.bus.gone()
        for link in tuple(life.links):
            link.server_died()
        self.life = None

    def pause(self) -> None:
        """SIGSTOP."""
        if self.life is not None and not self.life.paused:
            self.world.note(self.life.name, "paused")
            self.life.paused = True

    def resume(self) -> None:
        """SIGCONT."""
        if self.life is not None and self.life.paused:
            self.world.note(self.life.name, "resumed")
            self.world.node_lost_at = self.world.now
            self.world.loop.resume(self.life)

    def drain(self) -> None:
        """SIGTERM."""
        life = self.life
        if life is not None:
            self.world.note(life.name, "drains")
            life.spawn(lambda: self._drain(life), "drain")

    async def _drain(self, life: Life) -> None:
        """What `collab serve` does last."""
        saved = await life.hub.drain(DRAIN_TIMEOUT)
        self.world.note(life.name, f"drained: {saved}")
        await life.hub.close()
        await life.engine.close()
        await life.bus.close()
        self.world.loop.call_soon(self._exited, life, context=self.world.context)

    def _exited(self, life: Life) -> None:
        if self.life is life:
            self.world.note(life.name, "exited")
            self._end(life)
            if self.world.mended:
                self.start()
