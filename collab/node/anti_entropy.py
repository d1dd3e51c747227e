"""Anti-entropy: what makes the replicas of a document on several nodes equal again, whatever the bus lost.

Digests say what a room holds, and whoever lacks some of it asks; the answer is the difference. The room's `Exchange`
hears these messages and hands them over; it also says when something of another node may be missing. What follows needs
the document, so all of it is done in the pump's next turn. (The term: Demers et al., Epidemic algorithms for replicated
database maintenance, 1987.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from collab.bus.port import Kind
from collab.errors import MalformedMessage
from collab.node.sender import MAX_CARRIED_BYTES
from collab.protocol.peers import PeerAnswer, PeerAsk, PeerDigest
from collab.protocol.yjs import EMPTY_UPDATE, read_state_vector

if TYPE_CHECKING:
    import asyncio
    import random
    from collections.abc import Callable, Iterable, Mapping

    from collab.engine.port import Digest
    from collab.node.cluster import ClusterTimes
    from collab.node.counters import Counters
    from collab.node.loaded_document import LoadedDocument
    from collab.node.peer import Peer
    from collab.node.pump import Errand, Pump
    from collab.node.sender import Sender
    from collab.room import Effect, Room

MAX_VECTOR_BYTES = 4096
"""Larger state vectors are not sent with every digest."""

ASK_EVERY = 1.0
"""Seconds between two questions to one node."""

MAX_ASK_EVERY = 60.0
"""Seconds between two questions when the answers bring nothing and the digests still differ."""

QUIET_AFTER = 30.0
"""Seconds without a change after which digests go out `SLOWER` times as rarely."""

SLOWER = 5

FRUITLESS_IS_WRONG = 10
"""So many such answers in a row are reported as an error."""

LATE_BY = 1.0
"""Seconds over which rooms that lost their bus spread their questions."""

log = structlog.get_logger(__name__)


class AntiEntropy:
    """One room's side of it. ``begin`` it once the document is loaded, then ``tick`` it."""

    def __init__(
        self,
        room: Room,
        pump: Pump,
        sender: Sender,
        peers: Mapping[str, Peer],
        *,
        times: ClusterTimes,
        rng: random.Random,
        counters: Counters,
        loop: asyncio.AbstractEventLoop,
        perform: Callable[[Iterable[Effect]], None],
        committed: Callable[[], int],
    ) -> None:
        """``peers`` are the nodes known at any time to have the document open: the caller adds and removes them.
        ``committed`` says up to which number everything that was sent is committed."""
        self._room = room
        self._pump = pump
        self._sender = sender
        self._peers = peers
        self._times = times
        self._rng = rng
        self._counters = counters
        self._loop = loop
        self._perform = perform
        self._committed = committed
        self.begun = False
        """Whether the document is loaded; before, nothing is asked or answered."""
        self.changed_at = loop.time()
        """When the document last changed. A plain attribute: the exchange sets it with every update."""
        self.asked_everybody_at = float("-inf")
        self._ask_everybody_at: float | None = None
        self._cause = "opened"
        self._asks: dict[str, PeerAsk] = {}
        """The newest question of each node that is not answered yet: one that slept finds a row of them."""
        self._digest_at = 0.0
        """When to send the next digest, or, while nobody else is known, the next question."""
        self._alone_for = 0

    def begin(self, *, shared: bool) -> None:
        """The document is loaded: ask whoever has it open too, if other nodes share the bus."""
        self.begun = True
        if shared:
            self._ask_everybody("opened")

    def tick(self, now: float) -> None:
        """Let time pass; about once a second."""
        for node, peer in self._peers.items():
            if peer.missed is not None:
                self.miss(node, peer, peer.missed)
        if self._ask_everybody_at is not None and now >= self._ask_everybody_at and self.begun:
            self._ask_everybody_at = None
            self._alone_for = 0
            self._ask_everybody(self._cause)
        if self._peers and now >= self._digest_at:
            pace = self._times.digest_every * (1 if now - self.changed_at < QUIET_AFTER else SLOWER)
            self._digest_at = now + pace * (0.75 + self._rng.random() / 2)
            self.tell_digest()
        elif self._counters.nodes and now >= self._digest_at and self.begun:
            # Two rooms whose questions were both lost would never know of each other.
            self._ask_everybody("alone")

    def _run(self, errand: Errand) -> None:
        """Do it in the pump's next turn. What another node sent may be wrong, and must not end the room."""

        async def guarded(document: LoadedDocument) -> None:
            try:
                await errand(document)
            except MalformedMessage as error:
                log.error("peer_message_malformed", document=self._room.document, error=str(error))

        self._pump.run(guarded)

    # digests

    def met(self) -> None:
        """There is a new peer: it should hear a digest soon."""
        self._digest_at = min(self._digest_at, self._loop.time() + self._times.digest_every)

    def tell_digest(self) -> None:
        """Tell every peer what this room holds."""
        self._run(self._tell_digest)

    async def _tell_digest(self, document: LoadedDocument) -> None:
        sequence = self._held_through()
        mine = await document.digest()
        vector = mine.state_vector if len(mine.state_vector) <= MAX_VECTOR_BYTES else b""
        presence = self._room.awareness.digest()
        self._sender.publish(Kind.DIGEST, PeerDigest(mine.hash, vector, presence, self._committed(), sequence))

    def _held_through(self) -> int:
        """Everything that was said up to this number is in our engine's document; 0 when something may not be.

        Asked before the engine is: what is shown and said while it looks (SPEC R15) is not in what it finds, and who
        lost that would take the hole for filled.
        """
        return 0 if self._pump.engine_lacks_own else self._sender.sequence

    def hear_digest(self, node: str, peer: Peer, theirs: PeerDigest) -> None:
        """``node`` tells what it holds."""
        self._perform(self._room.peer_committed(node, theirs.through))
        if theirs.presence != self._room.awareness.digest(node):
            self.miss(node, peer, "presence")
        self._run(lambda document: self._compare(node, theirs, document))

    async def _compare(self, node: str, theirs: PeerDigest, document: LoadedDocument) -> None:
        peer = self._peers.get(node)
        if peer is None:
            return
        mine = await document.digest()
        if mine.hash == theirs.hash:
            peer.fruitless = 0
            peer.level(theirs.sequence)
        elif not theirs.state_vector or _lacks(mine, theirs.state_vector) or mine.state_vector == theirs.state_vector:
            # Only what *we* lack is asked for: what they lack may be on its way, and they will see for themselves.
            self.miss(node, peer, "digest")

    # asking

    def miss(self, node: str, peer: Peer, cause: str) -> None:
        """Something of ``node`` may be missing: ask it, but not at every word."""
        peer.missed, peer.complete = peer.missed or cause, False
        pause = min(MAX_ASK_EVERY, ASK_EVERY * 2 ** min(peer.fruitless, 10))
        now = self._loop.time()
        if now - peer.asked_at < pause or not self.begun:
            return  # `tick` asks
        self._counters.resyncs.add(peer.missed)
        peer.missed, peer.asked_at = None, now
        self._run(lambda document: self._ask(document, to=node))

    def resync(self, cause: str) -> None:
        """Anything may have been missed: ask everybody, a moment later, since every room of the node will."""
        for peer in self._peers.values():
            peer.complete = False
        if self._ask_everybody_at is None:
            self._ask_everybody_at = self._loop.time() + self._rng.random() * LATE_BY
            self._cause = cause

    @property
    def will_ask_everybody(self) -> bool:
        """Whether a ``resync`` is still to come."""
        return self._ask_everybody_at is not None

    def _ask_everybody(self, cause: str) -> None:
        self._counters.resyncs.add(cause)
        self.asked_everybody_at = self._loop.time()
        # Should nobody be found, again soon, and then ever more rarely.
        pace = self._times.digest_every * min(SLOWER, 2**self._alone_for / 3)
        self._alone_for = min(self._alone_for + 1, 10)
        self._digest_at = 0.0 if self._peers else self.asked_everybody_at + pace * (0.75 + self._rng.random() / 2)
        self._run(lambda document: self._ask(document, to=None))

    async def _ask(self, document: LoadedDocument, to: str | None) -> None:
        mine = await document.digest()
        question = PeerAsk(mine.hash, mine.state_vector)
        if to is None:
            self._sender.publish(Kind.ASK, question)
        else:
            self._sender.say(Kind.ASK, question, to=to)

    # answering

    def hear_ask(self, node: str, ask: PeerAsk) -> None:
        """``node`` asks for what it lacks. Not before ``begin``."""
        waits = node in self._asks
        self._asks[node] = ask
        if not waits:
            self._run(lambda document: self._answer(node, document))

    async def _answer(self, node: str, document: LoadedDocument) -> None:
        ask, sequence = self._asks.pop(node), self._held_through()
        mine = await document.digest()
        same = ask.hash == mine.hash
        update = EMPTY_UPDATE if same else (await document.diff(ask.state_vector)).update
        if len(update) > MAX_CARRIED_BYTES:
            update, sequence = EMPTY_UPDATE, 0  # it fills no hole
        entries = self._room.awareness.owned_here(self._loop.time())
        self._sender.say(Kind.ANSWER, PeerAnswer(sequence, same, update, self._committed(), entries), to=node)
        peer = self._peers.get(node)
        if peer is not None and not same and _lacks(mine, ask.state_vector):
            self.miss(node, peer, "digest")

    def hear_answer(self, node: str, peer: Peer, answer: PeerAnswer) -> None:
        """``node`` answers; its presence is the caller's to take."""
        if answer.same:
            peer.fruitless = 0
            peer.level(answer.sequence)
        else:
            self._run(lambda document: self._integrate(node, answer, document))
        self._perform(self._room.peer_committed(node, answer.through))

    async def _integrate(self, node: str, theirs: PeerAnswer, document: LoadedDocument) -> None:
        answer = await document.integrate_alone(theirs.update)
        peer = self._peers.get(node)
        if answer.merged is None:
            if peer is not None:
                self._note_fruitless(node, peer)
        else:
            self.changed_at = self._loop.time()
            self._digest_at = 0.0  # whoever else may lack it should see
            self._perform(self._room.resynced(answer.merged, self._loop.time()))
        if peer is not None:
            peer.level(theirs.sequence)

    def _note_fruitless(self, node: str, peer: Peer) -> None:
        peer.fruitless += 1
        if peer.fruitless == FRUITLESS_IS_WRONG:
            log.error("replicas_differ", document=self._room.document, node=node)


def _lacks(mine: Digest, theirs: bytes) -> bool:
    known = read_state_vector(mine.state_vector)
    return any(clock > known.get(client, 0) for client, clock in read_state_vector(theirs).items())
