"""What a live room and the rooms of the same document on other nodes tell each other.

Updates go out as they are integrated, and word of their commit behind them. Nobody relies on either arriving: a node
that missed something finds out by a hole in the numbers, by the bus saying so, or by a digest that differs, and asks.
While no other node is known to have the document open, nothing is sent at all: who opens it asks first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from collab.bus.port import Envelope, Kind
from collab.errors import MalformedMessage
from collab.node.peer import Peer
from collab.protocol import peers
from collab.protocol.peers import PeerAnswer, PeerAsk, PeerAwareness, PeerCommitted, PeerDigest, PeerUpdate
from collab.protocol.yjs import EMPTY_UPDATE, read_state_vector

if TYPE_CHECKING:
    import asyncio
    import random
    from collections.abc import Callable, Iterable

    from collab.bus.port import Bus, Subscription
    from collab.engine.port import Digest
    from collab.node.cluster import ClusterTimes
    from collab.node.counters import Counters
    from collab.node.loaded_document import LoadedDocument
    from collab.node.log_view import LogView
    from collab.node.pump import Errand, Pump
    from collab.protocol.peers import PeerEntry, PeerMessage
    from collab.room import Effect, Room

MAX_VECTOR_BYTES = 4096
"""Larger state vectors are not sent with every digest."""

PEER_FORGOTTEN_AFTER = 60.0
"""Seconds without a word after which nothing is sent for another node's room; it asks when it is still there."""

MAX_CARRIED_BYTES = 4 * 1024 * 1024
"""Larger updates are left to the log follower: a few of them would overflow the bus's buffers, and all else in them."""

COMMITTED_WITHIN = 0.005
"""Seconds until word of a commit leaves; sooner with the next update, as one batch."""

ASK_EVERY = 1.0
"""Seconds between two questions to one node."""

MAX_ASK_EVERY = 60.0
"""Seconds between two questions when the answers bring nothing and the digests still differ."""

QUIET_AFTER = 30.0
"""Seconds without a change after which digests go out `SLOWER` times as rarely."""

SLOWER = 5

FRUITLESS_IS_WRONG = 10
"""So many such answers in a row are reported as an error."""

ANSWERED_WITHIN = 5.0
"""Seconds in which a room says something after everybody was asked; one that does not has been closed. Guessed."""

LATE_BY = 1.0
"""Seconds over which rooms that lost their bus spread their questions."""

log = structlog.get_logger(__name__)


