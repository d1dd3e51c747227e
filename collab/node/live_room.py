"""One document being edited on this node: its `Room`, its pump, its ear on the bus. Performs what the room decides.

Sessions bring frames, the pump brings the engine's verdicts, the recorder its commits: each becomes effects, and the
effects become frames in outboxes, envelopes on the bus and receipts in the recorder's queue. Nothing here waits.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from collab.bus.port import Envelope, Kind
from collab.errors import CloseCode, CollabError, MalformedMessage, close_code_for, error_for
from collab.node.loaded_document import LoadedDocument
from collab.node.outbox import Frame, Outbox
from collab.node.pump import Pump
from collab.protocol.dialects.y_websocket import decode, encode
from collab.protocol.messages import Awareness, Update
from collab.room import (
    Answer,
    Broadcast,
    Disconnect,
    Echo,
    Grant,
    Greet,
    Identity,
    Integrate,
    Proposal,
    Publish,
    Receipt,
    Record,
    Room,
    Send,
    Session,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from collab.bus.port import Bus, Subscription
    from collab.engine.port import Engine
    from collab.node.compactor import Compactor
    from collab.node.connections import ConnectionManager
    from collab.node.counters import Counters
    from collab.node.recorder import Recorder
    from collab.protocol.messages import Message
    from collab.room import Effect
    from collab.store.port import UpdateLog

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RoomLimits:
    """What one room may hold, and its times (seconds)."""

    unsaved_bytes: int = 1024 * 1024
    unsaved_bytes_per_node: int = 64 * 1024 * 1024
    max_awareness_bytes: int = 8 * 1024
    keep_alive_every: float = 10.0
    awareness_expires_after: float = 30.0


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every room of a node shares."""

    node: str
    epoch: int
    engine: Engine
    log: UpdateLog
    bus: Bus
    recorder: Recorder
    compactor: Compactor
    connections: ConnectionManager
    counters: Counters
    limits: RoomLimits


