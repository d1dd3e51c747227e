"""Everything of one history in one place: the loop, the dice, the parts, and what happens to them from outside."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import copy_context
from datetime import UTC, datetime, timedelta
from functools import partial
from math import inf
from random import Random
from typing import TYPE_CHECKING, Any

from collab.errors import CloseCode, DocumentMissing
from tests.simulation.bus import Medium
from tests.simulation.checker import Checker
from tests.simulation.client import Client
from tests.simulation.history import History
from tests.simulation.loop import VirtualLoop
from tests.simulation.network import Link
from tests.simulation.node import Node
from tests.simulation.program import Program
from tests.simulation.store import Database
from tests.simulation.weather import Weather

if TYPE_CHECKING:
    from tests.simulation.node import Life
    from tests.simulation.plan import Plan

BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)


class World:
    """One history's parts. Only the loop it is made with runs them."""

    def __init__(self, plan: Plan, loop: VirtualLoop) -> None:
        self.plan = plan
        self.loop = loop
        self.context = copy_context()
        self.history = History(loop)
        self.note = self.history.note
        self.weather = plan.weather
        self._dice = self.rng("dice")
        self._epoch = 0
        self._links = 0
        self.checker = Checker(self)
        self.database = Database(self)
        self.bus = Medium(self)
        self.links: list[Link] = []
        self.nodes = [Node(self, index) for index in range(plan.nodes)]
        self.clients = [Client(self, number, wanted) for number, wanted in enumerate(plan.clients, 1)]
        self.programs = [Program(self, number) for number in range(90, 90 + plan.programs)]
        self.crashes = 0
        self.deleted: dict[str, None] = {}
        """Documents that are gone, and stay so."""
        self.mended = False
        """Whether the faults are over; a node that was told to go before is started again."""
        self.node_lost_at = -inf
        """When a node last crashed, or came back from a pause."""
        self.bus_was_out = False
        """Whether the bus was away, or cut, when the faults ended."""

    # time and chance

    @property
    def now(self) -> float:
        """Virtual seconds."""
        return self.loop.time()

    def wall_clock(self) -> datetime:
        """What nodes take for the date."""
        return BEGINNING + timedelta(seconds=self.now)

    def rng(self, *name: object) -> Random:
        """Dice of one's own, so that one part's throws do not change another's."""
        return Random(f"{self.plan.seed} {name}")

    def next_epoch(self) -> int:
        """A number greater than any before; nodes of collab take the time in nanoseconds."""
        self._epoch += 1_000_000
        return self._epoch

    def chance(self, probability: float) -> bool:
        """Whether it happens."""
        return probability > 0.0 and self._dice.random() < probability

    def delay(self, least: float, most: float) -> float:
        """Some seconds."""
        return self._dice.uniform(least, most)

    def roll(self, sides: int) -> int:
        """A number below ``sides``."""
        return self._dice.randrange(sides)

    def network_delay(self) -> float:
        """How long one frame takes between a client and a node."""
        return self.delay(*self.weather.network_delay)

    def later(self, seconds: float, act: Callable[..., object], *args: Any) -> None:
        """Do something that no process does, so that nobody's death prevents it."""
        self.loop.call_later(seconds, act, *args, context=self.context)

    def at(self, when: float, act: Callable[..., object], *args: Any) -> None:
        """The same at a given time."""
        self.loop.call_at(when, act, *args, context=self.context)

    async def pass_time(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)

    async def until(self, condition: Callable[[], bool], *, within: float) -> bool:
        """Wait for ``condition``; False when it did not come true in time."""
        deadline = self.now + within
        while not condition():
            if self.now >= deadline:
                return False
            await asyncio.sleep(0.01)
        return True

    # nodes

    def serving(self) -> list[Life]:
        """The processes that take clients, as far as a load balancer can tell."""
        return [node.life for node in self.nodes if node.life is not None and node.life.serving]

    def delete(self, document: str) -> None:
        """Somebody deletes a document over REST, at some node."""
        lives = self.serving()
        if lives and document not in self.deleted:
            life = lives[self.roll(len(lives))]
            life.spawn(partial(self._delete, life, document), "delete")

    async def _delete(self, life: Life, document: str) -> None:
        try:
            await self.database.memory.documents.delete(document)
        except DocumentMissing:
            return  # nobody has written to it yet
        self.deleted[document] = None
        self.note(life.name, f"deleted {document}")
        await life.hub.close_document(document, CloseCode.DELETED)

    def dial(self, client: Client) -> Link | None:
        """Open a connection to some node that seems to be there; None when there is none."""
        lives = self.serving()
        if client.node is not None:
            lives = [life for life in lives if life is self.nodes[client.node].life]
        if not lives:
            return None
        life = lives[self.roll(len(lives))]
        self._links += 1
        link = Link(self, client, life, self._links)
        self.links.append(link)
        self.later(self.network_delay(), self._knock, link)
        return link

    def _knock(self, link: Link) -> None:
        if link.life.dead:
            link.cut()
        else:
            link.life.call(link.accept)

    # the end of the faults

    def mend(self) -> None:
        """All faults end: everything runs, everything is connected, everybody may come back."""
        self.note("world", "faults end")
        self.mended = True
        self.bus_was_out = self.bus.down or any(
            not (end.connected and end.hears and end.speaks) for end in self.bus.ends.values()
        )
        self.weather = Weather()
        self.database.down = False
        self.database.release_all()
        self.bus.deaf_to = lambda _: False
        if self.bus.down:
            self.bus.restart()
        for end in self.bus.ends.values():
            end.heal()
        for link in self.links:
            link.down.slow_down(None)
            if link.frozen:
                link.cut()
        for node in self.nodes:
            if node.life is not None:
                node.life.reaches_store = True
            node.resume()
            node.start()
        for client in self.clients:
            client.node = None
            client.set_offline(False)