class Exchange:
    """One room's side of it. ``open`` it before the document is loaded, ``begin`` after, ``close`` it once."""

    def __init__(
        self,
        room: Room,
        pump: Pump,
        view: LogView,
        *,
        node: str,
        epoch: int,
        bus: Bus,
        times: ClusterTimes,
        rng: random.Random,
        counters: Counters,
        loop: asyncio.AbstractEventLoop,
        perform: Callable[[Iterable[Effect]], None],
        awareness_changed: Callable[[], None],
        heard_of: Callable[[str], None],
    ) -> None:
        """``epoch`` is new and greater each time this node opens the document; ``perform`` takes the room's effects;
        ``heard_of`` is told which node gave a sign of life."""
        self._room = room
        self._name = room.document
        self._pump = pump
        self._view = view
        self._node = node
        self._epoch = epoch
        self._bus = bus
        self._times = times
        self._rng = rng
        self._counters = counters
        self._loop = loop
        self._perform = perform
        self._awareness_changed = awareness_changed
        self._heard_of = heard_of
        self._subscription: Subscription | None = None
        self._begun = False
        self._sequence = 0
        self._peers: dict[str, Peer] = {}
        self._asks: dict[str, PeerAsk] = {}
        """The newest question of each node that is not answered yet: one that slept finds a row of them."""
        self._through = 0
        self._rows: list[tuple[int, int]] = []
        self._untold = False
        """Whether something was written since nobody else was known to have the document open."""
        self._told: dict[int, None] = {}
        """Numbers of what was sent and is not committed yet, in order."""
        self._telling: asyncio.TimerHandle | None = None
        self._asked_everybody_at = float("-inf")
        self._ask_everybody_at: float | None = None
        self._cause = "opened"
        self._changed_at = loop.time()
        self._digest_at = 0.0
        """When to send the next digest, or, while nobody else is known, the next question."""
        self._alone_for = 0

    async def open(self) -> None:
        """Be heard from now on (SPEC N2)."""
        self._subscription = await self._bus.subscribe(self._name, self._hear, self._lost)

    def begin(self) -> None:
        """The document is loaded: ask whoever has it open too."""
        self._begun = True
        if self._bus.shared:
            self._ask_everybody("opened")

    async def close(self) -> None:
        """Be heard no more."""
        if self._subscription is not None:
            await self._subscription.close()

    @property
    def has_peers(self) -> bool:
        """Whether another node is known to have the document open."""
        return bool(self._peers)

    # telling

    def tell_update(self, update: bytes, first: int, count: int) -> None:
        """What this node's sessions wrote, as log entries ``first`` and the following."""
        self._changed_at = self._loop.time()
        if not self._peers:
            self._untold = True
        elif len(update) <= MAX_CARRIED_BYTES:
            self._told[first] = None
            self._tell(Kind.UPDATE, PeerUpdate(first, count, update))
            if self._telling is not None:
                self._tell_committed()

    def withdraw(self, number: int | None) -> None:
        """What was sent under this number will not be committed under it."""
        if number is not None:
            self._told.pop(number, None)

    @property
    def _committed(self) -> int:
        """Everything that was sent up to this number is committed."""
        return min(self._through, next(iter(self._told), self._through + 1) - 1)

    def tell_awareness(self, entries: tuple[PeerEntry, ...]) -> None:
        """What changed in the presence of this node's sessions."""
        if self._peers:
            self._tell(Kind.AWARENESS, PeerAwareness(entries))

    def tell_committed(self, first: int, count: int, first_seq: int | None) -> None:
        """The ``count`` log entries from ``first`` on are committed, as rows from ``first_seq`` on."""
        self._through = max(self._through, first + count - 1)
        told = first in self._told
        self._told.pop(first, None)
        if not self._peers:
            return
        if told and first_seq is not None:  # of rows that hold what was not sent, others must not think they know them
            self._rows.append((first_seq, count))
        if self._telling is None:
            self._telling = self._loop.call_later(COMMITTED_WITHIN, self._tell_committed)

    def _tell_committed(self) -> None:
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None
        rows, self._rows = tuple(self._rows), []
        self._tell(Kind.COMMITTED, PeerCommitted(self._committed, rows))

    def _tell(self, kind: Kind, message: PeerMessage) -> None:
        """Tell every node that has the document open; one alone directly, for the channel would bring it back here."""
        to = next(iter(self._peers)) if len(self._peers) == 1 else None
        self._publish(kind, message, to=to)

    def _publish(self, kind: Kind, message: PeerMessage, to: str | None = None) -> None:
        """Publish, numbered: to one node too, since a node that hears of us for the first time asks first."""
        self._sequence += 1
        envelope = Envelope(self._name, self._node, self._epoch, self._sequence, kind, peers.pack(message))
        self._bus.publish(envelope, to=to)

    def _say(self, kind: Kind, message: PeerMessage, to: str) -> None:
        """Tell one node what is of no use to others; not numbered, nobody would miss it."""
        self._bus.publish(Envelope(self._name, self._node, self._epoch, 0, kind, peers.pack(message)), to=to)

    # hearing

    def _hear(self, envelope: Envelope) -> None:
        if envelope.node == self._node:
            return
        peer = self._peers.get(envelope.node)
        if peer is None:
            peer = self._meet(envelope.node)
        peer.heard_at = self._loop.time()
        self._heard_of(envelope.node)
        if envelope.sequence:
            self._check_sequence(envelope, peer)
        try:
            self._take(envelope, peer)
        except MalformedMessage as error:
            log.error("peer_message_malformed", document=self._name, kind=envelope.kind, error=str(error))
            self._miss(envelope.node, peer, "hole")

    def _check_sequence(self, envelope: Envelope, peer: Peer) -> None:
        if envelope.epoch < peer.epoch:
            return  # late, from before it opened the document anew
        if envelope.epoch > peer.epoch:
            peer.epoch, peer.sequence, peer.missing_through = envelope.epoch, envelope.sequence, 0
            peer.complete = envelope.sequence == 1
            if not peer.complete:
                peer.hole(envelope.sequence)
            # Whoever was there before us is answering the question we asked everybody.
            if not peer.complete and self._loop.time() - self._asked_everybody_at > ASK_EVERY:
                self._miss(envelope.node, peer, "hole")
        else:
            if envelope.sequence > peer.sequence + 1:
                peer.hole(envelope.sequence)
                self._miss(envelope.node, peer, "hole")
            peer.sequence = max(peer.sequence, envelope.sequence)

    def _take(self, envelope: Envelope, peer: Peer) -> None:
        node, payload = envelope.node, envelope.payload
        match envelope.kind:
            case Kind.UPDATE:
                self._changed_at = self._loop.time()
                self._pump.hear(node, peers.read_update(payload))
            case Kind.COMMITTED:
                message = peers.read_committed(payload)
                if peer.complete and message.rows:
                    self._pump.afterwards(lambda: self._view.add_all(message.rows))
                self._perform(self._room.peer_committed(node, message.through))
            case Kind.AWARENESS:
                entries = peers.read_awareness(payload).entries
                self._refute(node, self._room.awareness.receive_from_node(node, entries, self._loop.time()))
                self._awareness_changed()
            case Kind.DIGEST:
                self._hear_digest(node, peer, peers.read_digest(payload), envelope.sequence)
            case Kind.ASK if self._begun:
                waits = node in self._asks
                self._asks[node] = peers.read_ask(payload)
                if not waits:
                    self._run(lambda document: self._answer(node, document))
            case Kind.ANSWER:
                answer = peers.read_answer(payload)
                if envelope.epoch > peer.epoch:
                    peer.epoch, peer.sequence, peer.missing_through = envelope.epoch, answer.sequence, 0
                peer.sequence = max(peer.sequence, answer.sequence)
                self._hear_answer(node, peer, answer)
            case _:
                pass  # from a newer version

    def _hear_digest(self, node: str, peer: Peer, theirs: PeerDigest, sequence: int) -> None:
        self._perform(self._room.peer_committed(node, theirs.through))
        if theirs.presence != self._room.awareness.digest(node):
            self._miss(node, peer, "presence")
        self._run(lambda document: self._compare(node, theirs, sequence, document))

    async def _compare(self, node: str, theirs: PeerDigest, sequence: int, document: LoadedDocument) -> None:
        peer = self._peers.get(node)
        if peer is None:
            return
        mine = await document.digest()
        if mine.hash == theirs.hash:
            peer.fruitless = 0
            peer.level(sequence)
        elif not theirs.state_vector or _lacks(mine, theirs.state_vector) or mine.state_vector == theirs.state_vector:
            # Only what *we* lack is asked for: what they lack may be on its way, and they will see for themselves.
            self._miss(node, peer, "digest")

    def _refute(self, node: str, removed: tuple[PeerEntry, ...]) -> None:
        if removed:
            self._say(Kind.AWARENESS, PeerAwareness(removed), to=node)

    def _hear_answer(self, node: str, peer: Peer, answer: PeerAnswer) -> None:
        self._refute(node, self._room.awareness.receive_all_from_node(node, answer.entries, self._loop.time()))
        self._awareness_changed()
        if answer.same:
            peer.fruitless = 0
            peer.level(answer.sequence)
        else:
            self._run(lambda document: self._integrate(node, answer, document))
        self._perform(self._room.peer_committed(node, answer.through))

    async def _integrate(self, node: str, theirs: PeerAnswer, document: LoadedDocument) -> None:
        before = await document.state_vector()
        answer = await document.integrate([theirs.update]) or await document.integrate_alone(theirs.update)
        peer = self._peers.get(node)
        if answer.merged is None:
            if peer is not None:
                self._note_fruitless(node, peer)
        else:
            self._changed_at = self._loop.time()
            self._digest_at = 0.0  # whoever else may lack it should see
            # Not the answer itself: it may repeat what a session here wrote, and be taken for its confirmation.
            brought = (await document.diff(before)).update
            self._perform(self._room.resynced(brought, self._loop.time()))
        if peer is not None:
            peer.level(theirs.sequence)

    def _note_fruitless(self, node: str, peer: Peer) -> None:
        peer.fruitless += 1
        if peer.fruitless == FRUITLESS_IS_WRONG:
            log.error("replicas_differ", document=self._name, node=node)

    async def _answer(self, node: str, document: LoadedDocument) -> None:
        ask = self._asks.pop(node)
        mine = await document.digest()
        same = ask.hash == mine.hash
        update = EMPTY_UPDATE if same else (await document.diff(ask.state_vector)).update
        sequence = self._sequence
        if len(update) > MAX_CARRIED_BYTES:
            update, sequence = EMPTY_UPDATE, 0  # it fills no hole
        entries = self._room.awareness.owned_here(self._loop.time())
        self._say(Kind.ANSWER, PeerAnswer(sequence, same, update, self._committed, entries), to=node)
        peer = self._peers.get(node)
        if peer is not None and not same and _lacks(mine, ask.state_vector):
            self._miss(node, peer, "digest")

    # asking

    def _lost(self) -> None:
        self.resync("lost")

    def resync(self, cause: str) -> None:
        """Anything may have been missed: ask everybody, a moment later, since every room of the node will."""
        for peer in self._peers.values():
            peer.complete = False
        if self._ask_everybody_at is None:
            self._ask_everybody_at = self._loop.time() + self._rng.random() * LATE_BY
            self._cause = cause

    def _miss(self, node: str, peer: Peer, cause: str) -> None:
        """Something of ``node`` may be missing: ask it, but not at every word."""
        peer.missed, peer.complete = peer.missed or cause, False
        pause = min(MAX_ASK_EVERY, ASK_EVERY * 2 ** min(peer.fruitless, 10))
        now = self._loop.time()
        if now - peer.asked_at < pause or not self._begun:
            return  # `tick` asks
        self._counters.resyncs.add(peer.missed)
        peer.missed, peer.asked_at = None, now
        self._run(lambda document: self._ask(document, to=node))

    def _ask_everybody(self, cause: str) -> None:
        self._counters.resyncs.add(cause)
        self._asked_everybody_at = self._loop.time()
        # Should nobody be found, again soon, and then ever more rarely.
        pace = self._times.digest_every * min(SLOWER, 2**self._alone_for / 3)
        self._alone_for = min(self._alone_for + 1, 10)
        self._digest_at = 0.0 if self._peers else self._asked_everybody_at + pace * (0.75 + self._rng.random() / 2)
        self._run(lambda document: self._ask(document, to=None))

    async def _ask(self, document: LoadedDocument, to: str | None) -> None:
        mine = await document.digest()
        question = PeerAsk(mine.hash, mine.state_vector)
        if to is None:
            self._publish(Kind.ASK, question)
        else:
            self._say(Kind.ASK, question, to=to)

    # time

    def tick(self, now: float) -> None:
        """Let time pass; about once a second."""
        for node, peer in tuple(self._peers.items()):
            if now - peer.heard_at > PEER_FORGOTTEN_AFTER:
                del self._peers[node]
            elif peer.missed is not None:
                self._miss(node, peer, peer.missed)
            if self._has_closed(peer, now):
                self._room.awareness.node_gone(node, now)
        if self._ask_everybody_at is not None and now >= self._ask_everybody_at and self._begun:
            self._ask_everybody_at = None
            self._alone_for = 0
            self._ask_everybody(self._cause)
        if self._peers and now >= self._digest_at:
            pace = self._times.digest_every * (1 if now - self._changed_at < QUIET_AFTER else SLOWER)
            self._digest_at = now + pace * (0.75 + self._rng.random() / 2)
            self._run(self._tell_digest)
        elif self._counters.nodes and now >= self._digest_at and self._begun:
            # Two rooms whose questions were both lost would never know of each other.
            self._ask_everybody("alone")

    def _has_closed(self, peer: Peer, now: float) -> bool:
        """Whether the other room is no more. Its last words may be lost, and then no digest of it ever says so."""
        unanswered = peer.heard_at < self._asked_everybody_at < now - ANSWERED_WITHIN
        return unanswered and self._ask_everybody_at is None and self._bus.connected

    async def _tell_digest(self, document: LoadedDocument) -> None:
        mine = await document.digest()
        vector = mine.state_vector if len(mine.state_vector) <= MAX_VECTOR_BYTES else b""
        presence = self._room.awareness.digest()
        self._publish(Kind.DIGEST, PeerDigest(mine.hash, vector, presence, self._committed))

    def _run(self, errand: Errand) -> None:
        """Do it in the pump's next turn. What another node sent may be wrong, and must not end the room."""

        async def guarded(document: LoadedDocument) -> None:
            try:
                await errand(document)
            except MalformedMessage as error:
                log.error("peer_message_malformed", document=self._name, error=str(error))

        self._pump.run(guarded)

    def note_peer(self, node: str) -> None:
        """``node`` writes to this document, as the log shows."""
        if node not in self._peers:
            self._miss(node, self._meet(node), "log")

    def _meet(self, node: str) -> Peer:
        self._digest_at = min(self._digest_at, self._loop.time() + self._times.digest_every)
        peer = self._peers[node] = Peer(self._loop.time())
        if self._untold and self._begun:
            self._untold = False
            self._run(self._tell_digest)
        return peer

    def peer_gone(self, node: str) -> None:
        """A node is no more."""
        self._peers.pop(node, None)


def _lacks(mine: Digest, theirs: bytes) -> bool:
    known = read_state_vector(mine.state_vector)
    return any(clock > known.get(client, 0) for client, clock in read_state_vector(theirs).items())
