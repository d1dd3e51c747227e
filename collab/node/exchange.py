"""What a live room and the rooms of the same document on other nodes tell each other.

Updates go out as they are integrated, and word of their commit behind them. Nobody relies on either arriving: a node
that missed something finds out by a hole in the numbers, which is seen here, by the bus saying so, or by a digest that
differs, and asks (`collab.node.anti_entropy`). While no other node is known to have the document open, nothing is sent
at all: who opens it asks first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from collab.bus.port import Kind
from collab.errors import MalformedMessage
from collab.node.anti_entropy import ASK_EVERY, AntiEntropy
from collab.node.peer import Peer
from collab.node.sender import MAX_CARRIED_BYTES, Sender
from collab.protocol import peers
from collab.protocol.peers import PeerAwareness, PeerCommitted, PeerUpdate

if TYPE_CHECKING:
    import asyncio
    import random
    from collections.abc import Callable, Iterable

    from collab.bus.port import Bus, Envelope, Subscription
    from collab.node.cluster import ClusterTimes
    from collab.node.counters import Counters
    from collab.node.log_view import LogView
    from collab.node.pump import Pump
    from collab.protocol.peers import PeerEntry, PeerMessage
    from collab.room import Effect, Room

PEER_FORGOTTEN_AFTER = 60.0
"""Seconds without a word after which nothing is sent for another node's room; it asks when it is still there."""

COMMITTED_WITHIN = 0.005
"""Seconds until word of a commit leaves; sooner with the next update, as one batch."""

