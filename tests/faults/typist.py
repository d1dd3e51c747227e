"""A client that behaves as a browser does behind a load balancer, and remembers when everything happened.

A `Typist` is a `Writer` that types at a human rate, goes on while nothing is confirmed, comes back to another node with
y-websocket's own delays when its connection ends or falls silent, and shows itself in awareness.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from collab.errors import MalformedMessage
from collab.protocol.yjs import scan_update
from tests.support import wire
from tests.support.checker import History, Submitted, merged
from tests.support.writers import Confirm, Gate, Writer

if TYPE_CHECKING:
    from random import Random

    from tests.support.writers import _Unconfirmed

FIRST_RETRY_S, LAST_RETRY_S = 0.2, 2.5
"""y-websocket 3.1: the first retry after 200 ms, then doubling."""
SILENCE_S = 30.0
"""y-websocket drops a connection on which nothing came for this long."""
OPEN_TIMEOUT_S = 5.0
"""A load balancer gives up on a node that does not answer; a browser by itself would wait for minutes."""
PRESENCE_EVERY_S = 15.0
"""y-protocols says again who is there twice per its timeout of 30 s."""
WINDOW = 2000
"""A browser has no flow control; this only keeps a test from running away."""


@dataclass(slots=True)
class Typed(Submitted):
    """One update with its moments, in monotonic seconds."""

    sent_at: float = 0.0
    node: int = -1
    """Index of the node it was sent to."""
    acknowledged_at: float | None = None
    acknowledged_wall: float | None = None
    """The same by the wall clock, to be compared with the database's."""
    connection: int = 0
    """Number of the typist's connection on which it was first sent."""
    acknowledged_on: int = 0
    """Number of the one on which it was called saved."""


@dataclass(frozen=True, slots=True)
class Sight:
    """Somebody else's update, as it came to one typist."""

    sent_at: float
    seen_at: float
    crossed: bool
    """Whether it was sent to another node than the one it came from."""


@dataclass(slots=True)
class Chronicle(History):
    """A document's history that finds updates by what they insert."""

    _ends: dict[int, list[int]] = field(default_factory=dict)
    _typed: dict[int, list[Typed]] = field(default_factory=dict)

    def add(self, client: int, end: int, entry: Typed) -> None:
        """Note an insertion that takes ``client``'s clock to ``end``."""
        self._ends.setdefault(client, []).append(end)
        self._typed.setdefault(client, []).append(entry)

    def within(self, client: int, start: int, end: int) -> Sequence[Typed]:
        """The insertions of ``client`` that lie in this range of its clock, in order."""
        ends = self._ends.get(client, [])
        return self._typed.get(client, [])[bisect_right(ends, start) : bisect_right(ends, end)]


