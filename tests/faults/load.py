"""The common load of the fault matrix: rooms full of typists spread over the nodes, and a few stock Yjs clients.

`begin`, then faults, then what a row measures; `stop`, `settled` and `converged` end it, `close` lets everybody go.
Two cores carry eight rooms of three typists at five updates a second each beside the servers.
"""

from __future__ import annotations

import asyncio
import base64
import statistics
import time
from collections.abc import Iterable, Sequence
from random import Random
from typing import Any

from tests.faults.typist import Chronicle, Typed, Typist
from tests.support.checker import Submitted, decode_state_vector, load, unequal
from tests.support.clients import StockClient, StockClients
from tests.support.cluster import Cluster, Node, until
from tests.support.writers import Confirm, Gate

PATIENCE_SECONDS = 90.0
"""Longer than any client's own patience: y-websocket's 30 s of silence, then its retries."""
STOCK_FROM = 1000
"""Numbers of stock clients begin here."""
TYPE = """
let count = 0
client.mine = []
doc.on('update', (update, origin) => { if (origin === null) client.mine.at(-1).update = toBase64(update) })
client.timer = setInterval(() => {
  const token = `c${doc.clientID}.${++count};`
  client.mine.push({ token })
  doc.getText('t').insert(doc.getText('t').length, token)
}, arg)
"""
"""What a stock client runs: type a token now and then, and remember the updates."""


class Room:
    """One document and everybody in it."""

    def __init__(self, document: str) -> None:
        self.document = document
        self.history = Chronicle()
        self.typists: list[Typist] = []
        self.stock: list[StockClient] = []
        self.gone: list[Typist] = []
        """Typists that never came back."""

    @property
    def owed(self) -> list[Submitted]:
        """What must be saved in the end: all but what somebody who never came back was not told was saved."""
        excused = {id(entry) for typist in self.gone for entry in typist.typed if entry.acknowledged is None}
        return [entry for entry in self.history.submitted if id(entry) not in excused]

    @property
    def clients(self) -> set[int]:
        """The ids of everybody who should be seen here."""
        return {*(typist.number for typist in self.typists), *(stock.client_id for stock in self.stock)}

    async def replicas(self) -> dict[str, bytes]:
        """What every client has."""
        found = {f"typist {typist.number}": typist.replica for typist in self.typists}
        return found | {f"stock client {client.client_id}": await client.update() for client in self.stock}


