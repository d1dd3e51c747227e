"""The hub: document name -> live room. Opens each once, lets it go when idle and saved, drains them all at shutdown.

Everybody who needs a document in memory comes through here: WebSockets with `enter`, REST with `submit`.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import structlog

from collab.errors import CloseCode, CollabError, DocumentQuarantined, Draining
from collab.node.access_watch import AccessWatch
from collab.node.audit_trail import AuditTrail
from collab.node.beat import Beat
from collab.node.cluster import Cluster, ClusterTimes
from collab.node.compactor import Compactor
from collab.node.connections import ConnectionLimits, ConnectionManager
from collab.node.control import AccessChanged, CloseDocument, CloseUser, Control
from collab.node.counters import Counters
from collab.node.door import Door
from collab.node.drain import see_off
from collab.node.follower import LogFollower
from collab.node.live_room import LiveRoom
from collab.node.present import Presence
from collab.node.recorder import Recorder
from collab.node.surroundings import RoomLimits, Surroundings

if TYPE_CHECKING:
    from collections.abc import Callable

    from collab.bus.port import Bus
    from collab.engine.port import Engine
    from collab.node.outbox import Outbox
    from collab.room import Session
    from collab.store.port import LogEntry, Store

TICK_EVERY = 1.0
"""Seconds."""

QUARANTINE_FOR = 60.0
"""Seconds a document that keeps killing engines is left alone; guessed."""

COMPACT_WITHIN = 5.0
"""Seconds over which nodes that share a document spread their attempts to compact it."""

GOODBYE_TIMEOUT = 2.0
"""Seconds clients get to answer a close frame before the listener is taken down."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class HubLimits:
    """How many, how large, how long (seconds)."""

    connections: ConnectionLimits = field(default_factory=ConnectionLimits)
    room: RoomLimits = field(default_factory=RoomLimits)
    cluster: ClusterTimes = field(default_factory=ClusterTimes)
    unload_after: float = 30.0
    compact_after_updates: int = 500
    drain_spread: float = 5.0


