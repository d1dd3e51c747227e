"""One document being edited on this node: its `Room`, its pump, its exchange with other nodes. Performs what the room
decides.

Sessions bring frames, the pump brings the engine's verdicts, the recorder its commits: each becomes effects, and the
effects become frames in outboxes, envelopes on the bus and receipts in the recorder's queue. Nothing here waits.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from collab.errors import CloseCode, CollabError, DocumentDeleted, MalformedMessage, close_code_for, error_for
from collab.node.adoption import Adoption
from collab.node.audience import Audience
from collab.node.brake import Brake
from collab.node.catch_up import CatchUp
from collab.node.connections import ANONYMOUS
from collab.node.exchange import Exchange
from collab.node.loaded_document import LoadedDocument
from collab.node.outbox import Outbox
from collab.node.presence_turn import PresenceTurn
from collab.node.pump import Pump
from collab.node.unsaved import Unsaved, Waiters
from collab.protocol.dialects.y_websocket import decode
from collab.protocol.messages import Awareness
from collab.room import (
    Answer,
    Broadcast,
    Disconnect,
    Echo,
    Greet,
    Identity,
    Integrate,
    Proposal,
    Publish,
    PublishAwareness,
    Receipt,
    Record,
    Renew,
    Role,
    Room,
    Saved,
    Send,
    Session,
    Withdraw,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from collab.node.surroundings import Surroundings
    from collab.room import Effect
    from collab.store.port import NamedUpdate, Stored

log = structlog.get_logger(__name__)


class LiveRoom:
    """A room that runs. ``open`` it once before anything else; ``close`` it once, when `saved` says so."""

    def __init__(self, name: str, around: Surroundings, epoch: int) -> None:
        """``epoch`` is new and greater whenever this node opens the document."""
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
        self._audience = Audience(name, around.connections, around.counters, self._loop)
        self._presence = PresenceTurn(
            self._room, self._audience, self._limits.presence, self._loop, perform=self._perform
        )
        self._document = LoadedDocument(
            name,
            around.engine,
            around.log,
            around.counters,
            many_clients=self._limits.many_clients,
            unsaved=self._unsaved_updates,
            reloaded=lambda stored: self._catch_up.built_again(stored, self._unsaved.updates()),
        )
        self._pump = Pump(
            self._room,
            self._document,
            around.counters,
            around.beat,
            fast=self._limits.show_plain_at_once,
            outbox=self._audience.outbox,
            broadcast=self._broadcast,
            publish=self._publish,
            perform=self._perform,
            perform_together=self._perform_together,
            pace=self._pace,
            failed=self._fail,
            rested=lambda: self._settled.set(),
        )
        self._catch_up = CatchUp(
            self._room, self._pump, node=around.node, counters=around.counters, perform=self._perform
        )
        self.view = self._catch_up.view
        """Which rows of the log are known to be in the document."""
        self._exchange = Exchange(
            self._room,
            self._pump,
            self.view,
            node=around.node,
            epoch=epoch,
            bus=around.bus,
            times=around.times,
            rng=around.rng,
            counters=around.counters,
            loop=self._loop,
            perform=self._perform,
            awareness_changed=self._presence.changed,
            heard_of=around.heard_of,
        )
        self._unsaved = Unsaved(around.recorder.reserve)
        self._waiters = Waiters()
        self._brake = Brake(self._over_bound)
        self._adoption = Adoption(self._room, self._loop, around.times.adopt_after, perform=self._perform)
        self._settled = asyncio.Event()
        """Set whenever `saved` may have become true."""

    # life

    async def open(self) -> None:
        """Subscribe, then load (SPEC N2), then run. Raises what `LoadedDocument.open` raises."""
        await self._exchange.open()
        try:
            stored = await self._document.open()
        except BaseException:
            await self._exchange.close()
            raise
        self._around.compactor.loaded(self.name, stored)
        self._catch_up.opened(stored)
        self.empty_since = self._now()
        self._pump.start(f"room {self.name}")
        self._exchange.begin()

    @property
    def saved(self) -> bool:
        """Whether nothing is on its way to the log, nor in this document and perhaps never to be in the log."""
        if self.closed is CloseCode.DELETED:
            return self._pump.resting
        return self._pump.resting and not (self._unsaved or self._room.foreign or self._room.waits_for_peers)

    async def wait_saved(self) -> None:
        """Return when `saved`; while the database is away that takes as long as it is."""
        while not self.saved:
            self._adoption.adopt_all()
            self._settled.clear()
            await self._settled.wait()

    async def settle(self) -> None:
        """Return when everything received so far is saved, whatever comes meanwhile. Raises when the room ends."""
        receipt = Receipt((), (), self._now(), after=self._room.foreign.newest)

        async def record(_: LoadedDocument) -> None:
            self._perform([Record(receipt)])

        self._pump.run(record)
        await self._waiters.wait(receipt)

    @property
    def occupied(self) -> bool:
        """Whether anybody is here."""
        return bool(self._room.sessions)

    async def close(self) -> None:
        """Stop the pump, leave the bus, free the engine's copy."""
        self.closed = self.closed or CloseCode.RESTART
        await self._pump.stop()
        self._adoption.stop()
        await self._exchange.close()
        await self._document.forget()
        self._around.compactor.forget(self.name)

    def end(self, code: CloseCode) -> None:
        """Take nobody any more and tell everybody here why. The hub closes the room afterwards."""
        if self.closed is not None:
            return
        self.closed = code
        self._pump.finish()
        for outbox in tuple(self._around.connections.in_room(self.name).values()):
            outbox.close(code)
        self._waiters.refuse_all(error_for(code, "the document was closed"))

    # sessions

    def join(self, session: Session, outbox: Outbox) -> None:
        """Let a session in. Raises `Overloaded`. Call only while ``closed`` is None."""
        self._around.connections.add(self.name, session, outbox)
        outbox.belongs_to(session, self._pump.note_slow, self._audience.confirm_now)
        self._perform(self._room.join(session, self._now()))

    def leave(self, session: Session) -> None:
        """A session is gone; leaving twice is no mistake."""
        now = self._now()
        outbox = self._audience.outbox(session)
        self._around.connections.remove(self.name, session)
        self._pump.drop(session)
        self._brake.forget(outbox)
        self._perform(self._room.leave(session, now))
        if not self._room.sessions:
            self.empty_since = now
        self._presence.changed()

    def receive(self, session: Session, data: bytes) -> int:
        """One frame from a session; gives the number of messages in it. Hot path."""
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
                    self._presence.changed()
        except MalformedMessage as error:
            self._perform((Disconnect(session, CloseCode.MALFORMED, str(error)),))
            return 1
        return len(messages)

    def change_role(self, session: Session, role: Role) -> None:
        """A session may something else from now on."""
        self._perform(self._room.change_role(session, role))

    async def submit(self, update: bytes, author: str | None) -> None:
        """Bring in an update from outside any session; returns after the commit. Raises `MalformedMessage`,
        `DocumentTooLarge`, `DocumentDeleted`, or something `Unavailable`."""
        session = Session("submitted", Identity(author or ANONYMOUS), Role.WRITE, received=1)
        self._perform([Integrate(Proposal(session, update, 1, self._now()))])
        await self._waiters.wait(session)

    def tick(self) -> None:
        """Let time pass; called about once a second."""
        now = self._now()
        self._perform(self._room.tick(now))
        self._document.tick(now)
        self._exchange.tick(now)
        if not self._around.recorder.failing:
            self._adoption.adopt_old(occupied=self.occupied)
        self._presence.changed()
        self._brake.release()

    # other nodes

    def follow(self, rows: Sequence[NamedUpdate], through: int) -> None:
        """The log follower read these rows, and nothing before ``through`` is missing now."""
        self._catch_up.follow(rows, through, self._exchange)

    def read_whole(self, stored: Stored) -> None:
        """The log follower came too late for some rows: they are in a snapshot now, and here it is."""
        self._catch_up.read_whole(stored)

    def resync(self, cause: str) -> None:
        """Anything other nodes said may have been missed."""
        self._exchange.resync(cause)

    def peer_gone(self, node: str) -> None:
        """A node is no more."""
        self._exchange.peer_gone(node)
        self._perform(self._room.peer_gone(node, self._now()))
        self._presence.changed()

    # the recorder's side

    def committed(self, receipt: Receipt, first_seq: int | None) -> None:
        """The receipt is in the log, its rows numbered from ``first_seq``."""
        number = self._unsaved.committed(receipt)
        count = len(receipt.updates) or len(receipt.adopts)
        if count and first_seq is not None:
            self.view.add(first_seq, count)
        if receipt.updates and number is not None:
            self._exchange.tell_committed(number, count, first_seq)
        self._perform(self._room.committed(receipt))
        self._settled.set()
        self._adoption.committed()
        self._brake.release()

    def _saved(self, receipt: Receipt) -> None:
        self._settled.set()
        self._waiters.saved(receipt)
        self._pump.saved(receipt.writes)
        if receipt.writes:
            self._around.counters.edit_to_acknowledgement_s.observe(self._now() - receipt.arrived_at)

    def delayed(self, receipt: Receipt) -> None:
        """The commit is taking long."""
        self._perform(self._room.delayed(receipt))

    def deleted(self) -> None:
        """The document is gone; so is everything on its way to the log."""
        self._unsaved.give_up()
        self._settled.set()
        self.end(CloseCode.DELETED)

    def _unsaved_updates(self) -> list[bytes]:
        return [*self._unsaved.updates(), *self._room.foreign.updates()]

    def _fail(self, error: Exception) -> None:
        if isinstance(error, DocumentDeleted):
            self.deleted()
            return
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
                        self._brake.apply(self._audience.outbox(proposal.session))
                case Broadcast():
                    self._broadcast(effect)
                case Record(receipt):
                    self._record(receipt)
                case Publish():
                    self._publish(effect)
                case Echo():
                    self._audience.confirm(effect)
                case Send(session, message):
                    self._audience.send(session, message)
                case _:
                    self._perform_rarer(effect)

    def _publish(self, effect: Publish) -> None:
        receipt = effect.receipt
        if self._exchange.has_peers:
            self._exchange.tell_update(effect.message.update, self._unsaved.number(receipt), len(receipt.updates))
        else:
            self._exchange.tell_nobody()

    def _record(self, receipt: Receipt) -> None:
        number = self._unsaved.number(receipt)
        self._unsaved.add(receipt, number)
        self._around.recorder.record(self, receipt, number)

    def _broadcast(self, broadcast: Broadcast) -> None:
        """Show one thing, and with it what changed in the room's presence. Hot path."""
        if self._presence.due:
            self._perform_together((broadcast,))
        else:
            self._audience.broadcast(broadcast)

    def _perform_together(self, effects: Sequence[Effect]) -> None:
        """Perform effects of which several are broadcasts, none of which follows on another effect."""
        effects = (*effects, *self._presence.take())
        broadcasts = [effect for effect in effects if isinstance(effect, Broadcast)]
        self._audience.broadcast_together(broadcasts)
        self._perform(effect for effect in effects if not isinstance(effect, Broadcast))

    def _perform_rarer(self, effect: Effect) -> None:
        match effect:
            case Saved(receipt):
                self._saved(receipt)
            case Withdraw(receipt):
                self._exchange.withdraw(self._unsaved.withdraw(receipt))
            case PublishAwareness(entries):
                self._exchange.tell_awareness(entries)
            case Answer():
                self._pump.ask(effect)
            case Greet(session):
                self._pump.greet(session)
            case Renew(session, token):
                self._around.renew(session, token)
            case Disconnect() if not self._waiters.refuse(effect.session, error_for(effect.code, effect.detail)):
                self._audience.disconnect(effect)

    def _pace(self) -> float:
        """Seconds between two turns. Where a crowd writes, one turn for several updates saves a lot."""
        if len(self._room.sessions) <= self._limits.crowd:
            return 0.0
        return self._limits.pace_shared if self._exchange.has_peers else self._limits.pace

    def _over_bound(self) -> bool:
        return (
            self._pump.waiting_bytes + self._unsaved.bytes > self._limits.unsaved_bytes
            or self._around.counters.unsaved_bytes > self._limits.unsaved_bytes_per_node
        )