ANSWERED_WITHIN = 5.0
"""Seconds in which a room says something after everybody was asked; one that does not has been closed. Guessed."""

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
        self._bus = bus
        self._loop = loop
        self._perform = perform
        self._awareness_changed = awareness_changed
        self._heard_of = heard_of
        self._subscription: Subscription | None = None
        self._peers: dict[str, Peer] = {}
        self._through = 0
        self._rows: list[tuple[int, int]] = []
        self._untold = False
        """Whether something was written since nobody else was known to have the document open."""
        self._told: dict[int, None] = {}
        """Numbers of what was sent and is not committed yet, in order."""
        self._telling: asyncio.TimerHandle | None = None
        self._sender = Sender(room.document, node=node, epoch=epoch, bus=bus)
        self._anti_entropy = AntiEntropy(
            room,
            pump,
            self._sender,
            self._peers,
            times=times,
            rng=rng,
            counters=counters,
            loop=loop,
            perform=perform,
            committed=self._committed,
        )

    async def open(self) -> None:
        """Be heard from now on (SPEC N2)."""
        self._subscription = await self._bus.subscribe(self._name, self._hear, self._lost)

    def begin(self) -> None:
        """The document is loaded: ask whoever has it open too."""
        self._anti_entropy.begin(shared=self._bus.shared)

    async def close(self) -> None:
        """Be heard no more."""
        if self._subscription is not None:
            await self._subscription.close()

    @property
    def has_peers(self) -> bool:
        """Whether another node is known to have the document open."""
        return bool(self._peers)

    # telling

    def tell_nobody(self) -> None:
        """This node's sessions wrote something while it has no peers."""
        self._anti_entropy.changed_at = self._loop.time()
        self._untold = True

    def tell_update(self, update: bytes, first: int, count: int) -> None:
        """What this node's sessions wrote, as log entries ``first`` and the following. Only while it has peers."""
        self._anti_entropy.changed_at = self._loop.time()
        if len(update) <= MAX_CARRIED_BYTES:
            self._told[first] = None
            self._tell(Kind.UPDATE, PeerUpdate(first, count, update))
            if self._telling is not None:
                self._tell_committed()

    def withdraw(self, number: int | None) -> None:
        """What was sent under this number will not be committed under it."""
        if number is not None:
            self._told.pop(number, None)

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
        self._tell(Kind.COMMITTED, PeerCommitted(self._committed(), rows))

    def _tell(self, kind: Kind, message: PeerMessage) -> None:
        """Tell every node that has the document open; one alone directly, for the channel would bring it back here."""
        to = next(iter(self._peers)) if len(self._peers) == 1 else None
        self._sender.publish(kind, message, to=to)

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
            self._anti_entropy.miss(envelope.node, peer, "hole")

    def _check_sequence(self, envelope: Envelope, peer: Peer) -> None:
        if envelope.epoch < peer.epoch:
            return  # late, from before it opened the document anew
        if envelope.epoch > peer.epoch:
            peer.epoch, peer.sequence, peer.missing_through = envelope.epoch, envelope.sequence, 0
            peer.complete = envelope.sequence == 1
            if not peer.complete:
                peer.hole(envelope.sequence)
            # Whoever was there before us is answering the question we asked everybody.
            if not peer.complete and self._loop.time() - self._anti_entropy.asked_everybody_at > ASK_EVERY:
                self._anti_entropy.miss(envelope.node, peer, "hole")
        else:
            if envelope.sequence > peer.sequence + 1:
                peer.hole(envelope.sequence)
                self._anti_entropy.miss(envelope.node, peer, "hole")
            peer.sequence = max(peer.sequence, envelope.sequence)

    def _take(self, envelope: Envelope, peer: Peer) -> None:
        node, payload = envelope.node, envelope.payload
        match envelope.kind:
            case Kind.UPDATE:
                self._anti_entropy.changed_at = self._loop.time()
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
                self._anti_entropy.hear_digest(node, peer, peers.read_digest(payload))
            case Kind.ASK if self._anti_entropy.begun:
                self._anti_entropy.hear_ask(node, peers.read_ask(payload))
            case Kind.ANSWER:
                answer = peers.read_answer(payload)
                if envelope.epoch > peer.epoch:
                    peer.epoch, peer.sequence, peer.missing_through = envelope.epoch, answer.sequence, 0
                peer.sequence = max(peer.sequence, answer.sequence)
                self._refute(node, self._room.awareness.receive_all_from_node(node, answer.entries, self._loop.time()))
                self._awareness_changed()
                self._anti_entropy.hear_answer(node, peer, answer)
            case _:
                pass  # from a newer version

    def _refute(self, node: str, removed: tuple[PeerEntry, ...]) -> None:
        if removed:
            self._sender.say(Kind.AWARENESS, PeerAwareness(removed), to=node)

    def _lost(self) -> None:
        self.resync("lost")

    def resync(self, cause: str) -> None:
        """Anything may have been missed: ask everybody, a moment later, since every room of the node will."""
        self._anti_entropy.resync(cause)

    # peers

    def tick(self, now: float) -> None:
        """Let time pass; about once a second."""
        for node, peer in tuple(self._peers.items()):
            if now - peer.heard_at > PEER_FORGOTTEN_AFTER:
                del self._peers[node]
            if self._has_closed(peer, now):
                self._room.awareness.node_gone(node, now)
        self._anti_entropy.tick(now)

    def _has_closed(self, peer: Peer, now: float) -> bool:
        """Whether the other room is no more. Its last words may be lost, and then no digest of it ever says so."""
        unanswered = peer.heard_at < self._anti_entropy.asked_everybody_at < now - ANSWERED_WITHIN
        return unanswered and not self._anti_entropy.will_ask_everybody and self._bus.connected

    def note_peer(self, node: str) -> None:
        """``node`` writes to this document, as the log shows."""
        if node not in self._peers:
            self._anti_entropy.miss(node, self._meet(node), "log")

    def _meet(self, node: str) -> Peer:
        peer = self._peers[node] = Peer(self._loop.time())
        self._anti_entropy.met()
        if self._untold and self._anti_entropy.begun:
            self._untold = False
            self._anti_entropy.tell_digest()
        return peer

    def peer_gone(self, node: str) -> None:
        """A node is no more."""
        self._peers.pop(node, None)