class Load:
    """See the module."""

    def __init__(
        self,
        cluster: Cluster,
        oracle: StockClients,
        rng: Random,
        *,
        rooms: int = 8,
        typists: int = 3,
        rate: float = 5.0,
        stock: int = 2,
        doors: int | None = None,
    ) -> None:
        """``stock`` of the rooms have a stock client too, which types as well; ``rate`` is updates per second and
        client; typists use the first ``doors`` nodes, or all."""
        self.cluster = cluster
        self.oracle = oracle
        self.gate = Gate()
        self.rooms = [Room(f"load:{rng.getrandbits(40):x}:{number}") for number in range(rooms)]
        self._rng = rng
        self._typists, self._rate, self._stock = typists, rate, stock
        self._urls = [node.ws_url for node in cluster.nodes[:doors]]
        self._tasks: list[asyncio.Task[None]] = []

    async def begin(self) -> None:
        """Everybody connects and types; returns when all are in and are confirmed what they type."""
        self.gate.open()
        for number, room in enumerate(self.rooms):
            for seat in range(self._typists):
                room.typists.append(self._typist(room, seat + 1, (number + seat) % len(self._urls)))
        self._tasks = [asyncio.create_task(typist.run(), name=typist.name) for typist in self.everybody]
        for number, room in enumerate(self.rooms[: self._stock]):
            who: dict[str, Any] = {"client_id": STOCK_FROM + number, "presence": {"user": {"name": f"stock {number}"}}}
            client = await self.oracle.open(self.cluster.front_url, room.document, **who)
            room.stock.append(client)
            await client.synced()
            await client.run(TYPE, round(1000 / self._rate))
        await self.editing_again()

    def _typist(self, room: Room, number: int, home: int) -> Typist:
        confirm: Confirm = "status" if number % 2 else "echo"
        rng = Random(self._rng.getrandbits(64))
        return Typist(
            self._urls,
            room.document,
            number,
            home=home,
            history=room.history,
            confirm=confirm,
            gate=self.gate,
            rng=rng,
            rate=self._rate,
        )

    @property
    def everybody(self) -> list[Typist]:
        """Every typist of every room."""
        return [typist for room in self.rooms for typist in room.typists]

    def at(self, node: Node) -> list[Typist]:
        """Typists connected to ``node``, or trying to be."""
        return [typist for typist in self.everybody if typist.node == node.number]

    async def go_home(self) -> None:
        """Let everybody who fled to another node come back to their own."""
        for typist in self.everybody:
            await typist.go_home()

    def doom(self, typists: Iterable[Typist]) -> None:
        """When their connections end these will not come back; what they are not confirmed by then may be lost."""
        for typist in typists:
            typist.returns = False
            room = next(room for room in self.rooms if typist in room.typists)
            room.typists.remove(typist)
            room.gone.append(typist)

    # what happened

    @property
    def typed(self) -> list[Typed]:
        """Everything typists submitted."""
        return [entry for typist in self.everybody for entry in typist.typed]

    def acknowledged(self, since: float = 0.0, before: float = float("inf")) -> int:
        """How many updates were called saved within these moments."""
        return sum(
            entry.acknowledged_at is not None and since <= entry.acknowledged_at < before for entry in self.typed
        )

    def latencies(self, since: float = 0.0, before: float = float("inf")) -> list[float]:
        """Seconds from sending to "saved", of the updates sent within these moments that were called saved."""
        return [
            entry.acknowledged_at - entry.sent_at
            for entry in self.typed
            if since <= entry.sent_at < before and entry.acknowledged_at is not None
        ]

    def crossings(self, since: float = 0.0, before: float = float("inf")) -> list[float]:
        """Seconds from sending an update to one node to its arrival at a client of another."""
        return [
            sight.seen_at - sight.sent_at
            for typist in self.everybody
            for sight in typist.sights
            if sight.crossed and since <= sight.sent_at < before
        ]

    def losses(self, since: float = 0.0) -> list[int]:
        """The codes with which typists' connections ended."""
        return [code for typist in self.everybody for when, code in typist.losses if when >= since]

    def gaps(self, since: float = 0.0) -> list[float]:
        """For each typist, its longest time without a synced connection; 0 for those who stayed."""
        now = time.monotonic()
        return [
            max((back - lost for lost, back in (*typist.gaps, *typist.away(now)) if lost >= since), default=0.0)
            for typist in self.everybody
        ]

    # waiting

    async def editing_again(
        self, typists: Iterable[Typist] | None = None, *, since: float | None = None, seconds: float = PATIENCE_SECONDS
    ) -> list[float]:
        """Wait until each has been confirmed something it typed after ``since`` (now); how long that took each."""
        moment = time.monotonic() if since is None else since
        waited_for = self.everybody if typists is None else list(typists)

        def when(typist: Typist) -> float | None:
            return typist.confirmed_after(moment)

        await until(
            lambda: all(when(typist) is not None for typist in waited_for),
            "some never edit again",
            seconds=seconds,
            explain=lambda: "; ".join(str(typist) for typist in waited_for if when(typist) is None),
        )
        return [found - moment for typist in waited_for if (found := when(typist)) is not None]

    async def stop(self) -> None:
        """Nobody types any more; connections stay."""
        self.gate.writing.clear()
        for room in self.rooms:
            for client in room.stock:
                await client.run("clearInterval(client.timer)")

    async def settled(self, *, seconds: float = PATIENCE_SECONDS) -> float:
        """Wait until everybody is in and everything typed is confirmed; how long it took."""
        return await until(
            lambda: all(typist.connected.is_set() and not typist.unconfirmed for typist in self.everybody),
            "some are not in, or wait for a confirmation",
            seconds=seconds,
            explain=lambda: "; ".join(
                str(typist) for typist in self.everybody if typist.unconfirmed or not typist.connected.is_set()
            ),
        )

    async def settled_since(self, moment: float, *, seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until everything typed before ``moment`` is confirmed, whoever goes on typing."""

        def owed() -> list[str]:
            return [str(typist) for typist in self.everybody if typist.owed(moment)]

        await until(lambda: not owed(), "not all is confirmed", seconds=seconds, explain=lambda: "; ".join(owed()))

    async def converged(self, *, seconds: float = PATIENCE_SECONDS) -> float:
        """After `stop`: wait until all clients of each room are equal, with all they typed; how long it took."""
        started = time.monotonic()
        left = list(self.rooms)
        while left:
            left = [room for room in left if unequal(await room.replicas())]
            if left and time.monotonic() - started > seconds:
                raise AssertionError(
                    f"not equal after {seconds:.0f} s: {[await self._differences(one) for one in left]}"
                )
            await asyncio.sleep(0.02)
        return time.monotonic() - started

    async def _differences(self, room: Room) -> str:
        """Who has what: clients, nodes, database."""
        nodes = self.cluster.up
        copies = {f"node {node.number}": await node.replica(room.document) for node in nodes}
        copies["database"] = await nodes[0].committed(room.document)
        everybody = {**await room.replicas(), **copies}
        clocks = {who: dict(sorted(state_of(replica).items())) for who, replica in everybody.items()}
        homes = {typist.number: typist.node for typist in room.typists}
        return f"{room.document}: {clocks}, typists at nodes {homes}; {unequal(copies)}"

    async def present(self, *, seconds: float = 30.0) -> float:
        """C8: wait until everybody sees exactly who is connected; how long it took."""
        return await until(
            self._presence_right, "C8: presence is wrong", seconds=seconds, explain=lambda: "; ".join(self._ghosts())
        )

    async def _presence_right(self) -> bool:
        for room in self.rooms:
            for client in room.stock:
                if set(await client.get("[...awareness.getStates().keys()]")) != room.clients:
                    return False
        return not self._ghosts()

    def _ghosts(self) -> list[str]:
        return [
            f"{room.document}: {typist.number} sees {sorted(typist.sees)} of {sorted(room.clients)}"
            for room in self.rooms
            for typist in room.typists
            if typist.sees != room.clients
        ]

    async def collect(self) -> None:
        """Put what stock clients typed into the histories, once, after `stop`."""
        for room in self.rooms:
            for client in room.stock:
                for mine in await client.get("client.mine.splice(0)"):
                    update = base64.b64decode(mine["update"])
                    room.history.submitted.append(Submitted(update, inserted=mine["token"]))

    async def close(self) -> None:
        """Disconnect everybody."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for room in self.rooms:
            for typist in (*room.typists, *room.gone):
                typist.close()
            for client in room.stock:
                await client.close()


def state_of(replica: bytes) -> dict[int, int]:
    """Client -> next clock."""
    return decode_state_vector(load(replica).get_state())


def quantile(values: Sequence[float], q: float) -> float:
    """Quantile ``q`` (0 to 1) of ``values``; 0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else 0.0


def spread(values: Sequence[float]) -> str:
    """p50, p99 and the largest of ``values``, as milliseconds or seconds."""
    if not values:
        return "none"
    return " / ".join(shown(one) for one in (statistics.median(values), quantile(values, 0.99), max(values)))


def shown(seconds: float) -> str:
    """A duration for a table."""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