class Typist(Writer):
    """See the module. ``urls`` are the nodes' doors, ``home`` the index of the one it tries first."""

    def __init__(
        self,
        urls: Sequence[str],
        document: str,
        number: int,
        *,
        home: int,
        history: Chronicle,
        confirm: Confirm,
        gate: Gate,
        rng: Random,
        rate: float,
    ) -> None:
        super().__init__(urls[home], document, number, history=history, confirm=confirm, gate=gate, rng=rng)
        self.chronicle = history
        self.name = f"typist {number} of {document}"
        self.node = self.home = home
        self.typed: list[Typed] = []
        self.sights: list[Sight] = []
        self.losses: list[tuple[float, int]] = []
        """When a connection ended that had been let in, and with which code (1006: without a word)."""
        self.gaps: list[tuple[float, float]] = []
        """From the end of a connection to being synced again."""
        self.present: set[int] = set()
        """Other clients it was told of, on this connection."""
        self._urls = [f"{url}/{document}" for url in urls]
        self._rate = rate
        self._latest: dict[int, int] = {}
        self._clock = 1
        self._renewed_at = time.monotonic()
        self._heard: dict[int, int] = {}
        self._lost_at: float | None = None
        self._failures = 0
        self._connections = 0
        self._leaving = False
        self.returns = True
        """Whether it comes back when its connection ends."""

    @property
    def replica(self) -> bytes:
        """See `Writer.replica`; folded, since it is asked often."""
        self._trail[:] = [merged(self._trail)]
        return self._trail[0]

    @property
    def sees(self) -> set[int]:
        """Clients that it thinks are connected, itself included."""
        return {*self.present, self.number}

    def away(self, now: float) -> list[tuple[float, float]]:
        """The gap that has not ended yet, if any."""
        return [] if self._lost_at is None else [(self._lost_at, now)]

    def confirmed_after(self, moment: float) -> float | None:
        """When it was first confirmed something that it sent after ``moment``."""
        later = self.typed[bisect_right(self.typed, moment, key=lambda entry: entry.sent_at) :]
        return min((entry.acknowledged_at for entry in later if entry.acknowledged_at is not None), default=None)

    def owed(self, moment: float) -> int:
        """How many of the updates sent before ``moment`` are not confirmed yet."""
        waiting = (one.entry for one in self._unconfirmed if not one.known)
        return sum(isinstance(entry, Typed) and entry.sent_at < moment for entry in waiting)

    async def go_home(self) -> None:
        """Leave the node it fled to, if any, for its own."""
        if self.node != self.home and self._socket is not None:
            self._leaving = True
            await self._socket.close()

    async def run(self) -> None:
        """Connect whenever the gate is open, type whenever it says so; until cancelled."""
        while self.returns:
            await self._gate.connecting.wait()
            self.offline = False
            code = await self._connection(self._urls[self.node])
            if self._leaving:
                self._leaving = False
                self._disconnected(None)
                self.node = self.home
                continue
            self._disconnected(code)
            self.node = (self.node + 1) % len(self._urls)
            delay = min(FIRST_RETRY_S * 2**self._failures, LAST_RETRY_S)
            self._failures += 1
            await asyncio.sleep(delay)

    def _disconnected(self, code: int | None) -> None:
        if self.connected.is_set() and code is not None:
            self._lost_at = time.monotonic()
            self.losses.append((self._lost_at, code))
            self.closes.append(code)
        self.connected.clear()
        self.offline = True
        self.present.clear()  # as y-websocket does

    async def _connection(self, url: str) -> int:
        try:
            async with connect(
                url,
                max_size=None,
                compression=None,
                ping_interval=None,
                proxy=None,
                open_timeout=OPEN_TIMEOUT_S,
                close_timeout=1,
            ) as socket:
                await self._session(socket)
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else 1006
        except (OSError, InvalidHandshake, EOFError, TimeoutError):
            pass
        return 1006

    async def _session(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._connections += 1
        await socket.send(wire.step1(self._document.get_state()))
        if self.confirm == "status":
            await socket.send(wire.status(self._version))
        tasks = [
            asyncio.create_task(self._write_on(socket), name=f"typist {self.number}"),
            asyncio.create_task(self._appear(socket), name=f"presence of typist {self.number}"),
        ]
        try:
            while True:
                async with asyncio.timeout(SILENCE_S):
                    frame = await socket.recv(decode=False)
                await self._read(socket, frame)
        finally:
            for task in tasks:
                task.cancel()
            for task in tasks:
                with contextlib.suppress(asyncio.CancelledError, ConnectionClosed):
                    await task

    async def _write_on(self, socket: ClientConnection) -> None:
        await self.connected.wait()
        self._failures = 0
        if self._lost_at is not None:
            self.gaps.append((self._lost_at, time.monotonic()))
            self._lost_at = None
        while True:
            await self._gate.writing.wait()
            if self.unconfirmed < WINDOW:
                await self._write(socket, self._edit())
            await asyncio.sleep(self._rng.uniform(0.5, 1.5) / self._rate)

    async def _write(self, socket: ClientConnection, entry: Submitted) -> None:
        typed = Typed(
            entry.update,
            entry.inserted,
            entry.deleted,
            sent_at=time.monotonic(),
            node=self.node,
            connection=self._connections,
        )
        for _, end in scan_update(entry.update).ranges.get(self.number, ()):
            self.chronicle.add(self.number, end, typed)
        self.typed.append(typed)
        await super()._write(socket, typed)

    async def _confirm(self, confirmed: Sequence[_Unconfirmed]) -> None:
        now, wall = time.monotonic(), time.time()
        for waiting in confirmed:
            assert isinstance(waiting.entry, Typed)
            waiting.entry.acknowledged_at, waiting.entry.acknowledged_wall = now, wall
            waiting.entry.acknowledged_on = self._connections
        await super()._confirm(confirmed)

    async def _read(self, socket: ClientConnection, frame: bytes) -> None:
        now = time.monotonic()
        for kind, sub, payload in wire.messages(frame):
            if kind == wire.AWARENESS:
                await self._notice(socket, payload)
            elif kind == wire.SYNC and sub in (wire.STEP2, wire.UPDATE):
                self._sight(payload, now)
        await super()._read(socket, frame)

    def _sight(self, update: bytes, now: float) -> None:
        try:
            ranges: Mapping[int, Sequence[tuple[int, int]]] = scan_update(update).ranges
        except MalformedMessage as error:
            self.problems.append(f"the server sent writer {self.number} an update that is none: {error}")
            return
        for client, parts in ranges.items():
            if client == self.number:
                continue
            newest = self._latest.get(client, 0)
            for start, end in parts:
                for typed in self.chronicle.within(client, max(start, newest), end):
                    self.sights.append(Sight(typed.sent_at, now, typed.node != self.node))
            self._latest[client] = max(newest, parts[-1][1])

    # awareness, as y-protocols does it

    async def _appear(self, socket: ClientConnection) -> None:
        while True:
            await self._show(socket)
            await asyncio.sleep(max(0.0, self._renewed_at + PRESENCE_EVERY_S - time.monotonic()))
            self._renewed_at = time.monotonic()  # whatever became of the connection meanwhile
            self._clock += 1

    async def _show(self, socket: ClientConnection) -> None:
        state = json.dumps({"user": {"name": f"writer {self.number}"}})
        await socket.send(wire.awareness((self.number, self._clock, state)))

    async def _notice(self, socket: ClientConnection, payload: bytes) -> None:
        for client, clock, state in entries(payload):
            if client == self.number:
                if clock >= self._clock and state == "null":
                    # Never let others remove us while we are here.
                    self._clock = clock + 1
                    await self._show(socket)
                self._clock = max(self._clock, clock)
                continue
            heard = self._heard.get(client, 0)
            if clock > heard or (clock == heard and state == "null"):
                # The clock outlives the connection, as in y-protocols: who was seen before is seen when it renews.
                self._heard[client] = clock
                (self.present.discard if state == "null" else self.present.add)(client)


def entries(payload: bytes) -> list[tuple[int, int, str]]:
    """The entries of an awareness message: client, clock, JSON text."""
    count, at = wire.read(payload, 0)
    found: list[tuple[int, int, str]] = []
    for _ in range(count):
        client, at = wire.read(payload, at)
        clock, at = wire.read(payload, at)
        size, at = wire.read(payload, at)
        found.append((client, clock, payload[at : at + size].decode()))
        at += size
    return found