class LiveRoom:
    """A room that runs. ``open`` it once before anything else; ``close`` it once, when `saved` says so."""

    def __init__(self, name: str, around: Surroundings) -> None:
        self.name = name
        self.closed: CloseCode | None = None
        """Why it takes nobody any more; None while it lives."""
        self.empty_since = 0.0
        """When its last session left; monotonic seconds."""
        self._around = around
        # Asking for the running loop costs a system call on Python 3.11: a fifth of a busy node's time went there.
        self._loop = asyncio.get_running_loop()
        self._now = self._loop.time
        self._limits = around.limits
        self._room = Room(
            name, keep_alive_every=self._limits.keep_alive_every, expire_after=self._limits.awareness_expires_after
        )
        self._document = LoadedDocument(name, around.engine, around.log, around.counters, self._unsaved_updates)
        self._pump = Pump(
            self._room,
            self._document,
            around.counters,
            outbox=lambda session: around.connections.outbox(name, session),
            perform=self._perform,
            failed=self._fail,
            rested=lambda: self._settled.set(),
        )
        self._unsaved: dict[Receipt, None] = {}
        self._unsaved_bytes = 0
        self._paused: dict[Outbox, None] = {}
        self._submitted: dict[Session, asyncio.Future[None]] = {}
        self._settled = asyncio.Event()
        """Set whenever `saved` may have become true."""
        self._awareness_due = False
        self._published = 0
        self._last_sent: tuple[Message, Frame] | None = None
        self._subscription: Subscription | None = None

    # life

    async def open(self) -> None:
        """Subscribe, then load (SPEC N2), then run. Raises what `LoadedDocument.open` raises."""
        self._subscription = await self._around.bus.subscribe(self.name, self._hear, self._missed)
        try:
            stored = await self._document.open()
        except BaseException:
            await self._subscription.close()
            raise
        self._around.compactor.loaded(self.name, stored)
        self.empty_since = self._now()
        self._pump.start(f"room {self.name}")

    @property
    def saved(self) -> bool:
        """Whether nothing is on its way to the log."""
        return self._pump.resting and not self._unsaved

    async def wait_saved(self) -> None:
        """Return when `saved`; while the database is away that takes as long as it is."""
        while not self.saved:
            self._settled.clear()
            await self._settled.wait()

    @property
    def occupied(self) -> bool:
        """Whether anybody is here."""
        return bool(self._room.sessions)

    async def close(self) -> None:
        """Stop the pump, leave the bus, free the engine's copy."""
        self.closed = self.closed or CloseCode.RESTART
        await self._pump.stop()
        if self._subscription is not None:
            await self._subscription.close()
        await self._document.forget()
        self._around.compactor.forget(self.name)

    def end(self, code: CloseCode) -> None:
        """Take nobody any more and tell everybody here why. The hub closes the room afterwards."""
        if self.closed is not None:
            return
        self.closed = code
        self._pump.finish()
        for outbox in tuple(self._around.connections.in_room(self.name).values()):
            outbox.connection.close(code)
        for waiter in self._submitted.values():
            if not waiter.done():
                waiter.set_exception(error_for(code, "the document was closed"))
        self._submitted.clear()

    # sessions

    def join(self, session: Session, outbox: Outbox) -> None:
        """Let a session in. Raises `Overloaded`. Call only while ``closed`` is None."""
        self._around.connections.add(self.name, session, outbox)
        outbox.belongs_to(session, self._pump.note_slow)
        self._perform(self._room.join(session, self._now()))

    def leave(self, session: Session) -> None:
        """A session is gone; leaving twice is no mistake."""
        now = self._now()
        outbox = self._around.connections.outbox(self.name, session)
        self._around.connections.remove(self.name, session)
        self._pump.drop(session)
        if outbox is not None:
            self._paused.pop(outbox, None)
        self._perform(self._room.leave(session, now))
        if not self._room.sessions:
            self.empty_since = now
        self._flush_awareness_soon()

    def receive(self, session: Session, data: bytes) -> None:
        """One frame from a session. Hot path."""
        counters = self._around.counters
        counters.bytes_in += len(data)
        try:
            messages = decode(data, max_awareness_state_bytes=self._limits.max_awareness_bytes)
            now = self._now()
            for message in messages:
                kind = type(message)
                counters.messages_in[kind.__name__] += 1
                self._perform(self._room.receive(session, message, now))
                if kind is Awareness:
                    self._flush_awareness_soon()
        except MalformedMessage as error:
            self._disconnect(Disconnect(session, CloseCode.MALFORMED, str(error)))

    async def submit(self, update: bytes, author: str | None) -> None:
        """Bring in an update from outside any session; returns after the commit.

        Raises `MalformedMessage`, `DocumentTooLarge`, `DocumentDeleted`, or something `Unavailable`.
        """
        session = Session("submitted", Identity(author or "anonymous"), Grant.WRITE, received=1)
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._submitted[session] = waiter
        self._perform([Integrate(Proposal(session, update, 1, self._now()))])
        try:
            await waiter
        finally:
            self._submitted.pop(session, None)

    def tick(self) -> None:
        """Let time pass; called about once a second."""
        self._perform(self._room.tick(self._now()))
        self._flush_awareness_soon()
        self._resume_paused()

    # the recorder's side

    def committed(self, receipt: Receipt) -> None:
        """The receipt is in the log."""
        self._unsaved.pop(receipt, None)
        self._settled.set()
        self._unsaved_bytes -= sum(len(update) for update, _ in receipt.updates)
        self._perform(self._room.committed(receipt))
        self._around.counters.edit_to_acknowledgement_s.observe(self._now() - receipt.arrived_at)
        if self._submitted:
            for session, _ in receipt.writes:
                waiter = self._submitted.get(session)
                if waiter is not None and not waiter.done():
                    waiter.set_result(None)
        if self._paused:
            self._resume_paused()

    def delayed(self, receipt: Receipt) -> None:
        """The commit is taking long."""
        self._perform(self._room.delayed(receipt))

    def deleted(self) -> None:
        """The document is gone; so is everything on its way to the log."""
        self._unsaved.clear()
        self._settled.set()
        self.end(CloseCode.DELETED)

    def _unsaved_updates(self) -> list[bytes]:
        return [update for receipt in self._unsaved for update, _ in receipt.updates]

    def _fail(self, error: Exception) -> None:
        code = close_code_for(error)
        if isinstance(error, CollabError):
            log.error("room_failed", document=self.name, code=code.code, error=str(error))
        else:
            log.exception("room_failed", document=self.name, code=code.code)
        self.end(code)

    # effects

    def _perform(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            match effect:
                case Integrate(proposal):
                    self._pump.propose(proposal)
                    if self._over_bound():
                        self._pause(proposal.session)
                case Broadcast(message, except_):
                    self._around.connections.fan_out(self.name, self._frame(message), except_)
                case Publish(message):
                    self._publish(message)
                case Record(receipt):
                    self._unsaved[receipt] = None
                    for update, _ in receipt.updates:
                        self._unsaved_bytes += len(update)
                    self._around.recorder.record(self, receipt)
                case Echo(message, authors):
                    self._around.connections.send_to(self.name, self._frame(message), authors)
                case Send(session, message):
                    self._send(session, message)
                case Answer():
                    self._pump.ask(effect)
                case Greet(session):
                    self._pump.greet(session)
                case Disconnect():
                    self._disconnect(effect)

    def _frame(self, message: Message) -> Frame:
        last = self._last_sent
        if last is not None and last[0] is message:
            return last[1]
        frame = Frame(encode(message))
        self._last_sent = (message, frame)
        return frame

    def _send(self, session: Session, message: Message) -> None:
        outbox = self._around.connections.outbox(self.name, session)
        if outbox is None:
            return
        frame = self._frame(message)
        self._around.counters.frames_out += 1
        self._around.counters.bytes_out += len(frame.payload)
        if isinstance(message, Update):
            outbox.write(frame)
        else:
            outbox.write_always(frame)

    def _disconnect(self, effect: Disconnect) -> None:
        waiter = self._submitted.get(effect.session)
        if waiter is not None:
            if not waiter.done():
                waiter.set_exception(error_for(effect.code, effect.detail))
            return
        outbox = self._around.connections.outbox(self.name, effect.session)
        if outbox is not None:
            log.info(
                "session_closed",
                document=self.name,
                session=effect.session.id,
                code=effect.code.code,
                detail=effect.detail[:200],
            )
            outbox.connection.close(effect.code)

    def _publish(self, message: Update | Awareness) -> None:
        around = self._around
        self._published += 1
        if isinstance(message, Update):
            kind, payload = Kind.UPDATE, message.update
        else:
            kind, payload = Kind.AWARENESS, self._frame(message).payload
        around.bus.publish(Envelope(self.name, around.node, around.epoch, self._published, kind, payload))

    def _hear(self, envelope: Envelope) -> None:
        if envelope.node == self._around.node:
            return
        if envelope.kind is Kind.UPDATE:
            self._pump.hear(envelope.payload)
            return
        for message in decode(envelope.payload, max_awareness_state_bytes=self._limits.max_awareness_bytes):
            if isinstance(message, Awareness):
                self._room.awareness.receive_from_node(envelope.node, message.entries, self._now())
        self._flush_awareness_soon()

    def _missed(self) -> None:
        for session in self._room.sessions:
            self._pump.greet(session)

    # awareness, and reading more slowly

    def _flush_awareness_soon(self) -> None:
        if not self._awareness_due:
            self._awareness_due = True
            self._loop.call_soon(self._flush_awareness)

    def _flush_awareness(self) -> None:
        self._awareness_due = False
        self._perform(self._room.flush_awareness())

    def _over_bound(self) -> bool:
        return (
            self._pump.waiting_bytes + self._unsaved_bytes > self._limits.unsaved_bytes
            or self._around.counters.unsaved_bytes > self._limits.unsaved_bytes_per_node
        )

    def _pause(self, session: Session) -> None:
        outbox = self._around.connections.outbox(self.name, session)
        if outbox is not None and not outbox.paused:
            outbox.paused = True
            outbox.connection.pause_reading()
            self._paused[outbox] = None

    def _resume_paused(self) -> None:
        if self._paused and not self._over_bound():
            for outbox in self._paused:
                outbox.paused = False
                outbox.connection.resume_reading()
            self._paused.clear()