class Hub:
    """The live rooms of one node. ``start`` it once, then ``drain`` and ``close`` it once."""

    def __init__(
        self,
        *,
        node: str,
        epoch: int,
        engine: Engine,
        store: Store,
        bus: Bus,
        limits: HubLimits | None = None,
        counters: Counters | None = None,
        wall_clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        rng: random.Random | None = None,
    ) -> None:
        """``node`` is new at every start (it names log entries); ``epoch`` grows with every start of a node.

        The bus belongs to the caller: started before, closed after. ``rng`` spreads what nodes would do at once.
        """
        limits = limits or HubLimits()
        self.node = node
        self.engine = engine
        self.store = store
        self.counters = counters or Counters()
        self.door = Door()
        """Where newcomers wait for their turn; the server sends them through it before anything else."""
        self.connections = ConnectionManager(self.counters, limits.connections)
        rng = rng or random.Random()  # noqa: S311 - jitter, not secrets
        self.compactor = Compactor(
            store.log,
            engine,
            self.counters,
            after_updates=limits.compact_after_updates,
            pause=lambda: rng.random() * COMPACT_WITHIN if self.counters.nodes else 0.0,
        )
        self.recorder = Recorder(store.log, node=node, counters=self.counters, compactor=self.compactor)
        self.draining = False
        self.cluster = Cluster(
            node=node,
            epoch=epoch,
            bus=bus,
            times=limits.cluster,
            rng=rng,
            counters=self.counters,
            wished=self._carry_out,
            gone=self._peer_gone,
            returned=self._resync_all,
            present=self._present_fields,
        )
        self.audit = AuditTrail(store, self.counters)
        self.access = AccessWatch(store, every=limits.cluster.access_every, tell=self.cluster.wish)
        self.follower = LogFollower(store.log, bus, limits.cluster, lambda: self._rooms.values())
        self._around = Surroundings(
            node=node,
            engine=engine,
            log=store.log,
            bus=bus,
            times=limits.cluster,
            rng=rng,
            recorder=self.recorder,
            compactor=self.compactor,
            connections=self.connections,
            beat=Beat(),
            counters=self.counters,
            limits=limits.room,
            heard_of=self.cluster.heard_of,
            renew=self.access.renew,
        )
        self._epoch = epoch
        self._rng = rng
        self._drain_spread = limits.drain_spread
        self._unload_after = limits.unload_after
        self._wall_clock = wall_clock
        self._joined: dict[Session, datetime] = {}
        self._opening: dict[str, asyncio.Task[LiveRoom]] = {}
        self._rooms: dict[str, LiveRoom] = {}
        self._closing: dict[str, asyncio.Task[None]] = {}
        self._quarantined_until: dict[str, float] = {}
        self._ticker: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to work."""
        self.recorder.start()
        self.compactor.start()
        self.cluster.start()
        self.follower.start()
        self._ticker = asyncio.create_task(self._tick(), name="hub")

    # coming in

    async def enter(self, document: str, session: Session, outbox: Outbox) -> LiveRoom:
        """Join a session to the document's room, opening it when needed.

        Raises `Draining`, `Overloaded`, `DocumentDeleted`, `DocumentQuarantined`, `StoreUnavailable`, `EngineDied`.
        """
        while True:
            room = await self._open(document)
            if room.closed is None:
                room.join(session, outbox)
                self._joined[session] = self._wall_clock()
                return room

    def leave(self, room: LiveRoom, session: Session) -> None:
        """A session's connection is gone."""
        self._joined.pop(session, None)
        room.leave(session)

    async def submit(self, document: str, update: bytes, *, author: str | None) -> int:
        """Bring an update into a document from outside any session; the durable sequence after its commit.

        Live editors receive it like any edit. Raises what `enter` and `LiveRoom.submit` raise.
        """
        while True:
            room = await self._open(document)
            if room.closed is None:
                await room.submit(update, author)
                return await self.store.log.last_seq(document)

    def holds(self, document: str) -> bool:
        """Whether a room of the document is live or being opened here."""
        return document in self._rooms or document in self._opening

    def next_entry(self, document: str, update: bytes, author: str | None) -> LogEntry:
        """Name a log entry that does not go through a room (a document's first update)."""
        return self.recorder.entry(document, update, author)

    # who is here, and sending away

    def present(self, document: str) -> list[Presence]:
        """Who is connected to a document on this node, in the order they came."""
        return [
            Presence(session.identity, session.role, self._joined[session])
            for session in self.connections.in_room(document)
            if session in self._joined
        ]

    async def present_everywhere(self, document: str) -> tuple[list[Presence], bool]:
        """Who is connected to a document on any node, longest there first; False when a node did not answer in time."""
        elsewhere, complete = await self.cluster.who(document)
        present = [*self.present(document), *filter(None, map(Presence.read, elsewhere))]
        return sorted(present, key=lambda presence: presence.connected_at), complete

    async def close_document(self, document: str, code: CloseCode) -> None:
        """Tell everybody in a document, on every node, why it ends, and let go of it."""
        self.cluster.wish(CloseDocument(document, code))
        await self._evict(document, code)

    def close_user(self, subject: str, code: CloseCode, *, document: str | None = None) -> None:
        """Send a user's sessions away, on every node: all of them, or those in one document.

        With a code that may be retried they come back and are asked anew who they are and what they may.
        """
        self.cluster.wish(CloseUser(subject, code, document))
        self._close_user(subject, code, document)

    async def _evict(self, document: str, code: CloseCode) -> None:
        room = self._rooms.get(document)
        if room is not None:
            room.end(code)
            await asyncio.shield(self._let_go(room))

    def _close_user(self, subject: str, code: CloseCode, document: str | None) -> None:
        for session, where in tuple(self.connections.of_user(subject).items()):
            outbox = self.connections.outbox(where, session)
            if outbox is not None and document in (None, where):
                outbox.close(code)

    # other nodes

    def _carry_out(self, wish: Control) -> None:
        match wish:
            case CloseDocument(document, code):
                room = self._rooms.get(document)
                if room is not None:
                    room.end(code)
                    self._let_go(room)
            case CloseUser(subject, code, document):
                self._close_user(subject, code, document)
            case AccessChanged():
                self.access.hear(wish)

    def _peer_gone(self, node: str) -> None:
        for room in tuple(self._rooms.values()):
            room.peer_gone(node)

    def _resync_all(self, cause: str) -> None:
        for room in tuple(self._rooms.values()):
            room.resync(cause)

    def _present_fields(self, document: str) -> list[dict[str, Any]]:
        return [presence.fields() for presence in self.present(document)]

    # open once

    async def _open(self, document: str) -> LiveRoom:
        """The document's room; concurrent calls share one opening (SPEC N1)."""
        while True:
            if self.draining:
                raise Draining("this node is shutting down")
            room = self._rooms.get(document)
            if room is not None:
                if room.closed is None:
                    return room
                self._let_go(room)
            closing = self._closing.get(document)
            if closing is not None:
                await asyncio.shield(closing)
                continue
            self._refuse_quarantined(document)
            # Shielded: whoever gives up waiting must not take the room away from the others who wait.
            opening = self._opening.get(document)
            if opening is not None:
                await asyncio.shield(opening)
                await self.door.turn()  # a thousand may have waited for it, and would all join in one turn of the loop
                continue
            opening = asyncio.create_task(self._open_new(document), name=f"open {document}")
            opening.add_done_callback(lambda task: task.cancelled() or task.exception())
            self._opening[document] = opening
            return await asyncio.shield(opening)

    async def _open_new(self, document: str) -> LiveRoom:
        self._epoch += 1
        room = LiveRoom(document, self._around, self._epoch)
        try:
            await room.open()
        except DocumentQuarantined:
            self._quarantined_until[document] = asyncio.get_running_loop().time() + QUARANTINE_FOR
            raise
        finally:
            del self._opening[document]
        self._rooms[document] = room
        self.counters.rooms = len(self._rooms)
        return room

    def _refuse_quarantined(self, document: str) -> None:
        until = self._quarantined_until.get(document)
        if until is None:
            return
        if asyncio.get_running_loop().time() < until:
            raise DocumentQuarantined(f"{document} keeps killing engines")
        del self._quarantined_until[document]

    # letting go

    def _let_go(self, room: LiveRoom) -> asyncio.Task[None]:
        """Begin to close a room that has ended or is idle; until that is done nobody opens the document again.

        What it integrated but has not saved is in no other place: a new room that loaded before that is committed
        would miss it for ever. So an ended room is waited for, however long the database takes (SPEC N3).
        """
        name = room.name
        if self._rooms.get(name) is room:
            if room.closed is CloseCode.QUARANTINED:
                self._quarantined_until[name] = asyncio.get_running_loop().time() + QUARANTINE_FOR
            room.closed = room.closed or CloseCode.RESTART
            del self._rooms[name]
            self.counters.rooms = len(self._rooms)
            self._closing[name] = asyncio.create_task(self._close(room), name=f"close {name}")
        return self._closing[name]

    async def _close(self, room: LiveRoom) -> None:
        try:
            await room.wait_saved()
            await room.close()
        except CollabError as error:
            log.warning("room_close_failed", document=room.name, error=str(error))
        finally:
            del self._closing[room.name]

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_EVERY)
            now = asyncio.get_running_loop().time()
            for room in tuple(self._rooms.values()):
                try:
                    room.tick()
                except Exception:
                    log.exception("room_tick_failed", document=room.name)
                    room.end(CloseCode.FAULT)
                idle = not room.occupied and room.saved and now - room.empty_since >= self._unload_after
                if idle or room.closed is not None:
                    self._let_go(room)

    # shutdown

    async def drain(self, timeout: float) -> bool:
        """Take nobody new, save everything, tell everybody to come back; True when all of it is saved."""
        self.draining = True
        try:
            async with asyncio.timeout(timeout):
                await see_off(self._rooms.values(), self.connections, self._rng, within=self._drain_spread)
                self.connections.pause_all()  # whoever is left; else a busy room is never all saved
                await self._flush()
                self.connections.close_all(CloseCode.RESTART)
                await self._flush()
        except TimeoutError:
            self.connections.close_all(CloseCode.RESTART)
            log.error("drain_timed_out", unsaved_bytes=self.counters.unsaved_bytes)
            return False
        # A transport cut while its client still sends resets the connection, and the goodbye is lost with it.
        await self.connections.wait_empty(GOODBYE_TIMEOUT)
        self.cluster.leave()
        return True

    async def _flush(self) -> None:
        for room in tuple(self._rooms.values()):
            await room.wait_saved()
        await asyncio.gather(*map(asyncio.shield, self._closing.values()), return_exceptions=True)
        await self.recorder.flush()

    async def close(self) -> None:
        """Stop everything this hub started. Does not wait for the database: `drain` first."""
        self.draining = True
        tasks = [task for task in (self._ticker, *self._opening.values(), *self._closing.values()) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for room in tuple(self._rooms.values()):
            await room.close()
        self._rooms.clear()
        await self.access.close()
        await self.audit.close()
        await self.follower.close()
        await self.cluster.close()
        await self.compactor.close()
        await self.recorder.close()
